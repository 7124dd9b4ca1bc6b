"""Templates and pool at the command line, with local processes in the place of VMs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local import Magpie, config
from magpie_local.domain.sizes import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 40


@pytest.fixture
def magpie(place: Any) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command to its end, with templates unless `env` says otherwise."""

    def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "magpie_local.cli", *arguments],
            env={**place.env, "MAGPIE_TEMPLATES": "1GiB", **env},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    return run


def of_json(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_a_template_is_made_listed_used_and_removed(magpie: Callable[..., Any]) -> None:
    made = magpie("images", "warm", "base", "--memory", "64MB")
    assert made.returncode == 0, made.stderr
    key, shape, *_ = made.stdout.split()
    assert shape == "base:1:64"
    assert len(made.stdout.splitlines()) == 1

    (listed,) = of_json(magpie("templates", "list", "--json"))
    run = magpie("run", "--memory", "64MB", "--", "true")
    private = magpie("run", "--memory", "64MB", "--isolation", "private", "--", "true")
    removed = magpie("templates", "rm", key[:6])

    assert (listed["key"], listed["image"], listed["problem"]) == (key, "base", None)
    assert "forked from a template" in run.stderr.splitlines()[-1]
    assert "booted" in private.stderr.splitlines()[-1]
    assert (removed.returncode, removed.stdout) == (0, f"{key}\n")
    assert of_json(magpie("templates", "list", "--json")) == []


def test_the_first_run_leaves_a_template_to_the_next(magpie: Callable[..., Any], eventually: Any) -> None:
    first = magpie("run", "--memory", "64MB", "--", "true")

    assert "booted" in first.stderr.splitlines()[-1]
    # The process that ran the job has left: a keeper makes it.
    assert eventually(lambda: of_json(magpie("templates", "list", "--json")))
    assert "forked" in magpie("run", "--memory", "64MB", "--", "true").stderr.splitlines()[-1]


def test_off_is_off(magpie: Callable[..., Any], place: Any) -> None:
    off = {"MAGPIE_TEMPLATES": "0"}

    run = magpie("run", "--memory", "64MB", "--", "true", **off)
    warm = magpie("images", "warm", "base", **off)

    assert "booted" in run.stderr.splitlines()[-1]
    assert (warm.returncode, warm.stdout) == (2, "")
    assert "MAGPIE_TEMPLATES" in warm.stderr
    assert "Traceback" not in warm.stderr
    assert place.comes_to_rest()
    assert not (place.home / "templates").exists()


def test_removing_what_is_not_there_says_so_once_each(magpie: Callable[..., Any]) -> None:
    done = magpie("templates", "rm", "abcd", "ef01")

    assert done.returncode == 3
    assert done.stderr.count("There is no template") == 2
    assert magpie("templates", "rm", "--all").returncode == 0


def test_all_templates_are_removed_at_once(magpie: Callable[..., Any]) -> None:
    keys = {magpie("images", "warm", "-q", "base", "--memory", f"{size}MB").stdout.split()[0] for size in (64, 128)}

    assert set(magpie("templates", "rm", "--all").stdout.split()) == keys
    assert of_json(magpie("templates", "list", "--json")) == []


def test_status_without_an_id_tells_what_goes_on(magpie: Callable[..., Any]) -> None:
    magpie("images", "warm", "base", "--memory", "64MB")
    told = of_json(magpie("status", "--json"))
    shown = magpie("status")

    assert (told["jobs"], told["templates"]["count"], told["pool"]["on"]) == ({}, 1, False)
    assert told["templates"]["budget"] == 1024 * MIB
    assert "led by:" in shown.stdout
    assert "templates:" in shown.stdout


def test_status_shows_the_pool_of_the_process_that_leads(
    magpie: Callable[..., Any], place: Any, eventually: Any
) -> None:
    environ = {**place.env, "MAGPIE_TEMPLATES": "1GiB", "MAGPIE_POOL": "1", "MAGPIE_POOL_SHAPES": "base:1:64"}

    with Magpie(settings=config.load(environ)):
        assert eventually(lambda: of_json(magpie("status", "--json"))["pool"]["waiting"] == {"base:1:64": 1}, 60)
        shown = magpie("status").stdout

    assert "another process" in shown
    assert "1 wait, 0 coming, 1 wanted" in shown


def test_commands_and_keepers_have_no_pool(magpie: Callable[..., Any], place: Any, eventually: Any) -> None:
    pool = {"MAGPIE_POOL": "2", "MAGPIE_POOL_SHAPES": "base:1:64"}

    job_id = magpie("run", "--detach", "--memory", "64MB", "--", "sleep", "600", **pool).stdout.strip()
    assert eventually(place.keepers)
    (keeper,) = place.keepers()
    kept = Path(f"/proc/{keeper}/environ").read_bytes().split(b"\0")
    assert eventually(lambda: of_json(magpie("status", "--json", **pool))["leader"] == "other")
    told = of_json(magpie("status", "--json", **pool))
    assert magpie("rm", "--force", job_id).returncode == 0

    assert b"MAGPIE_POOL=0" in kept
    assert (told["leader"], told["pool"]["on"], told["pool"]["waiting"]) == ("other", False, {})


def test_a_wrong_pool_is_one_line_with_its_cure(magpie: Callable[..., Any]) -> None:
    for name, value in [("POOL", "-1"), ("TEMPLATES", "-5GiB"), ("POOL_MEMORY", "900TiB"), ("POOL_SHAPES", "base")]:
        done = magpie("ps", **{f"MAGPIE_{name}": value})

        assert (done.returncode, done.stdout) == (2, "")
        assert f"{name.lower()}: '{value}' is not allowed" in done.stderr
        assert f"environment MAGPIE_{name}" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_proof_is_a_table_and_its_failure_the_exit_code(magpie: Callable[..., Any]) -> None:
    shown = magpie("doctor", "--verify-forks", "2")
    told = magpie("doctor", "--verify-forks", "2", "--json")

    # Local processes have this machine's names: the proof must find that.
    assert (shown.returncode, told.returncode) == (1, 1)
    assert "boot_id" in shown.stdout
    assert shown.stdout.splitlines()[-1].endswith("are NOT clean")
    proof = of_json(told)
    assert (proof["ok"], proof["forks"]["ok"], proof["forks"]["n"]) == (False, False, 2)
    assert all(need["ok"] for need in proof["needs"])


def test_completion_knows_the_templates(magpie: Callable[..., Any]) -> None:
    key = magpie("images", "warm", "base", "--memory", "64MB").stdout.split()[0]

    done = magpie(_MAGPIE_COMPLETE="bash_complete", COMP_WORDS=f"magpie templates rm {key[:3]}", COMP_CWORD="3")

    assert key in done.stdout
