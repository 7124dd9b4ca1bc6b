"""Completion by the shell: the script for it, and the names it asks for."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from magpie_local.cli.session import Session

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

VARIABLE = "_MAGPIE_COMPLETE"

_EXAMPLES = """\b
Examples:
  magpie completion bash > ~/.local/share/bash-completion/completions/magpie
  magpie completion zsh > ~/.zfunc/_magpie
  magpie completion fish > ~/.config/fish/completions/magpie.fish
"""


@click.command(epilog=_EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell's completion script."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:  # click.Choice allows only what click knows
        raise click.UsageError(f"click has no completion for {shell}")
    click.echo(kind(context.find_root().command, {}, "magpie", VARIABLE).source())


def answer(command: click.Command, instruction: str) -> int:
    """Answer a shell's question and return the exit code."""
    from click.shell_completion import shell_complete

    return shell_complete(command, {}, "magpie", VARIABLE, instruction)


def job_ids(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the newest jobs whose id begins with what was typed, with their names."""
    from click.shell_completion import CompletionItem

    with suppress(Exception):  # a shell that waits for TAB has no place for an error
        session = _session(context)
        if not session.settings().home.is_dir():
            return []  # asking must not create a state directory
        with session.client() as client:
            jobs = client.jobs.list(limit=200)
        return [
            CompletionItem(job.id, help=f"{job.name} ({job.status})")
            for job in jobs
            if job.id.startswith(incomplete.lower())
        ]
    return []


def image_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the built images whose name begins with what was typed."""
    from click.shell_completion import CompletionItem

    with suppress(Exception):  # as above
        folder = _session(context).settings().images
        if folder.is_dir():
            names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
            return [CompletionItem(name) for name in names if name.startswith(incomplete) and name[0] != "."]
    return []


def template_keys(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the templates whose key begins with what was typed, with their shapes."""
    from click.shell_completion import CompletionItem

    with suppress(Exception):  # as above
        session = _session(context)
        if not session.settings().home.is_dir():
            return []
        with session.client() as client:
            templates = client.templates.list()
        return [CompletionItem(one.key, help=one.shape) for one in templates if one.key.startswith(incomplete.lower())]
    return []


def workspace_ids(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the workspaces whose id begins with what was typed."""
    from click.shell_completion import CompletionItem

    with suppress(Exception):  # as above
        session = _session(context)
        if not session.settings().home.is_dir():
            return []
        with session.client() as client:
            found = client.workspaces.list()
        return [CompletionItem(one.id, help=f"{one.size_gb} GiB") for one in found if one.id.startswith(incomplete)]
    return []


def _session(context: click.Context) -> Session:
    root = context.find_root()
    return Session(state_dir=root.params.get("state_dir"))
