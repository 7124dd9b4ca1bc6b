"""virtme-ng without KVM: runs a command under another kernel, with the host's own files as its root."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.references import archive
from benchmarks.references.processes import require, run, running, wait_for_line

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "1.42"

_LINE = "hello from virtme-ng"
_LIMIT = 300.0
#: Where the host has no udev, a command's output only gets to the console, which is thrown away unless vng is verbose;
#: the kernel stays as silent as it is otherwise.
_CONSOLE = ("--verbose", "--append", "quiet", "--append", "loglevel=0")


class Virtme:
    """Runs one command through `vng`.

    Debian's generic kernel has 9p as a module; vng finds it beside the kernel and puts it into an initramfs at each
    start. It needs busybox and depmod for that, and no virtiofsd, as 9p is asked for.

    Args:
        cache: keeps the program and the kernel.
    """

    name = f"reference: virtme-ng {VERSION}, no KVM"

    def __init__(self, cache: Path) -> None:
        self._folder = cache / f"virtme-{VERSION}"

    def prepare(self) -> None:
        """Install the program into a virtual environment and unpack a kernel, once."""
        require("busybox", "depmod", "dpkg-deb", "apt-get", "setpriv")
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (self._folder / "installed").exists():
            print(f"references: installing virtme-ng {VERSION}")
            self._install()
        if not (self._folder / "unpacked").exists():
            print("references: downloading and unpacking the distribution's kernel")
            self._unpack()

    def start_seconds(self) -> float:
        """Return the seconds from the start of `vng` to the command's line."""
        (kernel,) = (self._folder / "kernel" / "boot").glob("vmlinuz-*")
        with TemporaryDirectory(prefix="magpie-reference-") as name:
            output = Path(name) / "output"
            with output.open("wb") as sink:
                began = time.monotonic()
                with running(*self._command(kernel), cwd=Path(name), env=self._env(), output=sink.fileno()) as process:
                    wait_for_line(process, output, _LINE, _LIMIT)
                    return time.monotonic() - began

    def _command(self, kernel: Path) -> list[str]:
        return [
            str(self._folder / "venv" / "bin" / "vng"), "--disable-kvm", "--force-9p", "--run", str(kernel),
            "--memory", "512M", "--cpus", "1", *_CONSOLE, "--exec", f"echo {_LINE}",
        ]  # fmt: skip

    def _env(self) -> Mapping[str, str]:
        """Let vng find its own parts, and keep what it caches with us."""
        path = f"{self._folder / 'venv' / 'bin'}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
        return {**os.environ, "PATH": path, "HOME": str(self._folder), "XDG_CACHE_HOME": str(self._folder / "home")}

    def _install(self) -> None:
        venv = self._folder / "venv"
        run(sys.executable, "-m", "venv", "--clear", str(venv), cwd=self._folder)
        pip = (str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check")
        run(*pip, "install", "--quiet", f"virtme-ng=={VERSION}", cwd=self._folder)
        (self._folder / "installed").touch()

    def _unpack(self) -> None:
        archive.codename()
        package = f"linux-image-{archive.architecture(self._folder)}"
        with TemporaryDirectory(prefix="kernel.", dir=self._folder) as name:
            file = archive.fetch_dependency(package, Path(name))
            run("dpkg-deb", "--extract", str(file), str(self._folder / "kernel"), cwd=self._folder)
        for modules in (self._folder / "kernel" / "lib" / "modules").iterdir():
            run("depmod", "-b", str(self._folder / "kernel"), modules.name, cwd=self._folder)
        (self._folder / "unpacked").touch()
