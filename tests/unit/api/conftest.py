"""Clients on the fake hypervisor: the same suite runs through Magpie and through AsyncMagpie."""

from __future__ import annotations

import asyncio
import inspect
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local import AsyncMagpie, Magpie, config
from magpie_local.errors import JobNotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from magpie_local.config import Settings


class Blocking:
    """Awaited verbs, those of AsyncMagpie or of a part of it, each run to its end on a loop of the test's."""

    def __init__(self, verbs: object, runner: asyncio.Runner) -> None:
        self._verbs = verbs
        self._runner = runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = getattr(self._verbs, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = verb(*args, **kwargs)
            return self._runner.run(result) if inspect.iscoroutine(result) else self._iterate(result)

        return call

    def _iterate(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(items, None)

        while (item := self._runner.run(following())) is not None:
            yield item


@dataclass
class Client:
    """What both faces have in common, for tests."""

    jobs: Any
    kind: str
    templates: Any
    monitoring: Any
    workspaces: Any
    verify_forks: Callable[..., Any]

    def reached(self, job_id: str, *statuses: str) -> Any:
        """Return the job once it has one of the statuses."""
        give_up = time.monotonic() + 20
        while (job := self.jobs.get(job_id)).status not in statuses:
            assert time.monotonic() < give_up, f"still {job.status}"
            time.sleep(0.02)
        return job

    def running(self, script: str, **fields: Any) -> Any:
        """Return a job that runs."""
        return self.reached(self.jobs.create("job", script, memory_mb=64, **fields).id, "running")


@contextmanager
def short_folder() -> Iterator[Path]:
    """Make a folder whose path is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="mag", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def fake_settings(home: Path, **changes: object) -> Settings:
    usual: dict[str, object] = {
        "hypervisor": "fake", "keeper": False, "cpus": 16, "stop_grace": 0.5, "templates": 0, "pool": 0,
    }  # fmt: skip
    return config.load({"MAGPIE_CONFIG": ""}, home=home, **usual | changes)


def clear(settings: Settings) -> None:
    """Delete what a test left running."""
    with Magpie(settings=settings) as client:
        for job in client.jobs.list(limit=1000):
            with suppress(JobNotFound):  # the test has asked for that already
                client.jobs.delete(job.id, force=True)


@contextmanager
def opened(kind: str, settings: Settings) -> Iterator[Client]:
    """Open one of the two faces."""
    if kind == "Magpie":
        with Magpie(settings=settings) as blocking:
            yield Client(
                blocking.jobs, kind, blocking.templates, blocking.monitoring, blocking.workspaces,
                blocking.verify_forks,
            )  # fmt: skip
        return
    with asyncio.Runner() as runner:
        client = AsyncMagpie(settings=settings)
        jobs, templates, monitoring, workspaces, whole = (
            Blocking(part, runner)
            for part in (client.jobs, client.templates, client.monitoring, client.workspaces, client)
        )
        yield Client(jobs, kind, templates, monitoring, workspaces, whole.verify_forks)
        runner.run(client.close())


@pytest.fixture(scope="module", params=["Magpie", "AsyncMagpie"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """Return a client that all tests of a module share; each test makes jobs of its own."""
    with short_folder() as folder:
        settings = fake_settings(folder / "state")
        with opened(request.param, settings) as made:
            yield made
        clear(settings)


@pytest.fixture(params=["Magpie", "AsyncMagpie"])
def warm_client(request: pytest.FixtureRequest, warm_settings: Settings) -> Iterator[Client]:
    """Return a client whose engine makes and uses templates."""
    with opened(request.param, warm_settings) as made:
        yield made


@pytest.fixture
def warm_settings() -> Iterator[Settings]:
    """Return the settings of a state directory with templates, and without a pool."""
    with short_folder() as folder:
        made = fake_settings(folder / "state", templates="1GiB")
        yield made
        clear(made)


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Return the settings of a state directory of the test's own."""
    with short_folder() as folder:
        made = fake_settings(folder / "state")
        yield made
        if made.home.is_dir():
            clear(made)
