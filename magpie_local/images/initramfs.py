"""The initramfs: busybox, the recipe's init, and the kernel modules that it loads."""

from __future__ import annotations

import posixpath
import struct
import tarfile
from typing import TYPE_CHECKING

from magpie_local.errors import ImageBuildFailed
from magpie_local.images import cpio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from magpie_local.images.recipe import Recipe

STEP = "initramfs"

#: How the kernel's scripts/sign-file ends a module: the signature, a struct module_signature, a mark.
_SIGNATURE_MARK = b"~Module signature appended~\n"
_SIGNATURE = struct.Struct(">8xI")

_FOLDERS = (
    "bin", "dev", "devices", "devices/pts", "devices/shm", "etc", "lib", "lib/modules", "lower", "proc", "root",
    "scratch", "sys",
)  # fmt: skip
#: What devtmpfs lacks, besides the two folders; init copies it all to /dev at once.
_DEVICE_LINKS = {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}


def make(recipe: Recipe, *, release: str, modules: Path, busybox: Path) -> bytes:
    """Return an initramfs, not compressed (a kernel in emulation unpacks more slowly than it reads).

    Args:
        release: the kernel's release, the name of the folder in `modules`.
        modules: tar file of lib/modules.
        busybox: the statically linked binary.

    Raises:
        ImageBuildFailed: the kernel has a module neither as a file nor built in.
    """
    base = f"lib/modules/{release}"
    with tarfile.open(modules) as tar:
        needs = read_dependencies(_member(tar, f"{release}/modules.dep").decode())
        builtin = {module_name(line) for line in _member(tar, f"{release}/modules.builtin").decode().splitlines()}
        wanted = _loadable(recipe.modules, needs, builtin)
        paths = load_order(wanted, needs)
        contents = {path: unsigned(_member(tar, f"{release}/{path}")) for path in paths}
    folders = sorted({parent for path in paths for parent in _parents(f"{base}/{path}")} - set(_FOLDERS))
    dependencies = "".join(f"{path}: {' '.join(needs[path])}\n" for path in paths)
    init = (recipe.folder / "initramfs" / "init").read_text().replace("@modules@", " ".join(wanted))
    return cpio.archive([
        *(cpio.folder(path) for path in (*_FOLDERS, *folders)),
        *(cpio.link(f"devices/{name}", f"/proc/self/{target}") for name, target in _DEVICE_LINKS.items()),
        cpio.file("init", init.encode(), executable=True),
        cpio.file("etc/fstab", (recipe.folder / "initramfs" / "fstab").read_bytes()),
        cpio.file("bin/busybox", busybox.read_bytes(), executable=True),
        cpio.file(f"{base}/modules.dep", dependencies.encode()),
        *(cpio.file(f"{base}/{path}", data) for path, data in contents.items()),
    ])  # fmt: skip


def read_dependencies(text: str) -> dict[str, list[str]]:
    """Return what each module's file needs, from modules.dep(5)."""
    lines = (line.partition(":") for line in text.splitlines() if line)
    return {path: needs.split() for path, _, needs in lines}


def load_order(wanted: Sequence[str], needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the files of the wanted modules and of what they need, each after its needs."""
    files = {module_name(path): path for path in needs}
    order: dict[str, None] = {}
    for name in wanted:
        path = files[name]
        # modules.dep names all needs of a module, the deepest last.
        order |= dict.fromkeys((*reversed(needs[path]), path))
    return list(order)


def unsigned(module: bytes) -> bytes:
    """Return a module without the signature at its end, if it has one.

    We have just unpacked it from a package whose signature was checked; a guest in emulation would spend 10 ms a module
    on checking it again. A kernel that is locked down would want it, but no guest of ours is.
    """
    if not module.endswith(_SIGNATURE_MARK):
        return module
    end = len(module) - len(_SIGNATURE_MARK) - _SIGNATURE.size
    (size,) = _SIGNATURE.unpack_from(module, end)
    return module[: end - size]


def module_name(path: str) -> str:
    """Return a module's name as the kernel writes it: without folder and ending, with underscores."""
    return posixpath.basename(path).partition(".ko")[0].replace("-", "_")


def _loadable(wanted: Sequence[str], needs: Mapping[str, Sequence[str]], builtin: set[str]) -> list[str]:
    files = {module_name(path) for path in needs}
    unknown = [name for name in wanted if name not in files and name not in builtin]
    if unknown:
        raise ImageBuildFailed(
            f"{STEP}: the kernel has no module {', '.join(unknown)}",
            hint="Choose another kernel package in the recipe, or take the module out of [initramfs].",
        )
    return [name for name in wanted if name in files]


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    stream = tar.extractfile(name)
    if stream is None:
        raise ImageBuildFailed(f"{STEP}: {name} is no file")
    return stream.read()
