"""`magpie doctor`."""

from __future__ import annotations

import click

from magpie_local.cli import render
from magpie_local.cli.session import Session, json_option, pass_session, print_json

_EXAMPLES = """\b
Examples:
  magpie doctor
  magpie doctor --json | jq -r '.needs[] | select(.ok | not) | .cure'

\b
The exit code is 0 when nothing is missing, else 255.
"""


@click.command(epilog=_EXAMPLES)
@json_option
@click.pass_context
@pass_session
def doctor(session: Session, context: click.Context, as_json: bool) -> None:
    """Check what this machine needs to run jobs.

    Each need is ok, or followed by its cure.
    """
    from magpie_local.api.doctor import examine

    needs = examine(session.settings())
    well = all(need.ok for need in needs)
    if as_json:
        print_json({"ok": well, "needs": [render.need_json(need) for need in needs]})
    else:
        click.echo(render.needs_table(needs))
    context.exit(0 if well else render.OURS)
