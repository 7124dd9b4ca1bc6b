from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from magpie_local.errors import InvalidInput, StateUnavailable
from magpie_local.guest.ssh.access import SshFiles

if TYPE_CHECKING:
    from pathlib import Path

JOB = "0c1d2e3f-0000-4000-8000-00000000beef"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGk4eM0JxP3l6x0S8kqQv3Y0m2m0mC0y5c8k1b0pZ0aB"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_key_and_folder_are_for_their_owner_only_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        SshFiles(tmp_path / "ssh").write(JOB, port=2222, host_key=HOST_KEY)
    finally:
        os.umask(before)

    assert mode(tmp_path / "ssh") == 0o700
    assert {path.name: mode(path) for path in (tmp_path / "ssh").iterdir()} == {
        "key": 0o600, "known_hosts": 0o600, "config": 0o600,
    }  # fmt: skip


def test_openssh_knows_the_key_as_ours(tmp_path):
    public = SshFiles(tmp_path / "ssh").prepare()

    said = subprocess.run(["ssh-keygen", "-y", "-f", tmp_path / "ssh" / "key"], capture_output=True, text=True)

    assert said.stdout.split()[:2] == public.split()
    assert public.startswith("ssh-ed25519 ")


def test_the_key_stays_the_same_when_the_port_changes(tmp_path):
    files = SshFiles(tmp_path / "ssh")
    public = files.prepare()
    files.write(JOB, port=2222, host_key=HOST_KEY)
    files.write(JOB, port=2223, host_key=HOST_KEY)

    assert files.prepare() == public
    assert (tmp_path / "ssh" / "known_hosts").read_text() == f"[127.0.0.1]:2223 {HOST_KEY}\nmagpie-{JOB} {HOST_KEY}\n"


def test_two_vms_have_two_keys(tmp_path):
    assert SshFiles(tmp_path / "one").prepare() != SshFiles(tmp_path / "two").prepare()


def test_openssh_reads_of_the_configuration_what_was_meant(tmp_path):
    access = SshFiles(tmp_path / "a b%h's").write(JOB, port=2222, host_key=HOST_KEY)

    lines = subprocess.run([*access.argv(), "-G"], capture_output=True, text=True, check=True).stdout.splitlines()
    said = dict(line.split(" ", 1) for line in lines if " " in line)

    assert (said["hostname"], said["port"], said["user"]) == ("127.0.0.1", "2222", "magpie")
    assert said["stricthostkeychecking"] == "true"
    assert (said["identitiesonly"], said["identityagent"], said["forwardagent"]) == ("yes", "none", "no")
    assert said["hostkeyalias"] == f"magpie-{JOB}"
    assert said["userknownhostsfile"].strip('"').replace("%%", "%") == str(tmp_path / "a b%h's" / "known_hosts")


def test_the_whole_id_and_its_beginning_are_names_of_the_host(tmp_path):
    access = SshFiles(tmp_path / "ssh").write(JOB, port=2222, host_key=HOST_KEY)

    for name in (JOB, JOB[:8]):
        said = subprocess.run(["ssh", "-F", access.config, "-G", name], capture_output=True, text=True, check=True)
        assert "port 2222" in said.stdout.splitlines()


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline", "${HOME}"])
def test_a_folder_that_openssh_can_not_be_told_of_is_refused(tmp_path, name):
    with pytest.raises(InvalidInput, match="MAGPIE_HOME"):
        SshFiles(tmp_path / name).prepare()
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a b"), ("name", "*"), ("name", ""), ("username", "-oProxyCommand=x"), ("host", "a\nProxyCommand x"),
        ("port", 0), ("port", 65536), ("host_key", f"{HOST_KEY}\n* ssh-ed25519 AAAA"), ("host_key", ""),
    ],
)  # fmt: skip
def test_a_value_that_would_mean_more_than_itself_is_refused(tmp_path, field, value):
    values = {"name": JOB, "port": 2222, "host_key": HOST_KEY} | {field: value}

    with pytest.raises(InvalidInput, match=field):
        SshFiles(tmp_path / "ssh").write(values.pop("name"), **values)


def test_a_folder_that_is_a_link_gets_no_key(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "ssh").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StateUnavailable, match="not a folder of ours"):
        SshFiles(tmp_path / "ssh").prepare()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_damaged_key_is_told_not_replaced(tmp_path):
    files = SshFiles(tmp_path / "ssh")
    files.prepare()
    (tmp_path / "ssh" / "key").write_bytes(b"rubbish")

    with pytest.raises(StateUnavailable, match="damaged"):
        files.prepare()
    assert (tmp_path / "ssh" / "key").read_bytes() == b"rubbish"


def test_nothing_is_left_once_removed_and_twice_is_fine(tmp_path):
    files = SshFiles(tmp_path / "ssh")
    files.write(JOB, port=2222, host_key=HOST_KEY)

    files.remove()
    files.remove()

    assert list(tmp_path.iterdir()) == []


def test_asyncssh_is_imported_only_to_connect():
    code = "import sys, magpie_local.guest.ssh.access, magpie_local.guest.ssh.opener; print('asyncssh' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
