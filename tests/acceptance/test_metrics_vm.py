"""CPU and memory of a job in a real VM, as a client sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from magpie_local import Magpie, config
from magpie_local.domain.sizes import MIB

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.metrics import Sample

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

#: Idle, then busy, then with memory in use; each until the file of the next phase is there.
_SCRIPT = """
cd /root
echo idle; until [ -e busy ]; do sleep 1; done
echo busy; until [ -e full ]; do :; done
echo full; head -c 96M /dev/zero > /dev/shm/x; echo filled; sleep 600
"""


def test_a_plot_shows_what_the_script_does(vm_home: Path, image_folder: Path) -> None:
    settings = config.load(home=vm_home, images=image_folder, templates=0, pool=0, keeper=False)
    with Magpie(settings=settings) as client:
        job = client.jobs.create("phases", _SCRIPT, memory_mb=256, persistent=True)
        stream = client.jobs.stream_metrics(job.id, 1.0)

        def until(least: float, most: float) -> Sample:
            return next(sample for sample in stream if least <= sample.cpu <= most)

        def output(text: str) -> None:
            any(text in chunk.text for chunk in client.jobs.stream_logs(job.id))

        output("idle")
        idle = until(0.0, 0.25)
        client.jobs.exec(job.id, "sudo touch /root/busy")
        busy = until(0.4, 1.3)
        client.jobs.exec(job.id, "sudo touch /root/full")
        output("filled")
        full = next(stream)
        client.jobs.delete(job.id, force=True)

        assert list(stream)[1:] == []
    assert idle.memory > 64 * MIB
    assert busy.cpu_seconds > idle.cpu_seconds
    assert 80 * MIB < full.memory - busy.memory < 200 * MIB
