"""Private files."""

from __future__ import annotations

import os

import pytest

from magpie_local.errors import HostError
from magpie_local.hypervisor.files import claim, write_private


def test_claimed_files_are_private_and_keep_their_contents(tmp_path):
    log, console = tmp_path / "log", tmp_path / "console"
    claim(log, console)
    log.write_text("frames")
    claim(log, console)
    assert [path.stat().st_mode & 0o777 for path in (log, console)] == [0o600, 0o600]
    assert log.read_text() == "frames"


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "log").symlink_to(tmp_path / "victim")
    with pytest.raises(HostError, match="log"):
        claim(tmp_path / "log")
    assert os.listdir(tmp_path) == ["log"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(HostError, match="nowhere"):
        claim(tmp_path / "nowhere" / "log")


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "pin"
    write_private(path, "old")
    write_private(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert os.listdir(tmp_path) == ["pin"]
