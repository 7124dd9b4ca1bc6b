"""Whatever text a checked spec may hold comes back as it was (F41)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from magpie_local.domain.ids import new_job_id
from magpie_local.domain.spec import JobSpec
from magpie_local.domain.states import EventKind

if TYPE_CHECKING:
    from magpie_local.store import Store

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
env = st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True), text, max_size=5)
shared_store = settings(
    max_examples=60,
    deadline=None,
    database=None,  # nothing is written beside the sources, which may be read-only
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@shared_store
@given(name=text, description=text, env=env, script=st.binary(min_size=1, max_size=200))
@example(name="'; DROP TABLE jobs; --", description='"`$(id)`\u202e', env={"A": 'it\'s\n"x"\r\t'}, script=b"\xff'\n")
@example(name="x", description="", env={f"K{at}": "ä" * 60_000 for at in range(8)}, script=b"x")
async def test_a_spec_comes_back_as_it_was(
    store: Store, name: str, description: str, env: dict[str, str], script: bytes
) -> None:
    spec = JobSpec(name=name, description=description, env=env, script=script)
    [returned] = await store.jobs.add([(new_job_id(), spec)])
    stored = await store.jobs.get(returned.id)
    assert stored == returned
    assert (stored.name, stored.description, stored.env) == (name, description, env)
    assert (await store.jobs.inputs(returned.id)).script == script


@shared_store
@given(reason=text, detail=st.dictionaries(text, st.none() | text | st.booleans() | st.integers(), max_size=4))
async def test_reasons_and_details_come_back_as_they_were(
    store: Store, reason: str, detail: dict[str, str | int | None]
) -> None:
    [job] = await store.jobs.add([(new_job_id(), JobSpec(name="job", script=b"true"))])
    await store.leader.waiting(job.id, reason)
    stored = await store.jobs.get(job.id)
    assert stored is not None
    assert stored.waiting == reason
    claimed = await store.leader.claim(job.id, boot_id="boot")
    assert claimed is not None
    _, attempt = claimed
    await store.leader.record(attempt, EventKind.NOTE, detail)
    assert (await store.jobs.story(job.id))[-1].detail == detail
