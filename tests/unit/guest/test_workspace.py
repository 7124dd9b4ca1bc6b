"""How the agent finds, checks and leaves a workspace, as far as that needs no kernel to mount it."""

from __future__ import annotations

import subprocess

import pytest

from magpie_local.guest.agent import workspace
from magpie_local.guest.agent.background import Trouble, run_program
from magpie_local.guest.agent.card import bring_up
from magpie_local.guest.agent.sshd import _TEXT, _listens


@pytest.fixture
def image(tmp_path):
    """An ext4 file system of 16 MiB."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    return image


def test_the_size_of_a_file_system_is_what_its_superblock_says(image):
    with image.open("r+b") as file:
        file.truncate(64 << 20)
    assert workspace.file_system_size(str(image)) == 16 << 20


@pytest.mark.parametrize("content", [b"", bytes(4096), b"\xff" * 4096], ids=["empty", "zeros", "ones"])
def test_what_is_no_ext4_is_refused(tmp_path, content):
    (tmp_path / "image").write_bytes(content)
    with pytest.raises(Trouble, match="no ext4"):
        workspace.file_system_size(str(tmp_path / "image"))


def test_a_check_finds_nothing_to_do_on_a_clean_file_system(image):
    assert workspace._check(str(image)) == (0, "")


def test_a_check_repairs_nothing_that_would_cost_data(image):
    # The block and inode bitmaps, inode table and root folder of the first group.
    with image.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (1 << 20))
        # Not clean: e2fsck looks.
        file.seek(1024 + 0x3A)
        file.write(b"\x02\x00")
    before = image.read_bytes()
    with pytest.raises(Trouble, match=r"e2fsck -p .* ended with code (4|8|12)"):
        workspace._check(str(image))
    with pytest.raises(Trouble):
        workspace._check(str(image))
    assert len(image.read_bytes()) == len(before)


def test_mounts_of_a_device_and_below_a_path_are_found_innermost_first(tmp_path):
    table = tmp_path / "mountinfo"
    table.write_text(
        "21 1 0:20 / / rw - overlay root rw\n"
        "30 21 254:32 / /workspace rw,nosuid - ext4 /dev/vdc rw\n"
        "31 30 0:40 / /workspace/a\\040b\\134 rw - tmpfs t rw\n"
        "32 21 254:32 /x /mnt/other rw - ext4 /dev/vdc rw\n"
        "33 21 254:16 / /workspaces rw - ext4 /dev/vdb rw\n"
    )
    found = workspace.mounts("254:32", "/workspace", str(table))
    assert found == ["/mnt/other", "/workspace/a b\\", "/workspace"]


def test_a_disk_is_found_by_its_serial_also_when_it_comes_late(tmp_path, monkeypatch):
    monkeypatch.setattr(workspace, "_BLOCK_DEVICES", str(tmp_path))
    looks = []

    def pause(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            (tmp_path / "vdc" / "serial").write_text("workspace")

    monkeypatch.setattr("magpie_local.guest.agent.workspace.time.sleep", pause)
    for name, serial in (("vda", ""), ("vdb", "other\n"), ("vdc", None), ("loop0", "workspace")):
        (tmp_path / name).mkdir()
        if serial is not None:
            (tmp_path / name / "serial").write_text(serial)
    assert (workspace.find("workspace"), len(looks)) == ("vdc", 3)


def test_a_disk_that_does_not_come_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(workspace, "_BLOCK_DEVICES", str(tmp_path))
    monkeypatch.setattr(workspace, "FIND_PATIENCE", 0.0)
    with pytest.raises(Trouble, match="no disk has the serial data"):
        workspace.find("data")


def test_a_program_is_told_by_its_code_and_last_words():
    assert run_program(["/bin/sh", "-c", "echo one; echo '  two' >&2; exit 3"]) == (3, "one two")
    assert run_program(["/bin/sh", "-c", "kill -9 $$"]) == (-9, "")
    with pytest.raises(Trouble, match="/nowhere can't be started"):
        run_program(["/nowhere"])


def test_a_vm_without_a_second_card_says_so():
    with pytest.raises(Trouble, match="no second network card"):
        bring_up("169.254.77.15/24")


def test_a_port_that_listens_is_seen_in_the_kernels_table(monkeypatch, tmp_path):
    table = tmp_path / "tcp"
    head = "  sl  local_address rem_address   st tx_queue\n"
    monkeypatch.setattr("magpie_local.guest.agent.sshd._SOCKETS", str(table))
    for state, listens in (("0A", True), ("01", False)):
        table.write_text(f"{head}   0: 0F4DFEA9:0016 00000000:0000 {state} 00000000:00000000\n")
        assert _listens("169.254.77.15") is listens
    table.write_text(f"{head}   0: 00000000:0016 00000000:0000 0A 00000000:00000000\n")
    assert not _listens("169.254.77.15")


def test_sshd_takes_keys_only_and_listens_at_one_address():
    lines = _TEXT.splitlines()
    assert {"PasswordAuthentication no", "KbdInteractiveAuthentication no", "UsePAM no"} <= set(lines)
    assert [line for line in lines if line.startswith("ListenAddress")] == ["ListenAddress {address}"]
