from __future__ import annotations

import pytest

from magpie_local.cli.demo import stages
from magpie_local.domain.ids import JobId
from magpie_local.domain.job import Event
from magpie_local.domain.states import EventKind as E


def test_stages_last_from_one_known_event_to_the_next() -> None:
    times = [(0.0, E.ACCEPTED), (0.5, E.CLAIMED), (0.6, E.NOTE), (1.0, E.VM_BOOTING), (6.0, E.VM_READY)]
    story = [
        Event(seq=n, job_id=JobId("x"), attempt=1, time=1000 + at, kind=kind) for n, (at, kind) in enumerate(times)
    ]

    names, seconds = zip(*stages(story), strict=True)

    assert names == ("waits for its turn", "VM is started", "guest boots until its agent answers")
    assert seconds == pytest.approx((0.5, 0.5, 5.0))
