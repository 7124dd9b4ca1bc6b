"""`--secret KEY`: secrets from anywhere but the command line, which every process of the host can read."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from magpie_local.domain.secret import Secrets
from magpie_local.errors import InvalidInput


def secret_environment(entries: tuple[str, ...]) -> Secrets | None:
    """Return `KEY` and `KEY@FILE` entries as secrets; None where there are none.

    A bare KEY is taken out of our own environment, so that no process that we start has it; where it is not set, the
    terminal is asked.

    Raises:
        InvalidInput: a value was given, a file can't be read, or nobody is there to be asked.
    """
    if not entries:
        return None
    keys = [_key(entry) for entry in entries]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise InvalidInput("--secret", min(twice), "it is named twice")
    return Secrets({key: _value(entry) for key, entry in zip(keys, entries, strict=True)})


def _key(entry: str) -> str:
    key = entry.partition("@")[0]
    if "=" in key:
        name = key.partition("=")[0]
        cure = "a secret on the command line is none: write --secret KEY with KEY exported, or --secret KEY@FILE"
        raise InvalidInput("--secret", f"{name}=***", cure)
    return key


def _value(entry: str) -> str:
    key, at, file = entry.partition("@")
    if at:
        return _content(entry, file)
    if key in os.environ:
        return os.environ.pop(key)
    if not sys.stdin.isatty():
        raise InvalidInput("--secret", key, "not set here, and there is no terminal to ask: export it, or KEY@FILE")
    return str(click.prompt(f"Secret {key}", hide_input=True, err=True))


def _content(entry: str, file: str) -> str:
    """Return a file's text without the line end that editors add."""
    try:
        return Path(file).read_text(encoding="utf-8").removesuffix("\n")
    except OSError as error:
        raise InvalidInput("--secret", entry, f"the file can't be read: {error.strerror}") from None
    except UnicodeDecodeError:  # whose text tells a byte of it
        raise InvalidInput(
            "--secret", entry, "the file is no text in UTF-8; encode it (base64), and decode it there"
        ) from None
