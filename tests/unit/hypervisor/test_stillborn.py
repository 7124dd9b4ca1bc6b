"""The status of a domain whose QEMU never came to be is removed before libvirt opens the root again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from magpie_local.hypervisor.stillborn import remove_stillborn

STATUS = """<!--
WARNING: THIS IS AN AUTO-GENERATED FILE.
-->

<domstatus state='{state}' reason='starting up' pid='{pid}'>
  <domain type='qemu'><name>magpie-1</name></domain>
</domstatus>
"""

#: Another process that locks a file as libvirt does, until its input ends.
HOLDER = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def status(tmp_path):
    folder = tmp_path / "run" / "qemu"
    folder.mkdir(parents=True)
    (folder / "magpie-1.pid").write_text("28248")
    return folder / "magpie-1.xml"


def test_a_domain_without_a_process_is_removed_with_its_pid_file(status, tmp_path):
    status.write_text(STATUS.format(state="paused", pid=0))

    assert remove_stillborn(tmp_path) == ["magpie-1"]
    assert [path.name for path in status.parent.iterdir()] == ["driver.pid"]


def test_nothing_is_touched_while_a_libvirt_has_the_root_open(status, tmp_path):
    status.write_text(STATUS.format(state="paused", pid=0))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, status.parent / "driver.pid"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        held = remove_stillborn(tmp_path)
        holder.communicate()
    freed = remove_stillborn(tmp_path)

    assert (held, freed) == ([], ["magpie-1"])


def test_a_domain_with_a_process_stays(status, tmp_path):
    status.write_text(STATUS.format(state="running", pid=28248))

    assert remove_stillborn(tmp_path) == []
    assert status.exists()


@pytest.mark.parametrize("text", ["", "<domstatus", "<other pid='0'/>", "no XML"])
def test_what_cannot_be_read_is_left_to_libvirt(status, tmp_path, text):
    status.write_text(text)

    assert remove_stillborn(tmp_path) == []
    assert status.exists()


def test_a_root_that_was_never_opened_has_none(tmp_path):
    assert remove_stillborn(tmp_path / "nothing") == []
