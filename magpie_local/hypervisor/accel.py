"""Which accelerator works here. KVM counts only where a guest has really booted with it (F111).

`/dev/kvm` can be there, open, report its API and make a VM, and still never run a guest: QEMU then hangs without a
word, or aborts. Met in practice on cloud machines. So a small guest (the image's kernel and initramfs with
`magpie.probe`) is booted once under a time limit, and the verdict is remembered for this QEMU, kernel, CPU and image.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from magpie_local.domain.vm import Accelerator
from magpie_local.errors import HypervisorUnavailable, ImageBroken, ImageNotFound
from magpie_local.hypervisor.domain_xml import machine_of
from magpie_local.hypervisor.files import write_private

if TYPE_CHECKING:
    from magpie_local.domain.vm import BootImage
    from magpie_local.ports.images import Images

DEVICE = Path("/dev/kvm")
#: What the guest's init prints when it sees `magpie.probe`.
MARKER = b"MAGPIE-PROBE-OK"
#: Seconds. With a KVM that works the guest is there in less than one.
PROBE_LIMIT = 10.0
PROBE_IMAGE = "base"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An accelerator, and one sentence why."""

    accelerator: Accelerator
    reason: str


async def choose(wish: str, emulator: str, images: Images, cache: Path, *, device: Path = DEVICE) -> Verdict:
    """Return the accelerator to use.

    Args:
        wish: auto, kvm or tcg.
        emulator: QEMU's path.
        images: where the probe's guest comes from.
        cache: where verdicts are remembered.
        device: the kernel's door to KVM.

    Raises:
        HypervisorUnavailable: kvm was demanded, and does not work.
    """
    if wish == Accelerator.TCG:
        return Verdict(Accelerator.TCG, "pure emulation was asked for (accelerator = tcg)")
    verdict = await examine(emulator, images, cache, device=device)
    if wish == Accelerator.KVM and verdict.accelerator is not Accelerator.KVM:
        raise HypervisorUnavailable(
            f"KVM was demanded and does not work: {verdict.reason}.",
            hint="Let accelerator be `auto` to run in pure emulation.",
        )
    return verdict


async def examine(emulator: str, images: Images, cache: Path, *, device: Path = DEVICE) -> Verdict:
    """Return whether KVM works: by a look at the device, a remembered verdict, or a probe."""
    if not await asyncio.to_thread(device.exists):
        return _tcg(f"there is no {device} (no hardware virtualization, or its module is not loaded)")
    if not os.access(device, os.R_OK | os.W_OK):
        return _tcg(f"{device} may not be opened by this user (`sudo usermod -aG kvm $USER`, then log in again)")
    try:
        image = await images.resolve(PROBE_IMAGE)
    except (ImageNotFound, ImageBroken):
        return _tcg(f"KVM is not proven: the image {PROBE_IMAGE!r} is not built, or by another version")
    memory = cache / f"kvm-{await asyncio.to_thread(_key, emulator, image)}.json"
    verdict = _remembered(memory)
    if verdict is None:
        verdict = await probe(emulator, image)
        _remember(memory, verdict)
    return verdict


async def probe(emulator: str, image: BootImage, limit: float = PROBE_LIMIT) -> Verdict:
    """Boot a guest with KVM, and return whether it came up within `limit` seconds."""
    process = await asyncio.create_subprocess_exec(
        emulator, "-accel", "kvm", "-cpu", "host", "-M", machine_of(image.architecture).type, "-m", "256",
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", f"{image.cmdline} magpie.probe",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    said = bytearray()
    try:
        async with asyncio.timeout(limit):
            assert process.stdout is not None
            while MARKER not in said and (piece := await process.stdout.read(4096)):
                said += piece
            if MARKER not in said:
                await process.wait()
    except TimeoutError:
        return _tcg(f"{DEVICE} is there, but a guest did not come up within {limit:.0f} s")
    finally:
        # Not where it has ended: to signal would race with asyncio for its status.
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if MARKER in said:
        return Verdict(Accelerator.KVM, "a probe guest booted with KVM")
    return _tcg(f"{DEVICE} is there, but QEMU ended without running a guest (status {process.returncode})")


def _tcg(reason: str) -> Verdict:
    return Verdict(Accelerator.TCG, reason)


def _key(emulator: str, image: BootImage) -> str:
    """Return a digest of all that a verdict depends on. A binary's size and time stand for its version."""
    binary = Path(emulator).resolve().stat()
    facts = (emulator, binary.st_size, binary.st_mtime_ns, platform.release(), _cpu_model(), image.version)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "CPU part")):
                return line
    return platform.machine()


def _remembered(path: Path) -> Verdict | None:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return Verdict(Accelerator(known["accelerator"]), str(known["reason"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(path: Path, verdict: Verdict) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, json.dumps({"accelerator": verdict.accelerator, "reason": verdict.reason}))
