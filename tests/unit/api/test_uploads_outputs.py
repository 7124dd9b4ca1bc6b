"""What a job is given before its script, and what it hands over after it, through the blocking client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from magpie_local import InvalidInput, Magpie
from magpie_local.errors import GuestFileNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from magpie_local.config import Settings


@pytest.fixture
def client(settings: Settings) -> Iterator[Magpie]:
    with Magpie(settings=settings) as client:
        yield client


def test_files_and_folders_are_there_before_the_script(client: Magpie, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "empty").mkdir(parents=True)
    (tree / "run.sh").write_bytes(b"#!/bin/sh\necho ran\n")
    (tree / "run.sh").chmod(0o755)
    uploads = {"data/one.txt": b"one", "secret": (b"two", 0o600), "code": tree}
    script = "cat data/one.txt; stat -c %a secret; ./code/run.sh; test -d code/empty && echo empty"
    job = client.jobs.run_and_wait("job", script, memory_mb=64, uploads=uploads)
    assert client.jobs.get_logs(job.id) == "one600\nran\nempty\n"
    client.jobs.delete(job.id)
    assert list((client.settings.home / "uploads").iterdir()) == []


def test_a_list_keeps_the_names(client: Magpie, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1,2")
    job = client.jobs.run_and_wait("job", "cat data.csv", memory_mb=64, uploads=[tmp_path / "data.csv"])
    assert client.jobs.get_logs(job.id) == "1,2"


@pytest.mark.parametrize(
    "uploads",
    [{"../up": b""}, {"": b""}, {"a\0b": b""}, {"x": 5}, {"x": "/no/such/file"}, "text", [5], {5: b""}],
    ids=repr,
)
def test_what_is_no_upload_is_refused_and_nothing_is_stored(client: Magpie, uploads: object) -> None:
    with pytest.raises(InvalidInput):
        client.jobs.create("job", "true", memory_mb=64, uploads=uploads)  # type: ignore[arg-type]
    assert client.jobs.list() == []
    assert not any((client.settings.home / "uploads").glob("*"))


def test_outputs_are_there_when_the_job_has_ended(client: Magpie, tmp_path: Path) -> None:
    script = "mkdir -p out/deep; echo 1 > out/a.csv; echo 2 > out/deep/b.csv; echo 3 > rest; exit 3"
    job = client.jobs.run_and_wait("job", script, memory_mb=64, outputs=["out/**/*.csv", "nothing*"])
    assert job.exit_code == 3
    outputs = client.jobs.outputs(job.id)
    assert [(one.path, one.size) for one in outputs.list()] == [("out/a.csv", 2), ("out/deep/b.csv", 2)]
    assert outputs.read("out/deep/b.csv") == b"2\n"
    assert "no file matches nothing*" in " ".join(map(str, client.jobs.story(job.id)))
    outputs.download(tmp_path / "got")
    assert (tmp_path / "got" / "out" / "a.csv").read_text() == "1\n"
    with pytest.raises(InvalidInput, match="overwritten"):
        outputs.download(tmp_path / "got")
    with pytest.raises(GuestFileNotFound):
        outputs.read("rest")


def test_more_than_the_limit_is_not_collected_and_the_job_succeeds(client: Magpie) -> None:
    script = "head -c 300000 /dev/zero > large; echo small > small"
    options = {"memory_mb": 64, "outputs": ["large", "small"], "outputs_limit": 100_000}
    job = client.jobs.run_and_wait("job", script, **options)  # type: ignore[arg-type]
    assert job.success
    assert "large" not in [one.path for one in client.jobs.outputs(job.id).list()]
    assert any("outputs" in str(event) for event in client.jobs.story(job.id))


@pytest.mark.parametrize("outputs", ["*.csv", [""], ["../up"], [5], 5, ["a\nb"]], ids=repr)
def test_what_is_no_pattern_is_refused(client: Magpie, outputs: object) -> None:
    with pytest.raises(InvalidInput, match="outputs"):
        client.jobs.create("job", "true", outputs=outputs)  # type: ignore[arg-type]
