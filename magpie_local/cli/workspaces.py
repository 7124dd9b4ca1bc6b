"""`magpie workspaces`: disks that outlive jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from magpie_local.cli import completion, render_workspaces
from magpie_local.cli.quantities import Size
from magpie_local.cli.session import Session, json_option, pass_session, print_json
from magpie_local.domain.sizes import GIB
from magpie_local.errors import MagpieError

if TYPE_CHECKING:
    from magpie_local.api.workspace_info import WorkspaceInfo

workspace_argument = click.argument("workspace", metavar="ID", shell_complete=completion.workspace_ids)
_SIZE = Size(unit=GIB)


@click.group()
def workspaces() -> None:
    """List, keep, copy and remove workspaces, the disks at /workspace.

    The first job that names one makes it. What changes one is refused while a job has it.
    """


@workspaces.command("list", epilog="\b\nExample:\n  magpie workspaces list --json | jq -r '.[].id'\n")
@json_option
@pass_session
def list_workspaces(session: Session, as_json: bool) -> None:
    """List workspaces, the most recently used first."""
    with session.client() as client:
        found = client.workspaces.list()
    if as_json:
        print_json([one.to_json() for one in found])
    elif found:
        click.echo(render_workspaces.workspaces_table(found))
    else:
        session.narrate("no workspaces; the first job that names one makes it, or `magpie workspaces create ID`")


@workspaces.command(epilog="\b\nExample:\n  magpie workspaces show my-project --json | jq .used\n")
@workspace_argument
@json_option
@pass_session
def show(session: Session, workspace: str, as_json: bool) -> None:
    """Print everything known of a workspace."""
    with session.client() as client:
        found = client.workspaces.get(workspace)
    _print(found, as_json)


@workspaces.command(
    epilog="""\b
Examples:
  magpie workspaces create my-project --size 20GB
  magpie workspaces create experiment --base my-project
"""
)
@click.argument("workspace", metavar="ID")
@click.option("--size", type=_SIZE, help="As 20GB; a bare number is GB. [default: 10GB, or that of the base]")
@click.option("--base", shell_complete=completion.workspace_ids, help="Begin with what this workspace holds now.")
@pass_session
def create(session: Session, workspace: str, size: int | None, base: str | None) -> None:
    """Make a workspace. Prints its id."""
    with session.client() as client:
        click.echo(client.workspaces.create(workspace, None if size is None else in_gib(size), base).id)


@workspaces.command(epilog="\b\nExample:\n  magpie workspaces delete my-project\n")
@click.argument("chosen", metavar="ID...", nargs=-1, required=True, shell_complete=completion.workspace_ids)
@click.pass_context
@pass_session
def delete(session: Session, context: click.Context, chosen: tuple[str, ...]) -> None:
    """Remove workspaces with all that they hold, snapshots too. Prints their ids."""
    code = 0
    with session.client() as client:
        for one in chosen:
            try:
                click.echo(client.workspaces.delete(one).id)
            except MagpieError as error:
                failed = session.complain(error)
                code = code or failed
    context.exit(code)


@workspaces.command(epilog="\b\nExample:\n  magpie workspaces resize my-project 40GB\n")
@workspace_argument
@click.argument("size", type=_SIZE)
@pass_session
def resize(session: Session, workspace: str, size: int) -> None:
    """Grow a workspace; its file system grows when the next job mounts it. Prints its size in GiB."""
    with session.client() as client:
        click.echo(client.workspaces.resize(workspace, in_gib(size)).size_gb)


@workspaces.command(epilog="\b\nExample:\n  magpie workspaces snapshot my-project before-upgrade\n")
@workspace_argument
@click.argument("name")
@pass_session
def snapshot(session: Session, workspace: str, name: str) -> None:
    """Keep what a workspace holds now under a NAME. Prints the name."""
    with session.client() as client:
        click.echo(client.workspaces.snapshot(workspace, name).name)


@workspaces.command(epilog="\b\nExample:\n  magpie workspaces snapshots my-project --json | jq -r '.[].name'\n")
@workspace_argument
@json_option
@pass_session
def snapshots(session: Session, workspace: str, as_json: bool) -> None:
    """List a workspace's snapshots, the oldest first."""
    with session.client() as client:
        found = client.workspaces.snapshots(workspace)
    if as_json:
        print_json([one.to_json() for one in found])
    elif found:
        click.echo(render_workspaces.snapshots_table(found))
    else:
        session.narrate(f"no snapshots; `magpie workspaces snapshot {workspace} NAME` makes one")


@workspaces.command(epilog="\b\nExample:\n  magpie workspaces rollback my-project before-upgrade\n")
@workspace_argument
@click.argument("name")
@pass_session
def rollback(session: Session, workspace: str, name: str) -> None:
    """Make a workspace hold again what the snapshot NAME kept.

    What it holds now is lost, unless a snapshot keeps it. Prints the name.
    """
    with session.client() as client:
        client.workspaces.rollback(workspace, name)
    click.echo(name)


@workspaces.command("remove-snapshot", epilog="\b\nExample:\n  magpie workspaces remove-snapshot my-project old\n")
@workspace_argument
@click.argument("name")
@pass_session
def remove_snapshot(session: Session, workspace: str, name: str) -> None:
    """Forget the snapshot NAME; what the workspace holds now stays. Prints the name."""
    with session.client() as client:
        client.workspaces.remove_snapshot(workspace, name)
    click.echo(name)


@workspaces.command(epilog="\b\nExample:\n  magpie workspaces clone my-project experiment\n")
@workspace_argument
@click.argument("new", metavar="NEW_ID")
@pass_session
def clone(session: Session, workspace: str, new: str) -> None:
    """Make a workspace with what this one holds now; nothing is copied. Prints the new id."""
    with session.client() as client:
        click.echo(client.workspaces.clone(workspace, new).id)


@workspaces.command(
    epilog="""\b
Examples:
  magpie workspaces export my-project my-project.qcow2
  magpie workspaces export my-project small.qcow2 --compress
"""
)
@workspace_argument
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--compress", is_flag=True, help="Smaller, and slower to write.")
@pass_session
def export(session: Session, workspace: str, file: str, compress: bool) -> None:
    """Write what a workspace holds to one new FILE. Prints its path."""
    with session.client() as client:
        click.echo(client.workspaces.export(workspace, file, compress=compress))


@workspaces.command(
    "import",
    epilog="""\b
Examples:
  magpie workspaces import my-project.qcow2 my-project
""",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.argument("workspace", metavar="NEW_ID")
@pass_session
def import_(session: Session, file: str, workspace: str) -> None:
    """Make a workspace of a FILE: one that `export` wrote, or any qcow2 that holds an ext4. Prints its id."""
    with session.client() as client:
        click.echo(client.workspaces.import_file(file, workspace).id)


def in_gib(size: int) -> int:
    """Return a size in whole GiB, rounded up."""
    return -(-size // GIB)


def _print(found: WorkspaceInfo, as_json: bool) -> None:
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(render_workspaces.workspace_details(found))
