"""A connection that nobody uses is closed, and made anew for whoever wants one; never under what still runs."""

from __future__ import annotations

import asyncio
import os
import signal

import psutil
import pytest

from magpie_local.guest.ssh.link import SshLink
from magpie_local.guest.ssh.opener import SshShells

#: Seconds; what must outlast it is given five times as long.
LINGER = 0.2
LONG = 5 * LINGER


@pytest.fixture
async def shell(access):
    opened = await SshShells().connect(access.target, linger=LINGER)
    yield opened
    await opened.close()


@pytest.fixture
def connections(sshd):
    """Returns the ports of this process that are connected to the server."""

    def ports() -> set[int]:
        return {
            one.laddr.port
            for one in psutil.Process().net_connections(kind="tcp")
            if one.raddr and one.raddr.port == sshd.port and one.status == psutil.CONN_ESTABLISHED
        }

    return ports


async def until(holds) -> None:
    async with asyncio.timeout(15):
        while not holds():
            await asyncio.sleep(0.02)


async def test_one_that_was_used_is_closed_and_made_anew_for_the_next_command(shell, connections):
    assert (await shell.run("echo one")).stdout == b"one\n"
    assert len(connections()) == 1

    await until(lambda: not connections())

    assert (await shell.run("echo two")).stdout == b"two\n"
    assert len(connections()) == 1
    await until(lambda: not connections())


async def test_one_that_was_never_used_is_closed(shell, connections):
    assert len(connections()) == 1
    await until(lambda: not connections())


async def test_one_that_came_about_after_all_had_left_is_closed(access, connections):
    link = SshLink(access.target, linger=LINGER)
    waiting = asyncio.create_task(link.connection())
    await asyncio.sleep(0)  # it has begun
    waiting.cancel()

    await until(connections)
    await until(lambda: not connections())
    await link.close()


async def test_commands_that_follow_each_other_share_one(shell):
    ports = set()
    for _ in range(10):
        ports.add((await shell.run("echo $SSH_CONNECTION")).stdout.split()[1])
        await asyncio.sleep(LINGER / 4)
    assert len(ports) == 1


async def test_a_command_keeps_its_own_however_silent_it_is(shell, connections):
    before = connections()

    result = await shell.run(f"sleep {LONG}; echo well")

    assert (result.stdout, connections()) == (b"well\n", before)


async def test_the_end_of_a_command_has_it_though_its_caller_has_left(shell, connections):
    before, up = connections(), asyncio.Event()
    # SIGTERM does not end it: SIGKILL comes a second later.
    script = "trap '' TERM; echo up; while :; do sleep 0.1; done"
    task = asyncio.create_task(shell.run(script, on_output=lambda *_: up.set()))
    await up.wait()
    task.cancel()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shell._endings

    while shell._endings:
        await asyncio.sleep(0.02)

    assert connections() == before


async def test_files_on_their_way_keep_it_however_slow_the_server_is(sshd, shell, connections, tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "large").write_bytes(content)
    await shell.files.list(str(tmp_path))
    before = connections()
    serving = psutil.Process(sshd.process.pid).children(recursive=True)
    for process in serving:
        process.send_signal(signal.SIGSTOP)
    try:
        reading = asyncio.create_task(shell.files.read(str(tmp_path / "large")))
        await asyncio.sleep(LONG)
        assert not reading.done()
    finally:
        for process in serving:
            process.send_signal(signal.SIGCONT)

    assert await reading == content
    assert connections() == before
    await until(lambda: not connections())
    assert await shell.files.read(str(tmp_path / "large")) == content


async def test_a_forward_keeps_it_though_nothing_goes_through(shell, connections):
    before = connections()
    async with shell.forward(80):
        await asyncio.sleep(LONG)
        assert connections() == before
    await until(lambda: not connections())


async def test_what_a_finished_command_left_behind_outlives_it(shell, connections):
    left = psutil.Process(int((await shell.run("sleep 300 >/dev/null 2>&1 & echo $!")).stdout))

    await until(lambda: not connections())
    await asyncio.sleep(LINGER)  # for a guard that ends too much

    assert left.status() != psutil.STATUS_ZOMBIE
    left.kill()


async def test_a_server_that_says_nothing_can_not_keep_it(sshd, shell, connections):
    serving = psutil.Process(sshd.process.pid).children(recursive=True)
    for process in serving:
        process.send_signal(signal.SIGSTOP)
    try:
        await until(lambda: not connections())
        assert (await shell.run("echo another")).stdout == b"another\n"
    finally:
        for process in serving:
            process.send_signal(signal.SIGCONT)


async def test_closing_waits_for_nobody_who_lingers(access, connections):
    opened = await SshShells().connect(access.target, linger=3600)
    assert len(connections()) == 1
    await opened.close()
    assert connections() == set()
