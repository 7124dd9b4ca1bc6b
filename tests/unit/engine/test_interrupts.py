"""Interrupts that wait for the leader."""

from __future__ import annotations

import stat

from magpie_local.domain.ids import new_job_id
from magpie_local.engine.interrupts import Interrupts


def test_an_interrupt_waits_until_it_is_carried_out(tmp_path):
    interrupts, job_id = Interrupts(tmp_path / "interrupts"), new_job_id()
    assert interrupts.all() == []

    interrupts.ask(job_id)
    interrupts.ask(job_id)

    assert Interrupts(tmp_path / "interrupts").all() == [job_id]
    assert stat.S_IMODE((tmp_path / "interrupts").stat().st_mode) == 0o700
    interrupts.forget(job_id)
    interrupts.forget(job_id)
    assert interrupts.all() == []
