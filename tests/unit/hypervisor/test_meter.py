"""The counters of QEMU's process. Python under QEMU's name stands in for it, and does what it is told."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from magpie_local.domain.ids import VmId
from magpie_local.domain.sizes import MIB
from magpie_local.hypervisor import meter as module
from magpie_local.hypervisor.meter import QemuMeter
from magpie_local.hypervisor.processes import find_qemu

#: Carries out a line at a time, and answers each with its CPU time.
_PUPPET = """
import sys, time
for line in sys.stdin:
    exec(line)
    print(time.process_time(), flush=True)
"""


class Puppet:
    def __init__(self, qemu: str) -> None:
        self.vm_id = VmId(str(uuid.uuid4()))
        self.process = subprocess.Popen(
            [qemu, "-c", _PUPPET, "-uuid", self.vm_id], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.do("pass")

    def do(self, line: str) -> float:
        """Have it do something; return its CPU time so far, seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path):
    qemu = tmp_path / "qemu-system-test"
    qemu.symlink_to(sys.executable)
    started: list[Puppet] = []

    def run() -> Puppet:
        started.append(Puppet(str(qemu)))
        return started[-1]

    yield run
    for puppet in started:
        puppet.end()


@pytest.fixture
def searches(monkeypatch):
    """Return the searches through /proc that the meter makes, each with the VMs it is for."""
    made: list[list[str]] = []

    def noted(vm_ids):
        made.append(list(vm_ids))
        return find_qemu(vm_ids)

    monkeypatch.setattr(module, "find_qemu", noted)
    return made


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_cpu_time_is_what_the_process_itself_counts(start):
    meter, vm = QemuMeter(), start()
    before = vm.do("pass")
    spent = vm.do(f"while time.process_time() < {before} + 0.5: pass")
    assert meter.read([vm.vm_id])[vm.vm_id].cpu_seconds == pytest.approx(spent, abs=0.03)


def test_time_and_age_are_of_the_reading(start):
    began = time.monotonic()
    meter, vm = QemuMeter(), start()
    reading = meter.read([vm.vm_id])[vm.vm_id]
    assert began <= reading.at <= time.monotonic()
    # Starts are counted in ticks.
    assert 0 < reading.age <= reading.at - began + 0.02


def test_memory_that_the_process_writes_counts_in_full_and_goes_when_it_is_freed(start):
    meter, vm = QemuMeter(), start()
    before = meter.read([vm.vm_id])[vm.vm_id].memory
    vm.do("x = bytearray(b'x' * (32 << 20))")
    full = meter.read([vm.vm_id])[vm.vm_id].memory
    vm.do("del x")
    after = meter.read([vm.vm_id])[vm.vm_id].memory
    assert 31 * MIB < full - before < 40 * MIB
    assert after - before < 4 * MIB


def test_pages_of_a_file_count_once_they_are_changed(start, tmp_path):
    meter, vm = QemuMeter(), start()
    ram = tmp_path / "ram"
    ram.write_bytes(b"x" * 32 * MIB)
    before = meter.read([vm.vm_id])[vm.vm_id].memory
    vm.do(f"import mmap; f = open({str(ram)!r}, 'rb'); m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)")
    vm.do("n = sum(m[::4096])")
    read = meter.read([vm.vm_id])[vm.vm_id].memory
    vm.do("for i in range(0, len(m) // 2, 4096): m[i] = 0")
    changed = meter.read([vm.vm_id])[vm.vm_id].memory
    assert read - before < 4 * MIB
    assert 15 * MIB < changed - before < 20 * MIB


def test_a_process_is_looked_for_once(start, searches):
    meter, vm = QemuMeter(), start()
    for _ in range(3):
        assert vm.vm_id in meter.read([vm.vm_id])
    assert searches == [[vm.vm_id]]


def test_only_the_unknown_are_looked_for(start, searches):
    meter, one, two = QemuMeter(), start(), start()
    meter.read([one.vm_id])
    assert meter.read([one.vm_id, two.vm_id]).keys() == {one.vm_id, two.vm_id}
    assert searches == [[one.vm_id], [two.vm_id]]


@pytest.mark.parametrize("reaped", [True, False])
def test_one_that_has_ended_is_missing_and_leaves_no_descriptor(start, reaped):
    meter, vm, other = QemuMeter(), start(), start()
    meter.read([vm.vm_id, other.vm_id])
    before = descriptors()
    vm.process.kill()
    os.waitid(os.P_PID, vm.process.pid, os.WEXITED | os.WNOWAIT)
    if reaped:
        vm.process.wait()
    assert meter.read([vm.vm_id, other.vm_id]).keys() == meter._known.keys() == {other.vm_id}
    assert descriptors() == before


def test_a_number_that_is_another_processs_now_is_not_read(start, searches):
    meter, vm, other = QemuMeter(), start(), start()
    meter.read([vm.vm_id])
    # As if the first had ended and the second had got its number: only the start tells them apart.
    time.sleep(0.02)
    third = start()
    meter._known[vm.vm_id] = meter._known[vm.vm_id]._replace(pid=third.process.pid)
    vm.end()
    assert meter.read([vm.vm_id]) == {}
    assert searches[-1] == [vm.vm_id]
    assert other.vm_id in meter.read([other.vm_id])


def test_reading_costs_little(start):
    meter, vm = QemuMeter(), start()
    meter.read([vm.vm_id])
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(50):
        meter.read([vm.vm_id])
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent / 50 < 0.002


def test_threads_may_read_at_once(start):
    meter, vms = QemuMeter(), [start(), start()]
    wanted = [vm.vm_id for vm in vms]
    before = descriptors()
    with ThreadPoolExecutor(4) as pool:
        readings = list(pool.map(lambda _: meter.read(wanted), range(40)))
    assert all(found.keys() == set(wanted) for found in readings)
    assert descriptors() == before
