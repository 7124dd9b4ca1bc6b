"""The fingerprint changes with all that a snapshot depends on, and with nothing else."""

from __future__ import annotations

import os

import pytest

from magpie_local.domain.vm import Accelerator
from magpie_local.hypervisor import fingerprint as module
from magpie_local.hypervisor.fingerprint import fingerprint

VERSIONS = {"qemu": 7_002_022, "libvirt": 9_000_000}


@pytest.fixture
def emulator(tmp_path) -> str:
    path = tmp_path / "qemu"
    path.write_bytes(b"an emulator")
    return str(path)


def test_it_is_the_same_each_time(emulator):
    first, second = [fingerprint(emulator, VERSIONS, Accelerator.TCG) for _ in range(2)]
    assert first == second


def test_another_version_or_accelerator_changes_it(emulator):
    known = fingerprint(emulator, VERSIONS, Accelerator.TCG)
    assert fingerprint(emulator, VERSIONS | {"qemu": 8_000_000}, Accelerator.TCG) != known
    assert fingerprint(emulator, VERSIONS | {"libvirt": 9_000_001}, Accelerator.TCG) != known
    assert fingerprint(emulator, VERSIONS, Accelerator.KVM) != known


def test_a_rebuilt_emulator_of_the_same_version_changes_it(emulator):
    known = fingerprint(emulator, VERSIONS, Accelerator.TCG)
    os.utime(emulator, (1, 1))
    assert fingerprint(emulator, VERSIONS, Accelerator.TCG) != known


def test_another_machine_changes_it(emulator, monkeypatch):
    known = fingerprint(emulator, VERSIONS, Accelerator.TCG)
    monkeypatch.setattr("magpie_local.hypervisor.domain_xml.PLUGGABLE_DISKS", 3)
    assert fingerprint(emulator, VERSIONS, Accelerator.TCG) != known


def test_the_hosts_cpu_counts_where_the_guest_has_it(emulator, monkeypatch):
    known = [fingerprint(emulator, VERSIONS, accelerator) for accelerator in Accelerator]
    monkeypatch.setattr(module, "cpu_facts", lambda: ["another CPU"])
    now = [fingerprint(emulator, VERSIONS, accelerator) for accelerator in Accelerator]
    changed = dict(zip(Accelerator, [one != two for one, two in zip(known, now, strict=True)], strict=True))
    assert changed == {Accelerator.KVM: True, Accelerator.TCG: False}
