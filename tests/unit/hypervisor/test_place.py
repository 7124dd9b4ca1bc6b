"""Which connection is opened, and what is written before."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_local.errors import HypervisorUnavailable
from magpie_local.hypervisor.place import EMBED, SESSION, choose, prepare

ROOT = Path("/state/run/libvirt")


@pytest.mark.parametrize(
    ("root", "daemon", "expected"),
    [(False, True, SESSION), (False, False, EMBED), (True, True, EMBED), (True, False, EMBED)],
)
def test_only_an_ordinary_user_with_a_daemon_gets_the_session(root, daemon, expected):
    assert choose(ROOT, None, root=root, daemon=daemon).partition("?")[0] == expected


def test_a_uri_of_the_users_own_is_taken_as_it_is():
    assert choose(ROOT, "qemu:///system", root=False, daemon=True) == "qemu:///system"


@given(name=st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=40))
def test_any_folder_name_comes_back_from_the_uri(name):
    uri = choose(ROOT / name, EMBED, root=False, daemon=True)
    assert parse_qs(urlsplit(uri).query)["root"] == [str(ROOT / name)]


def test_an_embed_root_is_private_and_has_its_configuration(tmp_path):
    place = prepare(tmp_path / "l", EMBED, {})
    config = tmp_path / "l/etc/qemu.conf"
    assert (place.label, place.folder) == (EMBED, tmp_path / "l")
    assert 'stdio_handler = "file"' in config.read_text()
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "l", config)] == [0o700, 0o600]


def test_preparing_again_changes_nothing(tmp_path):
    assert prepare(tmp_path, EMBED, {}) == prepare(tmp_path, EMBED, {})
    assert os.listdir(tmp_path / "etc") == ["qemu.conf"]


def test_the_first_session_is_kept_by_whoever_comes_with_another(tmp_path):
    first, other = tmp_path / "first", tmp_path / "other"
    first.mkdir()
    before = prepare(tmp_path / "l", SESSION, {"XDG_RUNTIME_DIR": str(first)})
    after = prepare(tmp_path / "l", SESSION, {"XDG_RUNTIME_DIR": str(other)})
    assert before.environment["XDG_RUNTIME_DIR"] == after.environment["XDG_RUNTIME_DIR"] == str(first)


def test_without_a_runtime_folder_the_session_is_in_the_users_cache(tmp_path):
    place = prepare(tmp_path / "l", SESSION, {"XDG_CACHE_HOME": str(tmp_path)})
    assert place.environment["XDG_RUNTIME_DIR"] == str(tmp_path)


def test_a_session_whose_folder_has_gone_is_refused_with_the_cure(tmp_path):
    gone = tmp_path / "gone"
    prepare(tmp_path / "l", SESSION, {"XDG_RUNTIME_DIR": str(gone)})
    with pytest.raises(HypervisorUnavailable, match=str(gone)) as caught:
        prepare(tmp_path / "l", SESSION, {"XDG_RUNTIME_DIR": str(tmp_path)})
    assert "enable-linger" in caught.value.hint


@pytest.mark.parametrize("damage", ["", "[]", json.dumps({"runtime_dir": "/gone", "boot_id": "of an earlier boot"})])
def test_a_pin_that_is_broken_or_of_an_earlier_boot_is_written_anew(damage, tmp_path):
    pin = tmp_path / "session.json"
    pin.write_text(damage)
    place = prepare(tmp_path, SESSION, {"XDG_RUNTIME_DIR": str(tmp_path)})
    assert place.environment["XDG_RUNTIME_DIR"] == json.loads(pin.read_text())["runtime_dir"] == str(tmp_path)


@pytest.mark.parametrize(
    ("uri", "expected"), [(EMBED, "l/log/qemu"), (SESSION, "cache/libvirt/qemu/log")], ids=["embed", "session"]
)
def test_qemus_logs_are_found(uri, expected, tmp_path):
    place = prepare(tmp_path / "l", uri, {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert place.logs == tmp_path / expected
