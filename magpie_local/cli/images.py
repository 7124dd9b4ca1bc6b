"""`magpie images`: what VMs boot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from magpie_local.cli import completion, render
from magpie_local.cli.quantities import DURATION, MEMORY, in_mib
from magpie_local.cli.session import Session, json_option, pass_session, print_json

if TYPE_CHECKING:
    from magpie_local.images.catalogue import ImageCatalogue

image_argument = click.argument("name", shell_complete=completion.image_names)


@click.group()
def images() -> None:
    """Build, list and remove the images that VMs boot."""


@images.command("list", epilog="\b\nExample:\n  magpie images list --json | jq -r '.[].name'\n")
@json_option
@pass_session
def list_images(session: Session, as_json: bool) -> None:
    """List built images."""
    found = [image.to_json() for image in _catalogue(session).list()]
    if as_json:
        print_json(found)
    elif found:
        click.echo(render.images_table(found))
    else:
        session.narrate("no images; build one with `magpie images build base`")


@images.command(epilog="\b\nExample:\n  magpie images show base --json | jq .version\n")
@image_argument
@json_option
@pass_session
def show(session: Session, name: str, as_json: bool) -> None:
    """Print an image's manifest: version, contents, checksums."""
    image = _catalogue(session).show(name).to_json()
    if as_json:
        print_json(image)
    else:
        click.echo(render.image_details(image))


@images.command(
    epilog="""\b
Examples:
  magpie images build base             nothing to do when it is built already
  magpie images build base --force
"""
)
@image_argument
@click.option("--force", is_flag=True, help="Build although nothing changed.")
@click.option("-q", "--quiet", is_flag=True, help="No narration on stderr.")
@json_option
@pass_session
def build(session: Session, *, name: str, force: bool, quiet: bool, as_json: bool) -> None:
    """Build an image from its recipe.

    Packages come from the distribution's archive. Prints the image's version; nothing is done when it is built already.
    """
    import asyncio

    from magpie_local.images.builder import build as build_image

    def progress(step: str) -> None:
        if not quiet:
            session.narrate(step)

    image = asyncio.run(build_image(name, session.settings().images, force=force, progress=progress)).to_json()
    if as_json:
        print_json(image)
    else:
        click.echo(f"{image['name']} {image['version']}")


@images.command(
    epilog="""\b
Examples:
  magpie images warm base                       so that the first job need not boot either
  magpie images warm base --vcpus 2 --memory 2GB
"""
)
@image_argument
@click.option("--vcpus", type=int, default=1, show_default=True, help="Virtual CPUs of the jobs to come.")
@click.option("--memory", type=MEMORY, default="512MB", show_default=True, help="Their memory; a bare number is MB.")
@click.option("--timeout", type=DURATION, help="Longest time to wait, as 90s or 5m; the work goes on after it.")
@click.option("-q", "--quiet", is_flag=True, help="No narration on stderr.")
@json_option
@pass_session
def warm(
    session: Session, *, name: str, vcpus: int, memory: int, timeout: float | None, quiet: bool, as_json: bool
) -> None:
    """Make a template for jobs of one size.

    A job whose VM is a fork of a template need not boot. Prints the template; nothing is done when it is there.
    """
    with session.client(lead=True) as client:
        if not quiet:
            session.narrate(
                f"a template of {name}, {vcpus} vCPUs, {in_mib(memory)} MiB: boots a VM where there is none"
            )
        template = client.templates.warm(name, vcpus, in_mib(memory), timeout)
    if as_json:
        print_json(template.to_json())
    else:
        click.echo(render.template_line(template))


@images.command(epilog="\b\nExample:\n  magpie images rm base\n")
@image_argument
@pass_session
def rm(session: Session, name: str) -> None:
    """Delete an image.

    Jobs that run go on; jobs that wait for it fail when they start.
    """
    _catalogue(session).remove(name)
    click.echo(name)


def _catalogue(session: Session) -> ImageCatalogue:
    from magpie_local.images.catalogue import ImageCatalogue

    return ImageCatalogue(session.settings().images)
