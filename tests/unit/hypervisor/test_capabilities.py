"""What libvirt learned about QEMU goes from root to root."""

from __future__ import annotations

import pytest

from magpie_local.hypervisor.capabilities import keep, seed

BELOW = "cache/qemu/capabilities"


@pytest.fixture
def learned(tmp_path):
    """Return a maker of roots in which libvirt has learned something."""

    def make(name: str, contents: str):
        folder = tmp_path / name / BELOW
        folder.mkdir(parents=True)
        (folder / "abc.xml").write_text(contents)
        return tmp_path / name

    return make


def test_what_one_root_learned_the_next_one_has(tmp_path, learned):
    keep(learned("first", "<qemu/>"), tmp_path / "cache")
    seed(tmp_path / "second", tmp_path / "cache")
    copy = tmp_path / "second" / BELOW / "abc.xml"
    assert (copy.read_text(), copy.stat().st_mode & 0o777) == ("<qemu/>", 0o600)


def test_a_root_that_knows_something_is_left_alone(tmp_path, learned):
    keep(learned("first", "<old/>"), tmp_path / "cache")
    second = learned("second", "<new/>")
    seed(second, tmp_path / "cache")
    assert (second / BELOW / "abc.xml").read_text() == "<new/>"


def test_what_was_learned_of_an_upgraded_qemu_replaces_the_old(tmp_path, learned):
    keep(learned("first", "<old/>"), tmp_path / "cache")
    keep(learned("second", "<new/>"), tmp_path / "cache")
    seed(tmp_path / "third", tmp_path / "cache")
    assert (tmp_path / "third" / BELOW / "abc.xml").read_text() == "<new/>"


def test_a_cache_that_can_not_be_made_is_no_error(tmp_path, learned):
    (tmp_path / "cache").write_text("a file")
    root = learned("first", "<qemu/>")
    keep(root, tmp_path / "cache")
    seed(tmp_path / "second", tmp_path / "cache")
    assert not (tmp_path / "second" / BELOW / "abc.xml").exists()
