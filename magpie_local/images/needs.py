"""What a build needs of this machine, for `magpie doctor`."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_local.domain.need import Need
from magpie_local.errors import ImageBroken, ImageNotFound
from magpie_local.images import tools

if TYPE_CHECKING:
    from magpie_local.images.catalogue import ImageCatalogue

_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")
#: Debian's switch that closes user namespaces to ordinary users (Ubuntu's, of AppArmor, lets mmdebstrap pass).
_SWITCH = Path("/proc/sys/kernel/unprivileged_userns_clone")


def needs() -> list[Need]:
    """Return what building images needs: the tools, and user namespaces for an ordinary user."""
    found = [_tool(tool, package) for tool, package in tools.PACKAGES.items()]
    return found if os.geteuid() == 0 else [*found, *_user_namespace()]


async def image_need(catalogue: ImageCatalogue, name: str = "base") -> Need:
    """Return whether an image is there, with every file as its manifest says."""
    try:
        image = await catalogue.resolve(name)
    except (ImageNotFound, ImageBroken) as error:
        return Need(name=f"image {name}", ok=False, detail=error.message, cure=error.hint)
    return Need(name=f"image {name}", ok=True, detail=f"version {image.version}", cure=None)


def _tool(tool: str, package: str) -> Need:
    path = tools.find(tool)
    if path is None:
        return Need(name=tool, ok=False, detail="not installed", cure=tools.install_command(package))
    return Need(name=tool, ok=True, detail=path, cure=None)


def _user_namespace() -> list[Need]:
    return [_tool("newuidmap", "uidmap"), _ids("/etc/subuid"), _ids("/etc/subgid"), _kernel_allows()]


def _ids(path: str) -> Need:
    """Say whether the user has a range of ids of its own (subuid(5))."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        lines = []
    user = _user_name()
    ok = any(line.split(":")[0] in (user, str(os.geteuid())) for line in lines)
    option = "--add-subuids" if path.endswith("subuid") else "--add-subgids"
    return Need(
        name=path,
        ok=ok,
        detail="a range of ids" if ok else f"no range of ids for {user}",
        cure=None if ok else f"sudo usermod {option} 100000-165535 {user}",
    )


def _kernel_allows() -> Need:
    for path, open_value in ((_SWITCH, "1"), (_NAMESPACES, "10000")):
        if _value(path) == "0":
            setting = ".".join(path.parts[-2:])
            return Need(
                name="user namespaces", ok=False, detail=f"{setting} is 0",
                cure=f"sudo sysctl {setting}={open_value}, or build as root",
            )  # fmt: skip
    return Need(name="user namespaces", ok=True, detail="open to ordinary users", cure=None)


def _value(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
