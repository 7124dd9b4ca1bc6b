"""`magpie doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from magpie_local.cli import render
from magpie_local.cli.session import Session, json_option, pass_session, print_json

if TYPE_CHECKING:
    from magpie_local import ForkProof

_EXAMPLES = """\b
Examples:
  magpie doctor
  magpie doctor --json | jq -r '.needs[] | select(.ok | not) | .cure'
  magpie doctor --verify-forks 8

\b
The exit code is 0 when nothing is missing, else 255; 1 when forks are not clean.
"""
_NOT_CLEAN = 1


@click.command(epilog=_EXAMPLES)
@click.option(
    "--verify-forks", "forks", metavar="[N]", is_flag=False, flag_value="4", type=click.IntRange(2, 64),
    help="Then start N forks (4) of one template and prove that they share no secret.",
)  # fmt: skip
@json_option
@click.pass_context
@pass_session
def doctor(session: Session, context: click.Context, forks: int | None, as_json: bool) -> None:
    """Check what this machine needs to run jobs.

    Each need is ok, or followed by its cure.
    """
    from magpie_local.doctor import examine

    needs = examine(session.settings())
    well = all(need.ok for need in needs)
    if not as_json:
        click.echo(render.needs_table(needs))
    proof = _prove(session, forks) if well and forks is not None else None
    if as_json:
        found: dict[str, object] = {"ok": well and (proof is None or proof.ok)}
        found["needs"] = [render.need_json(need) for need in needs]
        print_json(found if forks is None else {**found, "forks": proof and proof.to_json()})
    elif proof is not None:
        click.echo(f"\n{render.proof_table(proof)}")
    if not well:
        context.exit(render.OURS)
    context.exit(0 if proof is None or proof.ok else _NOT_CLEAN)


def _prove(session: Session, forks: int) -> ForkProof:
    session.narrate(f"starting {forks} forks of one template, which is made first where there is none")
    with session.client(lead=True) as client:
        return client.verify_forks(forks)
