"""The outputs of a script: what a pattern means, streams that others can read, and what is said of them."""

from __future__ import annotations

import fnmatch
import io
import os
import subprocess
import tarfile
import threading
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_local.domain.exitrecord import OutputsRecord, parse_exit
from magpie_local.domain.frames import pack
from magpie_local.guest.agent.outputs import Outputs
from magpie_local.guest.agent.patterns import fits, matches


@pytest.fixture
def tree(tmp_path):
    """A working directory with all kinds of things."""
    folder = tmp_path / "home"
    for name in ("a.txt", "b.txt", ".hidden", "out/one.bin", "out/deep/er/two.bin", "out/.cache/x", "empty.d/.keep"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (folder / "empty.d/.keep").unlink()
    (folder / "out/one.bin").chmod(0o755)
    return folder


def collected(folder: Path, *patterns: str, limit: int = 1 << 20) -> tuple[dict[str, bytes | None], dict[str, object]]:
    """Collect, read the stream with a library, and check what is counted; the contents by name, None for folders."""
    stream = folder.parent / "stream.tar"
    stream.unlink(missing_ok=True)
    outputs = Outputs(list(patterns), str(folder), limit)
    report = outputs.collect(lambda: os.open(stream, os.O_WRONLY | os.O_CREAT))
    data = stream.read_bytes()
    assert (report["bytes"], report["crc"]) == (len(data), zlib.crc32(data))
    assert len(data) <= limit + 1024
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
        found = {one.name: archive.extractfile(one).read() if one.isreg() else None for one in members}  # type: ignore[union-attr]
    assert len(found) == len(members)
    assert report["files"] == sum(one.isreg() for one in members)
    return found, report


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.txt", ["a.txt"]),
        ("./a.txt", ["a.txt"]),
        ("*.txt", ["a.txt", "b.txt"]),
        ("[!a].txt", ["b.txt"]),
        ("?.t[a-z]t", ["a.txt", "b.txt"]),
        (".hid*", [".hidden"]),
        ("**/*.bin", ["out/deep/er/two.bin", "out/one.bin"]),
        ("out/**/two.bin", ["out/deep/er/two.bin"]),
        ("out/*/er/**", ["out/deep/er/two.bin"]),
        ("out/deep/", ["out/deep", "out/deep/er", "out/deep/er/two.bin"]),
        ("out/deep", ["out/deep", "out/deep/er", "out/deep/er/two.bin"]),
        ("empty.d", ["empty.d"]),
        ("out/.cache", ["out/.cache", "out/.cache/x"]),
        ("*", ["a.txt", "b.txt", "empty.d", "out", *sorted(["out/.cache", "out/.cache/x", "out/deep", "out/deep/er",
               "out/deep/er/two.bin", "out/one.bin"])]),
    ],
)  # fmt: skip
def test_a_pattern_means_what_it_does_in_a_shell(tree, pattern, names):
    found, report = collected(tree, pattern)
    assert sorted(found) == names
    assert (report["missed"], report["truncated"], report["note"]) == ([], False, "")


def test_a_dot_is_all_of_the_working_directory(tree):
    assert set(collected(tree, ".")[0]) >= {".hidden", "a.txt", "out/.cache/x", "empty.d"}


def test_absolute_patterns_are_named_from_the_root(tree):
    found, _ = collected(tree, f"{tree}/*.txt")
    assert sorted(found) == [f"{tree}/a.txt"[1:], f"{tree}/b.txt"[1:]]


@pytest.mark.parametrize(
    "pattern", ["nothing", "../home/a.txt", "out/../a.txt", "a.txt/x", "[", "none*/x", "/nowhere/*"]
)
def test_what_matches_nothing_is_told(tree, pattern):
    found, report = collected(tree, "a.txt", pattern, "a.*")
    assert (list(found), report["missed"], report["truncated"]) == (["a.txt"], [pattern], False)


@given(name=st.text("ab.]-!", min_size=1, max_size=6), pattern=st.text("ab.*?", max_size=8))
def test_a_name_fits_as_a_library_says(name, pattern):
    hidden = name.startswith(".") and not pattern.startswith(".")
    assert fits(name, pattern) == (not hidden and fnmatch.fnmatchcase(name, pattern))


@given(
    character=st.sampled_from("abz-]!"), inside=st.text("abz-", min_size=1, max_size=4), no=st.sampled_from(["", "!"])
)
def test_a_set_of_characters_is_what_a_library_says(character, inside, no):
    # fnmatch drops a range that runs backwards together with what follows; a shell does not agree with itself there.
    if any(inside[at] > inside[at + 2] for at in range(len(inside) - 2) if inside[at + 1] == "-"):
        return
    if "--" not in inside and not inside.startswith("-"):
        assert fits(character, f"[{no}{inside}]") == fnmatch.fnmatchcase(character, f"[{no}{inside}]")


def test_a_pattern_of_many_stars_is_not_slow():
    began = time.process_time()
    assert not fits("a" * 250, "a*" * 60 + "b")
    assert time.process_time() - began < 1.0


def test_modes_times_and_all_kinds_of_names_survive(tree):
    names = ["ü", "n" * 255, "new\nline", "d/" * 20 + "x" * 90, "sp ace"]
    for name in names:
        (tree / "k" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / "k" / name).write_text(name)
    odd = os.path.join(os.fsencode(tree), b"k", b"\xff\xfe")
    Path(os.fsdecode(odd)).write_text("odd")
    os.utime(tree / "out/one.bin", (1.0, 1_234_567_890.0))
    found, _ = collected(tree, "k", "out/one.bin")
    assert {name: found[f"k/{name}"] for name in names} == {name: name.encode() for name in names}
    assert found[os.fsdecode(b"k/\xff\xfe")] == b"odd"
    target = tree.parent / "target"
    target.mkdir()
    subprocess.run(["tar", "-xf", tree.parent / "stream.tar", "-C", target], check=True)
    assert (target / "out/one.bin").stat().st_mode & 0o777 == 0o755
    assert (target / "out/one.bin").stat().st_mtime == 1_234_567_890.0


def test_links_that_stay_are_sent_and_others_are_told(tree):
    for name, goal in (("in", "../a.txt"), ("up", "../../x"), ("abs", "/etc/passwd"), ("loop", "loop")):
        (tree / "out" / name).symlink_to(goal)
    (tree / "out/round").symlink_to(".")
    os.mkfifo(tree / "out/fifo")
    found, report = collected(tree, "out")
    assert {"out/in", "out/loop", "out/round", "out/one.bin"} <= set(found)
    assert not {"out/up", "out/abs", "out/fifo"} & set(found)
    assert str(report["note"]).startswith("3 left out: ")
    assert not report["truncated"]


def test_more_than_the_limit_ends_the_stream_between_two_files(tree):
    (tree / "large").write_bytes(bytes(100_000))
    found, report = collected(tree, "a.txt", "large", "b.txt", limit=50_000)
    assert list(found) == ["a.txt"]
    assert report["truncated"]
    assert "50000 bytes" in str(report["note"])
    assert "large" in str(report["note"])


@pytest.mark.parametrize("limit", [0, 511, 1023, 1024, 1535, 1536, 3000])
def test_the_limit_is_kept_to_the_byte_also_with_long_names(tree, limit):
    (tree / ("ü" * 120)).write_text("x")
    found, report = collected(tree, "ü*", "a.txt", limit=limit)
    assert report["truncated"] == (len(found) < 2)


def test_a_sparse_giant_is_not_read(tree):
    with (tree / "giant").open("wb") as file:
        file.truncate(1 << 40)
    assert collected(tree, "giant")[1]["truncated"]


@pytest.mark.parametrize("change", [b"", b"much more" * 200_000])
def test_a_file_that_changes_while_it_is_read_keeps_the_size_it_had(tree, change):
    path = tree / "changing"
    path.write_bytes(b"x" * 1_000_000)
    read_end, write_end = os.pipe()
    outputs = Outputs(["changing", "a.txt"], str(tree), 1 << 30)
    reports: list[dict[str, object]] = []
    thread = threading.Thread(target=lambda: reports.append(outputs.collect(lambda: write_end)))
    thread.start()
    data = os.read(read_end, 600)  # it stands in the middle of the file now: a pipe holds 64 KiB
    path.write_bytes(change)
    with os.fdopen(read_end, "rb") as rest:
        data += rest.read()
    thread.join()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [(one.name, one.size) for one in archive.getmembers()] == [("changing", 1_000_000), ("a.txt", 5)]
    assert reports[0]["crc"] == zlib.crc32(data)


def test_a_collection_that_is_hurried_ends_soon_and_can_be_read(tree):
    (tree / "large").write_bytes(b"x" * 3_000_000)
    read_end, write_end = os.pipe()
    outputs = Outputs(["large", "a.txt"], str(tree), 1 << 30)
    reports: list[dict[str, object]] = []
    thread = threading.Thread(target=lambda: reports.append(outputs.collect(lambda: write_end)))
    thread.start()
    data = os.read(read_end, 600)
    outputs.hurry()
    with os.fdopen(read_end, "rb") as rest:
        data += rest.read()
    thread.join()
    assert reports[0]["truncated"]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [(one.name, one.size) for one in archive.getmembers()] == [("large", 3_000_000)]


def test_a_port_that_fails_is_told_and_no_error(tree):
    report = Outputs(["a.txt"], str(tree), 1 << 20).collect(lambda: os.open("/dev/full", os.O_WRONLY))
    assert report["truncated"]
    assert "No space left" in str(report["note"])
    report = Outputs(["a.txt"], str(tree), 1 << 20).collect(lambda: os.open("/no/port", os.O_WRONLY))
    assert (report["files"], report["bytes"], report["truncated"]) == (0, 0, True)


def test_what_is_said_always_fits_into_the_end_of_a_log(tree):
    for number in range(9):
        (tree / ("ü" * 120 + str(number))).symlink_to("/" + "ä" * 900)
    _, report = collected(tree, "ü*", *("missing-" + "ö" * 90 + str(number) for number in range(99)))
    assert len(pack(report)) < 2500
    assert isinstance(report["missed"], list)
    assert f"{99 - len(report['missed'])} more patterns" in str(report["note"])


def test_folders_without_end_have_an_end(tmp_path):
    folder = tmp_path / "home"
    path = folder
    path.mkdir()
    for _ in range(200):
        path /= "d"
        path.mkdir()
    found, report = collected(folder, "d")
    assert len(found) < 200
    assert "nested more than 128" in str(report["note"])
    assert len(list(matches(str(folder), "**"))) < 200


def test_a_script_hands_over_its_outputs_whatever_its_end(agent, client):
    client.run(
        b"mkdir -p out; echo result > out/result; (while :; do echo x >> out/result; done) & echo done; exit 3",
        outputs=["out/", "nothing*"], outputs_limit=1 << 28,
    )  # fmt: skip
    record = agent.exit()
    assert record.code == 3
    data = agent.outputs.read_bytes()
    assert record.outputs == OutputsRecord(
        files=1, size=len(data), crc=zlib.crc32(data), missed=("nothing*",), truncated=False, note=""
    )
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        content = archive.extractfile("out/result")
        assert content is not None
        assert content.read().startswith(b"result\n")
        size = archive.getmember("out/result").size
    # What it had left running was ended first.
    assert (agent.home / "out/result").stat().st_size == size


def test_a_persistent_script_hands_them_over_as_well(agent, client):
    client.run(b"echo x > x", outputs=["x"], outputs_limit=4096, persistent=True)
    record = agent.exit()
    assert record.outputs is not None
    assert record.outputs.files == 1
    assert client.answer()["op"] == "exited"
    assert client.hello()["state"] == "exited"


def test_a_script_without_outputs_says_nothing_of_them(agent, client):
    client.run(b"true")
    assert agent.exit().outputs is None
    assert not agent.outputs.exists()


@pytest.mark.parametrize("said", ["x", {}, {"files": -1}, [1], {"files": True}])
def test_a_record_of_outputs_that_makes_no_sense_says_that_they_are_of_no_use(said):
    record = {
        "nonce": "n", "code": 0, "signal": None, "timed_out": False, "stopped": False, "started_at": 1.0,
        "ended_at": 2.0, "outputs": said,
    }  # fmt: skip
    parsed = parse_exit(pack(record), "n")
    assert parsed is not None
    assert parsed.outputs is not None
    assert (parsed.outputs.size, parsed.outputs.truncated) == (0, True)
