"""One call of the command: what its global options say, and where its words go."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from magpie_local import Magpie
    from magpie_local.config import Settings
    from magpie_local.errors import MagpieError


@dataclass
class Session:
    """Results go to stdout, narration to stderr."""

    state_dir: Path | None = None
    debug: bool = False
    #: The command was asked for JSON; errors follow suit.
    json: bool = False

    def settings(self) -> Settings:
        """Return the settings of this call."""
        from magpie_local import config

        return config.load(home=self.state_dir)

    @contextmanager
    def client(self, *, lead: bool = False) -> Iterator[Magpie]:
        """Open a client; one that does not lead only reads, or leaves requests for the process that does."""
        settings = self.settings()  # first: what is wrong with them shows at once
        from magpie_local import Magpie

        # A pool would be thrown away when the command ends.
        with Magpie(settings=replace(settings, pool=0), lead=lead) as client:
            yield client

    def narrate(self, text: str) -> None:
        """Tell a person what goes on."""
        styled = click.style(text, dim=True) if colourful() else text
        click.echo(styled, err=True)

    def complain(self, error: MagpieError) -> int:
        """Report an error with its cure, and return its exit code."""
        if self.json:
            facts = {"code": error.code, "message": error.message, "hint": error.hint, "exit": error.exit_code}
            click.echo(json.dumps({"error": facts}), err=True)
            return error.exit_code
        lead = click.style("magpie:", fg="red", bold=True) if colourful() else "magpie:"
        click.echo(f"{lead} {error.message}", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)
        return error.exit_code


def colourful() -> bool:
    """Whether stderr is a terminal whose user did not decline colour (no-color.org)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_json(value: object) -> None:
    """Write one result, indented."""
    click.echo(json.dumps(value, indent=2))


pass_session = click.make_pass_decorator(Session)


def _remember(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    context.ensure_object(Session).json = value
    return value


json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_remember, help="Print JSON (docs/cli.md describes it)."
)
