"""`magpie workspaces` as a user types it, with real disk files and no VM."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Type = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
SOURCE = str(Path(__file__).resolve().parents[2])


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mag", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def magpie(folder: Path) -> Type:
    environment = {**os.environ, "MAGPIE_HOME": str(folder / "state"), "MAGPIE_CONFIG": "", "PYTHONPATH": SOURCE}

    def type_(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "magpie_local.cli", "workspaces", *arguments],
            env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done

    return type_


def test_a_workspace_from_its_beginning_to_its_end(magpie: Type, folder: Path) -> None:
    assert magpie("create", "w", "--size", "2").stdout == "w\n"
    assert magpie("snapshot", "w", "empty").stdout == "empty\n"
    assert magpie("resize", "w", "3GB").stdout == "3\n"
    assert magpie("clone", "w", "copy").stdout == "copy\n"
    assert magpie("create", "derived", "--base", "w").stdout == "derived\n"
    assert magpie("export", "w", "file.qcow2").stdout == f"{folder}/file.qcow2\n"
    assert magpie("rollback", "w", "empty").stdout == "empty\n"
    assert magpie("import", "file.qcow2", "back").stdout == "back\n"

    listed = {one["id"]: one for one in json.loads(magpie("list", "--json").stdout)}
    assert {name: one["size_gb"] for name, one in listed.items()} == {"w": 2, "copy": 3, "derived": 3, "back": 3}
    assert json.loads(magpie("show", "w", "--json").stdout) == listed["w"]
    assert [one["name"] for one in json.loads(magpie("snapshots", "w", "--json").stdout)] == ["empty"]
    assert magpie("remove-snapshot", "w", "empty").stdout == "empty\n"
    assert magpie("delete", *listed).stdout.split() == list(listed)
    assert list((folder / "state" / "workspaces").iterdir()) == []


def test_without_any_the_way_to_one_is_told_on_stderr(magpie: Type) -> None:
    done = magpie("list")

    assert done.stdout == ""
    assert "magpie workspaces create" in done.stderr
    assert json.loads(magpie("list", "--json").stdout) == []


def test_tables_are_for_people(magpie: Type) -> None:
    magpie("create", "w", "--size", "1")
    magpie("snapshot", "w", "s")

    assert magpie("list").stdout.splitlines()[1].split()[:3] == ["w", "1.0", "GiB"]
    assert magpie("snapshots", "w").stdout.splitlines()[1].split()[:3] == ["s", "1.0", "GiB"]
    assert "file system:  unmounted" in magpie("show", "w").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "nobody"], 3, "There is no workspace 'nobody'"),
        (["show", "../x"], 2, "lower-case letters, digits and hyphens"),
        (["rollback", "w", "nothing"], 3, "no snapshot 'nothing'"),
        (["create", "w"], 2, "There is a workspace w already"),
        (["resize", "w", "1"], 2, "from 2"),
        (["resize", "w", "much"], 2, "512MB"),
        (["export", "w", "there"], 2, "nothing is overwritten"),
        (["import", "there", "new"], 2, "is no qcow2 file"),
        (["import", "missing", "new"], 2, "does not exist"),
        (["delete", "nobody", "w"], 3, "There is no workspace 'nobody'"),
        (["delete"], 2, "Missing argument"),
    ],
)
def test_errors_are_told_on_stderr_with_their_exit_code(
    magpie: Type, folder: Path, arguments: list[str], code: int, said: str
) -> None:
    magpie("create", "w", "--size", "2")
    (folder / "there").write_text("precious")

    done = magpie(*arguments, code=code)

    assert said in done.stderr
    assert done.stdout == ("w\n" if arguments[0] == "delete" and code == 3 else "")
    assert (folder / "there").read_text() == "precious"


def test_a_shell_completes_ids(folder: Path, magpie: Type) -> None:
    magpie("create", "my-project", "--size", "1")
    environment = {
        **os.environ, "MAGPIE_HOME": str(folder / "state"), "MAGPIE_CONFIG": "", "PYTHONPATH": SOURCE,
        "_MAGPIE_COMPLETE": "bash_complete", "COMP_WORDS": "magpie workspaces show my", "COMP_CWORD": "3",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "magpie_local.cli"], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "plain,my-project"
