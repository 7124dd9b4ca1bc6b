"""`magpie config`: what is set, and who set it."""

from __future__ import annotations

from pathlib import Path

import click

from magpie_local.cli import render
from magpie_local.cli.session import Session, json_option, pass_session, print_json
from magpie_local.domain.pooling import write_shapes


@click.group()
def config() -> None:
    """Show the settings and where they come from."""


@config.command(
    epilog="""\b
Examples:
  magpie config show --origin
  MAGPIE_CPUS=8 magpie config show --json
"""
)
@click.option("--origin", is_flag=True, help="Name what set each value.")
@json_option
@pass_session
def show(session: Session, origin: bool, as_json: bool) -> None:
    """Print every setting."""
    from magpie_local.config import misspelt

    settings = session.settings()
    values = {name: _plain(value) for name, value in settings.values().items()}
    if as_json:
        print_json({name: {"value": value, "origin": settings.origins[name]} for name, value in values.items()})
    else:
        click.echo(render.settings_table(values, settings.origins if origin else None))
    for name, near in misspelt().items():
        session.narrate(f"{name} is set, but nothing reads it; did you mean {near}?")


@config.command(epilog='\b\nExample:\n  ${EDITOR:-vi} "$(magpie config path)"\n')
def path() -> None:
    """Print the path of the configuration file, which need not exist."""
    from magpie_local.config import config_file

    click.echo(config_file())


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return write_shapes(value)
    return str(value) if isinstance(value, Path) else value
