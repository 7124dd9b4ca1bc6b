"""Templates, the pool and the proof, through both faces."""

from __future__ import annotations

import os
import shutil
import time
from collections import namedtuple
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local import Magpie, PoolStatus, TemplateInfo, config
from magpie_local.domain.shape import Shape
from magpie_local.domain.template import MANIFEST, PARTS, Template
from magpie_local.engine.warm import policy
from magpie_local.engine.warm.report import PoolReport, write_report
from magpie_local.engine.warm.shelf import TemplateShelf
from magpie_local.errors import ImageNotFound, InvalidInput, TemplateFailed, TemplateNotFound, WaitTimeout

if TYPE_CHECKING:
    from magpie_local.config import Settings

KEY = "0123456789abcdef"


def plant(settings: Settings, key: str = KEY, used_at: float = 5000.0) -> TemplateShelf:
    """Put a whole template on the shelf that no leader has made."""
    folder = config.layout(settings).templates
    # Made elsewhere: a leader that just begins removes what is half made.
    aside = TemplateShelf(settings.home / "aside", "boot")
    made = aside.begin(key)
    for part in PARTS:
        (made / part).write_bytes(b"x" * 5000)
    template = Template(
        key=key, shape=Shape("base", 2, 256), image_version="1", accelerator="tcg", made_with="a test",
        created_at=1000.0, folder=made,
    )  # fmt: skip
    aside.finish(template)
    os.utime(made / "used", (used_at, used_at))
    folder.mkdir(exist_ok=True)
    made.rename(folder / key)
    return TemplateShelf(folder, "boot")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the warmer begin right after a start, on a machine that may be busy or small."""
    monkeypatch.setattr(policy, "QUIET", 0.0)
    monkeypatch.setattr(policy, "RESERVE", 0.0)


def test_a_list_shows_what_lies_on_the_shelf(warm_client: Any, warm_settings: Settings) -> None:
    assert warm_client.templates.list() == []
    plant(warm_settings)
    plant(warm_settings, "fedcba9876543210", used_at=6000.0)

    first, second = warm_client.templates.list()

    assert (first.key, second.key) == ("fedcba9876543210", KEY)
    assert (second.image, second.vcpus, second.memory_mb, second.shape) == ("base", 2, 256, "base:2:256")
    assert second.to_json() == {
        "key": KEY, "image": "base", "vcpus": 2, "memory_mb": 256, "accelerator": "tcg", "size": second.size,
        "made_with": "a test", "problem": None, "created_at": "1970-01-01T00:16:40+00:00",
        "used_at": "1970-01-01T01:23:20+00:00",
    }  # fmt: skip
    assert second.size >= 5000 * len(PARTS)


def test_a_damaged_manifest_is_listed_with_its_problem(warm_client: Any, warm_settings: Settings) -> None:
    plant(warm_settings)
    (config.layout(warm_settings).templates / KEY / MANIFEST).write_text("{")

    (only,) = warm_client.templates.list()

    assert (only.key, only.image, only.created_at) == (KEY, "", None)
    assert "manifest.json can't be read" in only.problem
    assert "damaged" in repr(only)


def test_a_template_is_removed_by_a_beginning_of_its_key(warm_client: Any, warm_settings: Settings) -> None:
    shelf = plant(warm_settings)

    done = warm_client.templates.remove("0123")

    assert str(done) == f"template {KEY}: deleted"
    assert shelf.contents() == []


def test_a_beginning_that_means_none_or_two_removes_none(warm_client: Any, warm_settings: Settings) -> None:
    shelf = plant(warm_settings)
    plant(warm_settings, KEY[:8] + "00000000")

    with pytest.raises(TemplateNotFound):
        warm_client.templates.remove("ffff")
    with pytest.raises(InvalidInput, match="several templates"):
        warm_client.templates.remove(KEY[:8])
    for wrong in ("", "012", None, "..", "../../"):
        with pytest.raises((InvalidInput, TemplateNotFound)):
            warm_client.templates.remove(wrong)
    assert len(shelf.contents()) == 2


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"vcpus": 0}, InvalidInput), ({"memory_mb": 1}, InvalidInput), ({"memory_mb": 10**9}, InvalidInput),
        ({"image": "../base"}, InvalidInput), ({"image": "fedora"}, ImageNotFound), ({"timeout": -1}, InvalidInput),
    ],
)  # fmt: skip
def test_a_shape_that_can_not_be_is_refused_as_a_job_of_it_is(warm_client: Any, fields: Any, error: type) -> None:
    with pytest.raises(error):
        warm_client.templates.warm(**fields)

    assert warm_client.templates.list() == []


def test_without_templates_none_can_be_made(client: Any) -> None:
    with pytest.raises(InvalidInput, match="templates: 0 is not allowed; it is off") as caught:
        client.templates.warm(memory_mb=64)

    assert "MAGPIE_TEMPLATES" in caught.value.hint


def test_the_proof_wants_a_number_that_can_be_compared(client: Any) -> None:
    for n in (1, 0, -1, 65, "4", True):
        with pytest.raises(InvalidInput, match="n: "):
            client.verify_forks(n)


def test_a_template_is_made_once_and_then_used(warm_client: Any) -> None:
    made = warm_client.templates.warm(memory_mb=64)
    again = warm_client.templates.warm(memory_mb=64)
    job = warm_client.jobs.run_and_wait("job", "true", memory_mb=64)

    assert isinstance(made, TemplateInfo)
    assert (made.key, made.shape, made.problem) == (again.key, "base:1:64", None)
    assert made.created_at == again.created_at
    assert (job.start, job.isolation) == ("fork", "shared")


def test_a_private_job_boots(warm_client: Any) -> None:
    warm_client.templates.warm(memory_mb=64)

    job = warm_client.jobs.run_and_wait("job", "true", memory_mb=64, isolation="private")

    assert (job.start, job.isolation) == ("cold", "private")
    assert job.to_json()["start"] == "cold"


def test_an_isolation_that_does_not_exist_is_refused(client: Any) -> None:
    with pytest.raises(InvalidInput, match="shared, private"):
        client.jobs.create("job", "true", isolation="strict")


def test_a_template_that_can_not_be_made_is_refused_with_the_reason(
    warm_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10, 10, 0))

    with pytest.raises(TemplateFailed, match=r"There is no template of base:1:64: .* are free"):
        warm_client.templates.warm(memory_mb=64)

    assert warm_client.templates.list() == []


def test_waiting_for_a_template_ends_when_its_time_is_over(warm_client: Any) -> None:
    with pytest.raises(WaitTimeout, match="base:1:64"):
        warm_client.templates.warm(memory_mb=64, timeout=0)


def test_the_pool_is_off_where_nobody_wants_one(warm_client: Any) -> None:
    warm_client.templates.warm(memory_mb=64)

    pool = warm_client.monitoring.pool()

    assert (pool.leader, pool.on, pool.waiting) == ("this", False, {})
    assert str(pool) == "no pool: the process that leads keeps none"


def test_what_a_leader_that_was_killed_has_left_says_nothing(warm_settings: Settings) -> None:
    with Magpie(settings=warm_settings, lead=False) as reader:
        report = PoolReport(forks=2, memory_mb=600, used_mb=240, waiting={"base:1:64": 2})
        write_report(config.layout(warm_settings).pool_report, report)

        pool = reader.monitoring.pool()

    assert pool == PoolStatus(leader="none", on=False)
    assert str(pool) == "no pool: nobody leads"


@pytest.mark.usefixtures("at_once")
def test_the_pool_shows_its_forks_to_every_process(warm_settings: Settings) -> None:
    settings = replace(warm_settings, pool=1, pool_memory=2 * policy.FORK_COST_MB * 1024 * 1024)
    with Magpie(settings=settings) as leader, Magpie(settings=settings, lead=False) as reader:
        leader.templates.warm(memory_mb=64)
        waited = leader.jobs.create("job", "true", memory_mb=64)
        leader.jobs.wait(waited.id)
        pool = reached(reader, 1)
        status = reader.monitoring.engine()
        job = leader.jobs.run_and_wait("job", "true", memory_mb=64)

    assert (pool.leader, pool.on, pool.waiting) == ("other", True, {"base:1:64": 1})
    assert str(pool) == "1 wait, 0 coming, 160.0 MiB of 320.0 MiB"
    assert (status.templates, status.templates_budget, status.jobs) == (1, settings.templates, {})
    assert status.to_json()["pool"] == status.pool.to_json()
    assert job.start == "pool"


def test_the_proof_finds_that_local_processes_are_no_clean_forks(warm_client: Any) -> None:
    proof = warm_client.verify_forks(3, memory_mb=64)

    found = {check.name: check.ok for check in proof.checks}
    assert (proof.ok, proof.n, proof.template) == (False, 3, warm_client.templates.list()[0].key)
    # They have this machine's names, and randomness and clocks of their own.
    assert not found["boot_id"]
    assert all(found[name] for name in ("urandom", "getrandom", "python_uuid4", "bash_srandom", "clock"))
    assert all(found[name] for name in ("started from the template", "template unchanged"))
    assert warm_client.jobs.list() == []


def reached(client: Magpie, waiting: int) -> PoolStatus:
    """Return the pool's state once so many forks wait."""
    give_up = time.monotonic() + 30
    while sum((pool := client.monitoring.pool()).waiting.values()) != waiting:
        assert time.monotonic() < give_up, pool
        time.sleep(0.05)
    return pool
