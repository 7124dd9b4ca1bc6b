"""The Networks port: gates for the default network, switches for private ones, and QEMU's monitor to connect them.

FOLDER/               0700
  u/VM                the socket of one VM's gate
  n/DIGEST/s, lock    the socket of a private network's switch, and the lock that it holds as long as it lives
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import time
from typing import TYPE_CHECKING, Protocol

from magpie_local.errors import HostError, NetworkUnavailable
from magpie_local.hypervisor.net.addresses import families_with_a_way_out
from magpie_local.hypervisor.net.bridge import PING
from magpie_local.hypervisor.net.frames import HEADER
from magpie_local.hypervisor.net.start import StartError, listen, start
from magpie_local.hypervisor.net.uplink import Inside, guest_config, passt_path, start_gate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from magpie_local.domain.ids import VmId
    from magpie_local.domain.network import GuestConfig
    from magpie_local.hypervisor.net.host_access import HostAccess

#: Seconds within which a switch must be there: one that is about to end makes way first.
_SWITCH_BUDGET = 15.0
_NOTHING = Inside()
_PING = len(PING).to_bytes(HEADER) + PING


class Linker(Protocol):
    """What connects a running VM's card with a socket (the host's verbs of these names)."""

    async def linked(self, vm_id: VmId) -> str | None:
        """Return the socket that the card is connected to; None where it is to nothing, or no more."""
        ...

    async def link(self, vm_id: VmId, path: str) -> None:
        """Connect the card to a socket in QEMU's stream format, and to nothing else."""
        ...

    async def unlink(self, vm_id: VmId) -> None:
        """Connect the card to nothing; twice is as good as once."""
        ...


class VmNetworks:
    """Networks of one state directory.

    Args:
        folder: for the sockets; short, since their paths are limited to 107 bytes, and of nobody else's.
        linker: the hypervisor that runs the VMs.
        inside: what of the inside VMs on the default network may reach.
        access: what their guests need to get out; a private network is told nothing of it.
    """

    def __init__(
        self, folder: Path, linker: Linker, inside: Inside = _NOTHING, access: HostAccess | None = None
    ) -> None:
        self._folder = folder
        self._linker = linker
        self._inside = inside
        self._access = access
        #: The private network of each attached VM; None is the default one.
        self._attached: dict[VmId, str | None] = {}
        #: Held while a switch is looked for, and while leftovers of switches are removed.
        self._switching = asyncio.Lock()

    async def expect_default(self) -> GuestConfig:
        """Return what `attach_default` would at this moment.

        Raises:
            NetworkUnavailable.
        """
        return guest_config(await asyncio.to_thread(_usable_families), self._access)

    async def attach_default(self, vm_id: VmId) -> GuestConfig:
        """Connect a VM with the internet, and return what its guest must be told.

        Raises:
            NetworkUnavailable, HostError.
        """
        families = await asyncio.to_thread(families_with_a_way_out)
        if families:
            await self._link_default(vm_id, families)
            self._attached[vm_id] = None
        else:
            await self.detach(vm_id)
        return guest_config(families, self._access)

    async def attach_private(self, vm_id: VmId, network: str) -> None:
        """Connect a VM with all others that are attached to `network`.

        Raises:
            NetworkUnavailable, HostError.
        """
        await self._link_private(vm_id, network)
        self._attached[vm_id] = network

    async def detach(self, vm_id: VmId) -> None:
        """Connect a running VM to nothing.

        Raises:
            HostError: there is no such VM.
        """
        await self._linker.unlink(vm_id)
        await self.forget(vm_id)

    async def forget(self, vm_id: VmId) -> None:
        """Remove what is left of a VM that has gone: its gate ends with it."""
        self._attached.pop(vm_id, None)
        await asyncio.to_thread(self._gate_socket(vm_id).unlink, missing_ok=True)

    async def mend(self) -> Sequence[VmId]:
        """Attach again what was attached and is connected to nothing; return those VMs."""
        mended = []
        for vm_id, network in list(self._attached.items()):
            # It may have gone meanwhile, or what it takes is missing now.
            with contextlib.suppress(HostError):
                if await self._linker.linked(vm_id) is None:
                    await (self.attach_default(vm_id) if network is None else self.attach_private(vm_id, network))
                    mended.append(vm_id)
        return mended

    async def sweep(self, alive: Collection[VmId]) -> None:
        """Remove the sockets of VMs that are not `alive`, and the folders of networks without a switch."""
        async with self._switching:
            await asyncio.to_thread(self._sweep, {_short(vm_id) for vm_id in alive})

    async def _link_default(self, vm_id: VmId, families: str) -> None:
        path = self._gate_socket(vm_id)
        if await self._linker.linked(vm_id) == str(path):
            return
        await asyncio.to_thread(_make_private, path.parent)
        await asyncio.to_thread(start_gate, path, families, self._inside)
        await self._linker.link(vm_id, str(path))

    async def _link_private(self, vm_id: VmId, network: str) -> None:
        folder = self._network_folder(network)
        path = folder / "s"
        if await self._linker.linked(vm_id) == str(path):
            return
        async with self._switching:
            guard = await asyncio.to_thread(_hold_switch, folder, network)
        # While we are connected, the switch does not end between our look and QEMU's connection.
        with guard:
            await self._linker.link(vm_id, str(path))

    def _gate_socket(self, vm_id: VmId) -> Path:
        return self._folder / "u" / _short(vm_id)

    def _network_folder(self, network: str) -> Path:
        # Names may have 40 characters, and the path of a socket 107 bytes.
        return self._folder / "n" / hashlib.sha256(network.encode()).hexdigest()[:12]

    def _sweep(self, alive: Collection[str]) -> None:
        for path in _entries(self._folder / "u"):
            if path.name not in alive:
                path.unlink(missing_ok=True)
        for folder in _entries(self._folder / "n"):
            with _lock(folder) as lock:
                if lock is not None:
                    shutil.rmtree(folder, ignore_errors=True)


def _usable_families() -> str:
    families = families_with_a_way_out()
    if families:
        passt_path()
    return families


def _short(vm_id: VmId) -> str:
    return vm_id[:13]


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _make_private(folder: Path) -> None:
    """Make a folder that only this user can enter, and those above it that are missing.

    Raises:
        NetworkUnavailable.
    """
    try:
        folder.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for each in (folder.parent, folder):
            each.mkdir(exist_ok=True, mode=0o700)
            each.chmod(0o700)
    except OSError as error:
        raise NetworkUnavailable(f"Can't make {folder}: {error.strerror}.", hint="") from error


def _hold_switch(folder: Path, network: str) -> socket.socket:
    """Return a connection to the network's switch, started where there was none; it lives as long as that is open.

    Raises:
        NetworkUnavailable.
    """
    give_up = time.monotonic() + _SWITCH_BUDGET
    try:
        while time.monotonic() < give_up:
            _make_private(folder)
            with _lock(folder) as lock:
                guard = _connect(folder / "s") if lock is None else _start_switch(folder / "s", lock)
            if guard is not None:
                return guard
            # The last one is on its way out, and lets go of the lock within milliseconds.
            time.sleep(0.01)
    except (OSError, StartError) as error:
        raise NetworkUnavailable(f"The network {network!r} can't be had: {error}.", hint="") from error
    raise NetworkUnavailable(f"The switch of the network {network!r} does not answer.", hint="")


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[int | None]:
    """Yield the locked descriptor of a network; None where its switch holds the lock. A switch inherits it."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield None
    else:
        yield descriptor
    finally:
        os.close(descriptor)


def _start_switch(path: Path, lock: int) -> socket.socket | None:
    with listen(path) as listener:
        # Before it runs: the listening socket is ours already, and it must not miss its first port.
        guard = socket.socket(socket.AF_UNIX)
        guard.connect(os.fspath(path))
        try:
            start("switch", [str(lock)], listener, keep=[lock])
        except BaseException:
            guard.close()
            raise
    return guard if _answers(guard) else None


def _connect(path: Path) -> socket.socket | None:
    guard = socket.socket(socket.AF_UNIX)
    try:
        guard.connect(os.fspath(path))
    except OSError:
        guard.close()
        return None
    return guard if _answers(guard) else None


def _answers(guard: socket.socket) -> bool:
    """Say whether a switch has taken this connection, and close it otherwise: one that ends leaves some untaken."""
    guard.settimeout(_SWITCH_BUDGET)
    with contextlib.suppress(OSError):
        guard.sendall(_PING)
        while received := guard.recv(1 << 16):
            if PING in received:
                return True
    guard.close()
    return False
