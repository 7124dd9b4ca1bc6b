"""The host's side of the agent's control port."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeAlias, cast

from magpie_local.domain import frames
from magpie_local.domain.vm import SSH_ADDRESS
from magpie_local.errors import GuestLost, HostError
from magpie_local.guest.identity import new_identity
from magpie_local.ports.guest import GuestState, Launch, Mounted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from magpie_local.domain.exitrecord import WorkspaceEnd
    from magpie_local.domain.identity import Identity, Renewal
    from magpie_local.domain.ids import VmId
    from magpie_local.domain.network import GuestConfig
    from magpie_local.ports.guest import Order

#: Seconds after which an unanswered hello is said again: the agent forgets what it could not make sense of.
_HELLO_AGAIN = 5.0
#: Most bytes of one message of the guest, which is not trusted.
_MAX_MESSAGE = 64 * 1024
#: What each request is answered with, when it is not refused.
_ANSWERS = {
    "settle": "settled", "exercise": "exercised", "run": "started", "mount": "mounted", "ssh": "ssh", "halt": "halted",
    "network": "networked", "upload": "uploaded", "renew": "renewed",
}  # fmt: skip

Answer: TypeAlias = GuestState | Launch | Mounted | str | None


class AgentGuest:
    """Opens channels to agents (the Guest port)."""

    async def connect(self, control: Path) -> AgentSession:
        """Connect to the control port's socket.

        Raises:
            GuestLost: nothing listens there.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(control)
        except OSError as error:
            raise GuestLost(f"No VM listens at {control}: {error.strerror or error}.") from error
        return AgentSession(reader, writer)

    async def new_identity(self, vm_id: VmId) -> Identity:
        """Return a fresh identity for a VM, with an SSH host key of its own."""
        return await asyncio.to_thread(new_identity, vm_id)


class AgentSession:
    """An open channel to one agent (the GuestSession and GuestServices ports).

    One task reads; callers wait for its findings, and learn from it when the channel broke.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sending = asyncio.Lock()
        self._hellos = 0
        #: Callers that wait, by what they wait for.
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._lost: GuestLost | None = None
        self._has_exited = False
        #: Set when the script has exited, or the channel is lost.
        self._over = asyncio.Event()
        self._listener = asyncio.create_task(self._listen(), name="guest channel")

    async def hello(self) -> GuestState:
        """Return the agent's state; waits until it answers (it does once booted).

        Raises:
            GuestLost: the channel broke.
        """
        while True:
            self._hellos += 1
            waiting = f"state {self._hellos}"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HELLO_AGAIN):
                    return cast(GuestState, await self._ask(waiting, {"op": "hello", "id": self._hellos}))

    async def settle(self, identity: Identity, renewal: Renewal) -> None:
        """Give the VM its identity, fresh randomness and the right time; twice is as good as once.

        Raises:
            GuestLost: the channel broke.
            HostError: the agent refused or failed.
        """
        await self._ask("settled", {"op": "settle", **asdict(identity), **_renewal(renewal)})

    async def exercise(self) -> None:
        """Have the agent run its warm-up script; returns when that has ended. The VM counts as not settled then.

        Raises:
            GuestLost: the channel broke.
            HostError: the agent refused, or the warm-up failed.
        """
        await self._ask("exercised", {"op": "exercise"})

    async def run(self, order: Order) -> Launch:
        """Hand over the order; returns when the script has been started.

        Raises:
            GuestLost: the channel broke.
            HostError: the agent refused.
        """
        message: dict[str, object] = {
            "op": "run",
            "attempt": order.attempt_id,
            "nonce": order.nonce,
            "timeout": order.timeout,
            "env": dict(order.env),
            "log_limit": order.log_limit,
            "persistent": order.persistent,
            "mask": order.mask,
            "outputs": order.outputs,
            "outputs_limit": order.outputs_limit,
            "script_size": len(order.script),
            "script_crc": zlib.crc32(order.script),
            **_renewal(order.renewal),
        }
        return cast(Launch, await self._ask("started", message, _at_once(order.script)))

    async def mount(self, *, check: bool, serial: str = "workspace", path: str = "/workspace") -> Mounted:
        """Mount the disk with `serial`, after a check where told to.

        Raises:
            GuestLost: the channel broke.
            HostError: the agent refused: the disk is not there, or can't be used as it is.
        """
        message: dict[str, object] = {"op": "mount", "check": check, "serial": serial, "path": path}
        return cast(Mounted, await self._ask("mounted", message))

    async def open_ssh(self, authorized: str, address: str = SSH_ADDRESS) -> str:
        """Let the owners of some public keys in; returns the host key's public half once they can come.

        Raises:
            GuestLost: the channel broke.
            HostError: the agent refused.
        """
        return cast(str, await self._ask("ssh", {"op": "ssh", "authorized": authorized, "address": address}))

    async def upload(self, blocks: Iterable[bytes], *, size: int, crc: int) -> None:
        """Unpack a tar file, given in pieces, in the guest.

        Raises:
            GuestLost: the channel broke.
            HostError: the agent refused: there is no room for it, say.
        """
        await self._ask("uploaded", {"op": "upload", "size": size, "crc": crc}, _from_disk(blocks))

    async def join(self, network: GuestConfig) -> None:
        """Set up the guest's card, and the names and authorities that it knows.

        Raises:
            GuestLost: the channel broke.
            HostError: the agent refused.
        """
        told = ("addresses", "gateways", "dns", "mtu", "hosts", "authorities")
        await self._ask("networked", {"op": "network", **{name: getattr(network, name) for name in told}})

    async def renew(self, renewal: Renewal) -> None:
        """Give a guest that has stood still the right time, and fresh randomness.

        Raises:
            GuestLost: the channel broke.
            HostError: the agent refused.
        """
        await self._ask("renewed", {"op": "renew", **_renewal(renewal)})

    async def halt(self, grace: float) -> WorkspaceEnd | None:
        """End the guest cleanly; returns how its workspace was left.

        Raises:
            GuestLost: the channel broke.
            HostError: the agent refused.
        """
        return cast("WorkspaceEnd | None", await self._ask("halted", {"op": "halt", "grace": grace}))

    async def stop(self, grace: float) -> None:
        """Have the agent send SIGTERM to the script's process group, and SIGKILL after `grace` seconds."""
        await self._send({"op": "stop", "grace": grace})

    async def interrupt(self) -> None:
        """Have the agent send SIGINT to the script's process group; an agent of before that op takes no notice."""
        await self._send({"op": "interrupt"})

    async def exited(self) -> None:
        """Return when the exit record is in the log.

        A hypervisor's own buffers may deliver the record some moments after this word of it.

        Raises:
            GuestLost: the channel broke.
        """
        await self._over.wait()
        if not self._has_exited:
            self._check()

    async def close(self) -> None:
        """Leave the channel. The guest goes on, but one whose script has exited is told that nothing more will come."""
        if self._lost is None and self._has_exited and not self._sending.locked():
            self._writer.write(frames.message_frame({"op": "bye"}))
        self._listener.cancel()
        self._lose("it was closed")
        # Not wait_closed: a guest that does not read would hold us, and a cancelled one breaks every later one.
        self._writer.transport.abort()
        await asyncio.sleep(0)  # the transport closes its socket now

    async def _ask(self, waiting: str, message: dict[str, object], blobs: AsyncIterator[bytes] | None = None) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = answer
        try:
            await self._send(message, blobs, answer)
            return await answer
        finally:
            del self._waiting[waiting]
            if answer.done() and not answer.cancelled():
                answer.exception()  # looked at, also where sending failed first

    async def _send(
        self,
        message: dict[str, object],
        blobs: AsyncIterator[bytes] | None = None,
        answer: asyncio.Future[Answer] | None = None,
    ) -> None:
        """Send a message, and what belongs to it as long as there is no answer."""
        async with self._sending:
            self._check()
            whole = False
            try:
                self._writer.write(frames.message_frame(message))
                if blobs is not None:
                    await self._send_blobs(blobs, answer)
                whole = True
                await self._writer.drain()
            except OSError as error:
                self._lose(str(error))
                self._check()
            finally:
                if not whole:  # cancelled within: the agent forgets a half order when its sender leaves
                    self._writer.transport.abort()

    async def _send_blobs(self, blobs: AsyncIterator[bytes], answer: asyncio.Future[Answer] | None) -> None:
        async for blob in blobs:
            for frame in frames.blob_frames(blob):
                await self._writer.drain()
                self._check()  # it may have been closed meanwhile
                if answer is not None and answer.done():
                    return  # refused: the agent drops what comes behind that
                self._writer.write(frame)

    def _check(self) -> None:
        if self._lost is not None:
            raise GuestLost(self._lost.message)

    async def _listen(self) -> None:
        reader = frames.ControlReader(_MAX_MESSAGE)
        try:
            while data := await self._reader.read(64 * 1024):
                for item in reader.feed(data):
                    if isinstance(item, dict):
                        self._heard(item)
            self._lose("the VM closed it")
        except (OSError, frames.FrameError) as error:
            self._lose(str(error))

    def _heard(self, message: dict[str, object]) -> None:
        match message:
            case {
                "op": "state", "state": "idle" | "running" | "exited" as state,
                "attempt": str() | None as attempt, "settled": bool(settled),
            }:  # fmt: skip
                self._has_exited |= state == "exited"
                answer = GuestState(state=state, attempt_id=attempt, settled=settled)
                self._answer(f"state {message.get('id')}", answer)
            case {"op": "started", "renew_us": int(renew), "spawn_us": int(spawn)}:
                self._answer("started", Launch(renew=renew / 1e6, spawn=spawn / 1e6))
            case {"op": "settled" | "renewed" | "exercised" | "networked" | "uploaded" as done}:
                self._answer(done, None)
            case {
                "op": "mounted", "fsck": int() | None as fsck, "grown": bool(grown), "took_us": int(took),
                "note": str(note),
            }:  # fmt: skip
                self._answer("mounted", Mounted(fsck=fsck, grown=grown, took=took / 1e6, note=note[:500]))
            case {"op": "ssh", "host_key": str(key)}:
                self._answer("ssh", key)
            case {"op": "halted", "workspace": "clean" | "busy" | None as workspace}:
                self._answer("halted", workspace)
            case {"op": "exited"}:
                self._has_exited = True
            case {"op": "refused", "to": str(op), "message": str(reason)}:
                self._refused(op, reason)
            case _:
                raise frames.FrameError(f"the agent said {str(message)[:200]}")
        if self._has_exited:
            self._over.set()

    def _answer(self, waiting: str, value: Answer) -> None:
        answer = self._waiting.get(waiting)
        if answer is not None and not answer.done():
            answer.set_result(value)

    def _refused(self, op: str, reason: str) -> None:
        answer = self._waiting.get(_ANSWERS.get(op, ""))
        if answer is not None and not answer.done():
            answer.set_exception(HostError(f"The guest's agent refused: {reason[:500]}.", hint=""))

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = GuestLost(f"The channel to the guest's agent broke: {reason}.")
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(GuestLost(self._lost.message))
        self._over.set()


async def _at_once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _from_disk(blocks: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Give blocks that are read while they are asked for, which may take a while."""
    pieces = iter(blocks)
    try:
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece
    except OSError as error:
        raise HostError(f"What is to be uploaded can't be read: {error.strerror or error}.", hint="") from error


def _renewal(renewal: Renewal) -> dict[str, object]:
    return {"now": float(renewal.now), "entropy": renewal.entropy.hex()}
