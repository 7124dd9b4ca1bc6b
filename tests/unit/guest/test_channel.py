"""The host's side of the channel, against guests that are slow, broken or hostile."""

from __future__ import annotations

import asyncio
import dataclasses
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.frames import ControlReader, blob_frames, message_frame
from magpie_local.domain.identity import Identity, Renewal
from magpie_local.errors import GuestLost, HostError
from magpie_local.guest import channel
from magpie_local.guest.channel import AgentGuest, AgentSession
from magpie_local.ports.guest import GuestState, Launch, Mounted, Order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

RENEWAL = Renewal(now=12.5, entropy=b"\x01\xff")
ORDER = Order(
    attempt_id="a-1", nonce="n", script=b"x" * 5_000_000, env={"A": "é"}, timeout=1.5, log_limit=99, renewal=RENEWAL,
)  # fmt: skip
IDENTITY = Identity(hostname="h", machine_id="m", boot_id="b", mac="c", host_key="k", host_key_public="p")


class Peer:
    """The guest's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = ControlReader()
        self._heard: list[dict[str, object] | bytes] = []

    async def hear(self) -> dict[str, object] | bytes:
        while not self._heard:
            data = await self.reader.read(65536)
            if not data:
                raise EOFError
            self._heard += self._frames.feed(data)
        return self._heard.pop(0)

    def say(self, **message: object) -> None:
        self.writer.write(message_frame(message))


@asynccontextmanager
async def connected(folder: Path, guest: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[AgentSession]:
    """Connect to a guest that behaves as told."""

    peers: list[asyncio.Task[None]] = []

    async def live(peer: Peer) -> None:
        try:
            await guest(peer)
        finally:
            peer.writer.transport.abort()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(asyncio.create_task(live(Peer(reader, writer))))

    server = await asyncio.start_unix_server(serve, folder / "control")
    session = await AgentGuest().connect(folder / "control")
    try:
        async with asyncio.timeout(10):
            yield session
    finally:
        await session.close()
        server.close()
        await server.wait_closed()
        await asyncio.wait(peers, timeout=0.5)
        for peer in peers:
            peer.cancel()
        for outcome in await asyncio.gather(*peers, return_exceptions=True):
            assert outcome is None or isinstance(outcome, (asyncio.CancelledError, ConnectionError))


async def test_hello_is_said_again_until_it_is_answered(tmp_path, monkeypatch):
    monkeypatch.setattr(channel, "_HELLO_AGAIN", 0.02)

    async def sleepy(peer: Peer) -> None:
        heard = [await peer.hear() for _ in range(3)]
        for message in heard:
            assert isinstance(message, dict)
            peer.say(op="state", id=message["id"], state="idle", attempt=None, settled=False)
        await peer.reader.read()

    async with connected(tmp_path, sleepy) as session:
        assert await session.hello() == GuestState(state="idle", attempt_id=None, settled=False)


async def test_an_answer_to_an_older_hello_is_not_taken_for_a_new_one(tmp_path):
    async def guest(peer: Peer) -> None:
        await peer.hear()
        peer.say(op="state", id=0, state="idle", attempt=None, settled=False)
        peer.say(op="state", id=1, state="running", attempt="a-1", settled=False)
        await peer.reader.read()

    async with connected(tmp_path, guest) as session:
        assert (await session.hello()).state == "running"


async def test_an_order_arrives_whole(tmp_path):
    heard: list[dict[str, object] | bytes] = []

    async def guest(peer: Peer) -> None:
        heard.append(await peer.hear())
        while sum(map(len, heard[1:])) < len(ORDER.script):
            heard.append(await peer.hear())
        peer.say(op="started", renew_us=1500, spawn_us=20_000)
        await peer.reader.read()

    async with connected(tmp_path, guest) as session:
        launch = await session.run(ORDER)
    message, *blobs = heard
    assert isinstance(message, dict)
    assert (message["attempt"], message["env"], message["timeout"]) == ("a-1", {"A": "é"}, 1.5)
    assert (message["now"], message["entropy"]) == (12.5, "01ff")
    assert launch == Launch(renew=0.0015, spawn=0.02)
    assert [blob for blob in blobs if not isinstance(blob, dict)] == blobs
    assert b"".join(blob for blob in blobs if isinstance(blob, bytes)) == ORDER.script


async def test_a_refusal_is_a_host_error_with_the_reason(tmp_path):
    async def guest(peer: Peer) -> None:
        await peer.hear()
        peer.say(op="refused", to="run", message="not today")
        await peer.reader.read()

    async with connected(tmp_path, guest) as session:
        with pytest.raises(HostError, match="not today"):
            await session.run(ORDER)


async def test_an_identity_is_sent_whole_with_its_renewal(tmp_path):
    heard: list[object] = []

    async def guest(peer: Peer) -> None:
        heard.append(await peer.hear())
        peer.say(op="settled")
        await peer.reader.read()

    async with connected(tmp_path, guest) as session:
        await session.settle(IDENTITY, RENEWAL)
    assert heard == [{
        "op": "settle", "hostname": "h", "machine_id": "m", "boot_id": "b", "mac": "c", "host_key": "k",
        "host_key_public": "p", "now": 12.5, "entropy": "01ff",
    }]  # fmt: skip


@pytest.mark.parametrize("op", ["settle", "exercise", "run"])
async def test_a_refusal_reaches_whom_it_is_meant_for(tmp_path, op):
    async def guest(peer: Peer) -> None:
        peer.say(op="refused", to="fly", message="who asked")
        for _ in range(3):
            while isinstance(await peer.hear(), bytes):
                pass
        peer.say(op="refused", to=op, message="not today")
        for answer in {"settle": "settled", "exercise": "exercised"}.values():
            peer.say(op=answer)
        peer.say(op="started", renew_us=1, spawn_us=1)
        await peer.reader.read()

    order = dataclasses.replace(ORDER, script=b"")
    async with connected(tmp_path, guest) as session:
        calls = {
            "settle": session.settle(IDENTITY, RENEWAL), "exercise": session.exercise(), "run": session.run(order),
        }  # fmt: skip
        outcomes = dict(zip(calls, await asyncio.gather(*calls.values(), return_exceptions=True), strict=True))
    refused = {name: str(outcome) for name, outcome in outcomes.items() if isinstance(outcome, HostError)}
    assert list(refused) == [op]
    assert "not today" in refused[op]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        struct.pack("<IB", 2**32 - 1, 1),
        struct.pack("<IB", 70_000, 1) + b"{",
        struct.pack("<IB", 4, 7) + b"oops",
        struct.pack("<IB", 4, 1) + b"oops",
        message_frame({"op": "state", "state": "dreaming", "attempt": None, "settled": False}),
        message_frame({"op": "state", "state": "idle", "attempt": 5, "settled": False}),
        message_frame({"op": "state", "state": "idle", "attempt": None, "settled": 1}),
        message_frame({"op": "started", "renew_us": 0.5, "spawn_us": 1}),
        message_frame({"op": "refused"}),
        message_frame({"no": "op"}),
        message_frame({"op": {"op": "exited"}}),
    ],
    ids=[
        "closed",
        "huge",
        "large",
        "kind",
        "no JSON",
        "state",
        "attempt",
        "settled",
        "times",
        "no reason",
        "no op",
        "list",
    ],
)
async def test_a_guest_that_talks_nonsense_is_lost(tmp_path, answer):
    async def guest(peer: Peer) -> None:
        await peer.hear()
        peer.writer.write(answer)
        if answer:
            await peer.reader.read()

    async with connected(tmp_path, guest) as session:
        with pytest.raises(GuestLost):
            await session.hello()
        with pytest.raises(GuestLost):
            await session.exited()


async def test_blobs_of_a_guest_are_of_no_interest(tmp_path):
    async def guest(peer: Peer) -> None:
        await peer.hear()
        for frame in blob_frames(b"noise" * 50_000):
            peer.writer.write(frame)
        peer.say(op="state", id=1, state="idle", attempt=None, settled=False)
        await peer.reader.read()

    async with connected(tmp_path, guest) as session:
        assert (await session.hello()).state == "idle"


async def test_an_order_cancelled_half_way_is_not_completed_later(tmp_path):
    ended = asyncio.Event()

    async def guest(peer: Peer) -> None:
        await asyncio.sleep(0.1)  # until the sender's buffers are full
        received = 0
        try:
            while True:
                received += len(await peer.hear())
        except (EOFError, ConnectionError):
            assert received < len(ORDER.script)
            ended.set()

    async with connected(tmp_path, guest) as session:
        running = asyncio.create_task(session.run(ORDER))
        await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await ended.wait()
        with pytest.raises(GuestLost):
            await session.hello()


async def test_a_cancelled_hello_leaves_the_channel_as_it_was(tmp_path):
    async def guest(peer: Peer) -> None:
        first, second = await peer.hear(), await peer.hear()
        for message in (first, second):
            assert isinstance(message, dict)
            peer.say(op="state", id=message["id"], state="idle", attempt=None, settled=False)
        await peer.reader.read()

    async with connected(tmp_path, guest) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await session.hello()
        assert (await session.hello()).state == "idle"


async def test_closing_twice_and_what_comes_after_it(tmp_path):
    async def guest(peer: Peer) -> None:
        await peer.reader.read()

    async with connected(tmp_path, guest) as session:
        waiting = asyncio.create_task(session.exited())
        await asyncio.sleep(0)
        await session.close()
        await session.close()
        for call in (waiting, session.hello(), session.stop(1.0), session.run(ORDER)):
            with pytest.raises(GuestLost, match="closed"):
                await call


async def test_closing_after_the_exit_lets_the_guest_power_off(tmp_path):
    last: list[object] = []

    async def guest(peer: Peer) -> None:
        peer.say(op="exited")
        last.append(await peer.hear())

    async with connected(tmp_path, guest) as session:
        await session.exited()
        await session.close()
        await asyncio.sleep(0.05)
    assert last == [{"op": "bye"}]


async def test_closing_does_not_wait_for_a_guest_that_does_not_read(tmp_path):
    async def guest(peer: Peer) -> None:
        await asyncio.sleep(3600)

    async with connected(tmp_path, guest) as session:
        running = asyncio.create_task(session.run(ORDER))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(2):
            await session.close()
        with pytest.raises(GuestLost):
            await running


async def test_services_are_asked_for_and_answered(tmp_path):
    heard: list[object] = []

    async def guest(peer: Peer) -> None:
        heard.append(await peer.hear())
        peer.say(op="mounted", fsck=1, grown=True, took_us=250_000, note="repaired")
        heard.append(await peer.hear())
        peer.say(op="ssh", host_key="ssh-ed25519 AAAA")
        heard.append(await peer.hear())
        peer.say(op="halted", workspace="busy")
        await peer.reader.read()

    async with connected(tmp_path, guest) as session:
        assert await session.mount(check=True) == Mounted(fsck=1, grown=True, took=0.25, note="repaired")
        assert await session.open_ssh("a key") == "ssh-ed25519 AAAA"
        assert await session.halt(2.5) == "busy"
    assert heard == [
        {"op": "mount", "check": True, "serial": "workspace", "path": "/workspace"},
        {"op": "ssh", "authorized": "a key", "address": "169.254.77.15/24"},
        {"op": "halt", "grace": 2.5},
    ]


@pytest.mark.parametrize(
    "lie",
    [
        {"op": "mounted", "fsck": "0", "grown": True, "took_us": 1, "note": ""},
        {"op": "mounted", "fsck": 0, "grown": True, "took_us": 1},
        {"op": "ssh", "host_key": None},
        {"op": "halted", "workspace": "spotless"},
        {"op": "halted"},
    ],
    ids=repr,
)
async def test_an_answer_that_is_none_breaks_the_channel(tmp_path, lie):
    async def guest(peer: Peer) -> None:
        await peer.hear()
        peer.say(**lie)
        await peer.reader.read()

    async with connected(tmp_path, guest) as session:
        with pytest.raises(GuestLost, match="the agent said"):
            await session.halt(1.0)


async def test_a_refused_service_is_an_error_of_its_own(tmp_path):
    async def guest(peer: Peer) -> None:
        for op in ("mount", "ssh", "halt"):
            await peer.hear()
            peer.say(op="refused", to=op, message=f"no {op}")
        await peer.reader.read()

    async with connected(tmp_path, guest) as session:
        with pytest.raises(HostError, match="refused: no mount"):
            await session.mount(check=False)
        with pytest.raises(HostError, match="refused: no ssh"):
            await session.open_ssh("a key")
        with pytest.raises(HostError, match="refused: no halt"):
            await session.halt(1.0)
