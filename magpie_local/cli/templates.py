"""`magpie templates`: frozen VMs of which jobs' VMs are forks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from magpie_local.cli import completion, render
from magpie_local.cli.session import Session, json_option, pass_session, print_json
from magpie_local.errors import MagpieError

if TYPE_CHECKING:
    from magpie_local import Magpie


@click.group()
def templates() -> None:
    """List and remove the templates that VMs are forked from.

    `magpie images warm` makes one; else the first job of its size does.
    """


@templates.command("list", epilog="\b\nExample:\n  magpie templates list --json | jq -r '.[].key'\n")
@json_option
@pass_session
def list_templates(session: Session, as_json: bool) -> None:
    """List templates, the most recently used first."""
    with session.client() as client:
        found = client.templates.list()
    if as_json:
        print_json([template.to_json() for template in found])
    elif found:
        click.echo(render.templates_table(found))
    else:
        session.narrate("no templates; the first job of a size makes one, or `magpie images warm base`")


@templates.command(
    epilog="""\b
Examples:
  magpie templates rm 3f2a
  magpie templates rm --all
"""
)
@click.argument("keys", metavar="KEY...", nargs=-1, shell_complete=completion.template_keys)
@click.option("-a", "--all", "everything", is_flag=True, help="Every template.")
@click.pass_context
@pass_session
def rm(session: Session, context: click.Context, keys: tuple[str, ...], everything: bool) -> None:
    """Remove templates.

    Jobs that run go on; the next job of that size boots, and has the template made anew. Prints the keys.
    """
    if bool(keys) == everything:
        raise click.UsageError("Give the KEYs of templates, or --all.")
    with session.client() as client:
        chosen = tuple(template.key for template in client.templates.list()) if everything else keys
        context.exit(_remove(session, client, chosen))


def _remove(session: Session, client: Magpie, keys: tuple[str, ...]) -> int:
    """Remove each, whatever happens to the others; return the first error's exit code, or 0."""
    code = 0
    for key in keys:
        try:
            click.echo(client.templates.remove(key).id)
        except MagpieError as error:
            failed = session.complain(error)
            code = code or failed
    return code
