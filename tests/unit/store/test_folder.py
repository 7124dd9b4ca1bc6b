from __future__ import annotations

from pathlib import Path

import pytest

from magpie_local.errors import StateUnavailable
from magpie_local.store import folder

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /home rw - btrfs /dev/sdb rw
30 23 0:40 / /home/me/nas rw - nfs4 nas:/export rw,vers=4.2
31 23 0:41 / /home/me/with\\040blank rw master:2 - fuse.sshfs me@host: rw
32 22 0:42 / /over rw - ext4 /dev/sdc rw
33 22 0:43 / /over rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/me", "btrfs"),
        ("/home/me/nas", "nfs4"),
        ("/home/me/nas/deep/er", "nfs4"),
        ("/home/me/nasty", "btrfs"),
        ("/home/me/with blank/x", "fuse.sshfs"),
        ("/over/x", "cifs"),
    ],
)
def test_a_path_lies_on_the_nearest_and_newest_mount_above_it(path: str, kind: str) -> None:
    assert folder.file_system(Path(path), MOUNTS) == kind


def test_without_a_list_of_mounts_the_file_system_is_unknown() -> None:
    assert folder.file_system(Path("/x"), "") is None


def test_a_folder_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "mounts", lambda: f"1 0 0:9 / {tmp_path} rw - nfs4 nas:/x rw\n")
    with pytest.raises(StateUnavailable, match="lies on nfs4"):
        folder.prepare(tmp_path / "state")
