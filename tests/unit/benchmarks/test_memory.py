from __future__ import annotations

import mmap
import os
import subprocess
import sys
import uuid

import pytest

from benchmarks.memory import process_pss, proportional_set_size
from magpie_local.domain.sizes import MIB


def test_memory_that_a_process_writes_counts_in_full():
    before = process_pss(os.getpid())
    with mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.write(b"x" * 64 * MIB)
        grown = process_pss(os.getpid()) - before
    assert grown > 60 * MIB


def test_a_vm_is_found_by_its_id(tmp_path):
    vm_id = str(uuid.uuid4())
    qemu = tmp_path / "qemu-system-test"
    qemu.symlink_to(sys.executable)
    command = [str(qemu), "-c", "print(flush=True); input()", "-uuid", vm_id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = proportional_set_size(vm_id)
        process.communicate(b"\n")
    assert found > MIB


def test_a_vm_without_a_process_has_no_memory():
    with pytest.raises(ProcessLookupError, match="no QEMU process runs the VM nothing"):
        proportional_set_size("nothing")


def test_a_process_that_has_ended_has_no_memory():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    with pytest.raises(ProcessLookupError):
        process_pss(process.pid)
