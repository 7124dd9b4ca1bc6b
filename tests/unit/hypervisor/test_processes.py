"""The end of a VM's process, seen by its pidfd. A sleeping program stands in for QEMU, under its name."""

from __future__ import annotations

import asyncio
import os
import subprocess
import uuid

import pytest

from magpie_local.hypervisor.processes import Exits, find_qemu


@pytest.fixture
def start():
    """Return a starter of processes with the command line of one's choice."""
    started = []

    def run(*arguments: str) -> subprocess.Popen[bytes]:
        # The shell waits for its input to end, which is when it is killed; what follows -c is only looked at.
        process = subprocess.Popen([*arguments], executable="/bin/sh", stdin=subprocess.PIPE)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def _qemu(vm_id: str) -> tuple[str, ...]:
    return ("qemu-system-x86_64", "-c", "read line", "-uuid", vm_id)


async def _until_seen(*vm_ids: str) -> dict[str, int]:
    # Between fork and exec a process has its parent's command line.
    async with asyncio.timeout(5):
        while len(found := find_qemu(vm_ids)) < len(vm_ids):
            for pidfd in found.values():
                os.close(pidfd)
            await asyncio.sleep(0.01)
    return found


async def test_the_processes_of_the_asked_vms_are_found(start):
    one, two, other = (str(uuid.uuid4()) for _ in range(3))
    for vm_id in (one, two, other):
        start(*_qemu(vm_id))
    found = await _until_seen(one, two)
    assert found.keys() == {one, two}
    for pidfd in found.values():
        os.close(pidfd)


async def test_what_only_mentions_a_vm_is_not_its_process(start):
    vm_id, real = str(uuid.uuid4()), str(uuid.uuid4())
    start("grep", "-c", "read line", "-uuid", vm_id)
    start("qemu-system-x86_64", "-c", "read line", vm_id, "-uuid")
    start(*_qemu(real))
    for pidfd in (await _until_seen(real)).values():
        os.close(pidfd)
    assert find_qemu([vm_id]) == {}


async def test_an_exit_is_told_once_and_remembered_until_forgotten(start):
    vm_id = str(uuid.uuid4())
    told: list[str] = []
    process = start(*_qemu(vm_id))
    for pidfd in (await _until_seen(vm_id)).values():
        os.close(pidfd)
    exits = Exits(told.append)
    await exits.watch([vm_id])
    await exits.watch([vm_id])
    assert not exits.has_exited(vm_id)
    # Not reaped: a pidfd speaks at the exit itself.
    process.kill()
    async with asyncio.timeout(5):
        await exits.exit_of(vm_id).wait()
    assert (told, exits.has_exited(vm_id)) == ([vm_id], True)
    exits.forget(vm_id)
    assert not exits.has_exited(vm_id)


async def test_closing_ends_the_watch_and_leaves_no_descriptor(start):
    vm_id = str(uuid.uuid4())
    told: list[str] = []
    process = start(*_qemu(vm_id))
    for pidfd in (await _until_seen(vm_id)).values():
        os.close(pidfd)
    before = len(os.listdir("/proc/self/fd"))
    exits = Exits(told.append)
    await exits.watch([vm_id])
    exits.close()
    process.kill()
    await asyncio.sleep(0.05)
    assert told == []
    assert len(os.listdir("/proc/self/fd")) == before


async def test_forgetting_wakes_whoever_waits():
    exits = Exits(lambda _: None)
    waiting = asyncio.create_task(exits.exit_of("a").wait())
    await asyncio.sleep(0)
    exits.forget("a")
    assert await asyncio.wait_for(waiting, 1)
