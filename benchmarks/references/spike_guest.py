"""The reference for cold starts: the smallest guest that runs a shell command, booted by QEMU directly.

It is the guest of the design's spike, built by `make_guest.sh` of the shared design material; without that folder
there is no
reference, and the benchmark says so. No libvirt, no store, no agent in Python: what it needs is the floor on this
machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

APPEND = "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off nokaslr tsc=reliable no_timer_check cryptomgr.notests"
_LIMIT = 120.0


def build(script: Path, folder: Path) -> Path:
    """Return the folder of the built guest; a minute when it is not there yet."""
    if not (folder / "initrd.gz").exists():
        subprocess.run(["bash", str(script), str(folder)], check=True, stdout=subprocess.DEVNULL)
    return folder


def start_seconds(guest: Path, memory_mb: int = 512) -> float:
    """Return the seconds from the start of QEMU to the first output line of a command in the guest."""
    with tempfile.TemporaryDirectory(prefix="magpie-bench-") as name:
        folder = Path(name)
        began = time.monotonic()
        qemu = subprocess.Popen(_command(guest, folder, memory_mb), stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            _wait_for(folder / "log", b"AGENT READY")
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as job:
                job.connect(str(folder / "job"))
                job.sendall(b"echo hello from $(uname -r)\n")
            _wait_for(folder / "log", b"hello from")
            return time.monotonic() - began
        finally:
            os.kill(qemu.pid, signal.SIGKILL)
            qemu.wait()


def _command(guest: Path, folder: Path, memory_mb: int) -> list[str]:
    return [
        "qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-cpu", "max", "-m", str(memory_mb), "-nodefaults",
        "-display", "none", "-kernel", str(guest / "vmlinuz"), "-initrd", str(guest / "initrd.gz"),
        "-append", APPEND,
        "-drive", f"file={guest / 'root.erofs'},format=raw,if=virtio,readonly=on",
        "-serial", f"file:{folder / 'serial'}", "-device", "virtio-serial-pci",
        "-chardev", f"file,id=log,path={folder / 'log'}", "-device", "virtconsole,chardev=log",
        "-chardev", f"socket,id=job,path={folder / 'job'},server=on,wait=off", "-device", "virtconsole,chardev=job",
    ]  # fmt: skip


def _wait_for(path: Path, text: bytes) -> None:
    end = time.monotonic() + _LIMIT
    while time.monotonic() < end:
        if path.exists() and text in path.read_bytes():
            return
        time.sleep(0.003)
    raise TimeoutError(f"{path} never held {text!r}")
