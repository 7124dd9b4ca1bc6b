"""What an identity is made of, and how a guest writes it down."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys

import pytest

from magpie_local.domain.ids import new_vm_id
from magpie_local.guest.agent.identity import FIELDS, put, renamed
from magpie_local.guest.channel import AgentGuest


async def test_no_two_identities_share_anything():
    one, two = [await AgentGuest().new_identity(new_vm_id()) for _ in range(2)]
    assert [field for field in FIELDS if getattr(one, field) == getattr(two, field)] == []


async def test_the_host_key_is_one_that_openssh_takes(tmp_path):
    identity = await AgentGuest().new_identity(new_vm_id())
    key = tmp_path / "key"
    put(str(key), identity.host_key, 0o600)
    command = ["ssh-keygen", "-y", "-f", key]
    told = (await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)).stdout
    assert told.split()[:2] == identity.host_key_public.split()[:2]
    assert told.startswith("ssh-ed25519 ")


def test_who_makes_an_identity_only_then_loads_what_makes_keys():
    code = "import sys, magpie_local.guest.channel; print([m for m in sys.modules if m.startswith('cryptography')])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "[]\n"


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("127.0.0.1 localhost old\n::1 localhost\n", "127.0.0.1 localhost new\n::1 localhost\n"),
        ("127.0.0.1 localhost\n127.0.1.1\told # me", "127.0.0.1 localhost\n127.0.1.1 new # me\n"),
        ("127.0.0.1 older\n", "127.0.0.1 older\n127.0.1.1 new\n"),
        ("", "127.0.1.1 new\n"),
    ],
)
def test_a_renamed_vm_still_finds_itself(hosts, expected):
    assert renamed(hosts, "old", "new") == expected
    assert renamed(expected, "new", "new") == expected


def test_a_file_is_overwritten_whole_and_keeps_its_mode(tmp_path):
    path = tmp_path / "file"
    for text in ("a longer text\n", "short\n", "a longer text\n"):
        put(str(path), text, 0o600)
        assert path.read_text() == text
    path.chmod(0o640)
    put(str(path), "again", 0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
