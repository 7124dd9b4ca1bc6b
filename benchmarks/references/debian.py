"""A Debian system as a cloud's users know it: systemd, and cloud-init that runs a command at first boot."""

from __future__ import annotations

import os
import platform
import time
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.references import archive
from benchmarks.references.machine import emulator, guest_files
from benchmarks.references.processes import require, run, running, wait_for_line

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.references.machine import GuestFiles

_LINE = "hello from cloud-init"
_LIMIT = 600.0
_PACKAGES = "linux-image-cloud-{architecture},systemd-sysv,udev,dbus,cloud-init"
#: Written where the host's /proc and /dev, mounted into the root meanwhile, are not seen; $1 is the root.
_MAKE_DISK = (
    'mkdir "$1.view" && mount -o bind "$1" "$1.view" && mke2fs -q -t ext4 -d "$1.view" "$1.disk" 3G; status=$?; '
    'umount "$1.view"; rmdir "$1.view"; mv "$1.disk" "$1/disk" || status=1; exit $status'
)
_USER_DATA = f"""#cloud-config
runcmd:
  - [sh, -c, "echo {_LINE} >/dev/console"]
"""


class DebianCloudInit:
    """Boots a Debian disk for the first time, with a seed that says what to run.

    The kernel is handed to QEMU directly, which spares it the boot loader; there is no network to wait for.

    Args:
        cache: keeps the disk.
    """

    name = "reference: Debian, systemd, cloud-init"

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "debian"

    def prepare(self) -> None:
        """Make the disk, about two minutes, and the seed, once."""
        require("mmdebstrap", "mke2fs", "qemu-img", "setpriv")
        emulator(platform.machine())
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (self._folder / "made").exists():
            print("references: making a Debian disk with systemd and cloud-init")
            self._make()
            (self._folder / "made").touch()
        seed = self._folder / "seed"
        seed.mkdir(exist_ok=True)
        (seed / "user-data").write_text(_USER_DATA)
        (seed / "meta-data").write_text("instance-id: reference\nlocal-hostname: reference\n")

    def start_seconds(self) -> float:
        """Return the seconds from the start of QEMU to the line that cloud-init's command writes to the console."""
        with guest_files(self._folder / "disk.qcow2") as files:
            began = time.monotonic()
            with running(*self._command(files), cwd=files.folder) as process:
                wait_for_line(process, files.folder / "console", _LINE, _LIMIT)
                return time.monotonic() - began

    def _command(self, files: GuestFiles) -> list[str]:
        machine, console = ("q35", "ttyS0") if platform.machine() == "x86_64" else ("virt", "ttyAMA0")
        # QEMU itself shows the folder as a FAT disk by the name that cloud-init looks for.
        seed = {"driver": "vvfat", "dir": str(self._folder / "seed"), "label": "cidata", "fat-type": "16"}
        return [
            emulator(platform.machine()), "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
            "-machine", machine, "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "512",
            "-kernel", str(self._folder / "vmlinuz"), "-initrd", str(self._folder / "initrd.img"),
            "-append", f"root=/dev/vda rw console={console}",
            "-drive", f"if=virtio,format=qcow2,file={files.scratch}",
            "-drive", ",".join(["if=virtio,readonly=on", *(f"{key}={value}" for key, value in seed.items())]),
            "-serial", f"file:{files.folder / 'console'}",
        ]  # fmt: skip

    def _make(self) -> None:
        codename = archive.codename()
        packages = _PACKAGES.format(architecture=archive.architecture(self._folder))
        with TemporaryDirectory(prefix="mgpdebian.", dir="/var/tmp", ignore_cleanup_errors=True) as name:
            # An ordinary user's mmdebstrap works as other users, who must get through.
            os.chmod(name, 0o1777)
            archives, settings = archive.write_sources(self._folder)
            try:
                run(
                    "mmdebstrap", "--quiet", "--variant=important", "--format=null", f"--include={packages}",
                    f"--setup-hook=upload {settings.name} /etc/apt/apt.conf.d/98magpie-reference",
                    f"--customize-hook={_MAKE_DISK}",
                    f"--customize-hook=download /disk {name}/raw",
                    "--customize-hook=download /vmlinuz vmlinuz",
                    "--customize-hook=download /initrd.img initrd.img",
                    codename, "-", archives.name,
                    cwd=self._folder, limit=1800.0, env={"TMPDIR": name},
                )  # fmt: skip
            finally:
                archives.unlink()
                settings.unlink()
            disk = self._folder / "disk.qcow2"
            run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", f"{name}/raw", str(disk), cwd=self._folder)
