from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from magpie_local.errors import InvalidInput, JobNotFound
from magpie_local.lookup import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local import Job, Magpie

FIRST, SECOND = "3f2a9c1e-0000-4000-8000-000000000001", "3f2a0000-0000-4000-8000-000000000002"


class Listing:
    """A client with jobs to list, in pages."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = self
        self._all = jobs

    def list(self, limit: int, before: str | None) -> list[Job]:
        begin = 0 if before is None else [job.id for job in self._all].index(before) + 1
        return self._all[begin : begin + limit]


@pytest.fixture
def client(a_job: Callable[..., Job]) -> Magpie:
    jobs = [a_job(id=FIRST), *(a_job(id=f"{n:08x}-0000-4000-8000-000000000000") for n in range(2500)), a_job(id=SECOND)]
    return Listing(jobs)  # type: ignore[return-value]  # all that resolve uses


@pytest.mark.parametrize("text", ["3f2a9", "3F2A9C1E", FIRST[:-1], " 3f2a9 "])
def test_a_prefix_that_one_job_has_means_that_job(client: Magpie, text: str) -> None:
    assert resolve(client, text) == FIRST


def test_a_prefix_is_looked_up_beyond_the_first_page(client: Magpie) -> None:
    assert resolve(client, "3f2a0") == SECOND


def test_a_prefix_that_several_jobs_have_is_refused_with_their_ids(client: Magpie) -> None:
    with pytest.raises(InvalidInput, match=FIRST) as caught:
        resolve(client, "3f2a")

    assert SECOND in str(caught.value)


def test_a_short_prefix_is_refused(client: Magpie) -> None:
    with pytest.raises(InvalidInput, match="at least 4"):
        resolve(client, "3f2")


def test_a_prefix_that_no_job_has_is_not_found(client: Magpie) -> None:
    with pytest.raises(JobNotFound, match="dead"):
        resolve(client, "deadbeef")


@pytest.mark.parametrize("text", [FIRST, "../../etc", "job_abc123xyz", "<b>"])
def test_what_is_no_prefix_is_left_to_the_client_to_judge(client: Magpie, text: str) -> None:
    assert resolve(client, text) == text
