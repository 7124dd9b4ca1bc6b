"""`magpie networks`: private networks between VMs."""

from __future__ import annotations

import click

from magpie_local.cli import render
from magpie_local.cli.session import Session, json_option, pass_session, print_json


@click.group()
def networks() -> None:
    """List, create and remove private networks between VMs.

    VMs on one network reach each other, by address and by their jobs' names, and nothing else.
    """


@networks.command("list", epilog="\b\nExample:\n  magpie networks list --json | jq -r '.[].name'\n")
@json_option
@pass_session
def list_networks(session: Session, as_json: bool) -> None:
    """List networks, by name."""
    with session.client() as client:
        found = client.networks.list()
    if as_json:
        print_json([one.to_json() for one in found])
    elif found:
        click.echo(render.table(("NAME", "CIDR", "JOBS"), [(one.name, one.cidr, str(one.jobs)) for one in found]))
    else:
        session.narrate("no networks; `magpie networks create NAME CIDR` makes one")


@networks.command(
    epilog="""\b
Example:
  magpie networks create backend 10.20.0.0/24
  magpie run --network backend --persistent --name db db.sh
"""
)
@click.argument("name")
@click.argument("cidr")
@pass_session
def create(session: Session, name: str, cidr: str) -> None:
    """Make a network. Prints its name."""
    with session.client() as client:
        click.echo(client.networks.create(name, cidr).name)


@networks.command(epilog="\b\nExample:\n  magpie networks remove backend\n")
@click.argument("name")
@pass_session
def remove(session: Session, name: str) -> None:
    """Remove a network that no job is on. Prints its name."""
    with session.client() as client:
        click.echo(client.networks.remove(name).id)
