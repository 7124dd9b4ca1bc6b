"""Stand-ins for the world, for tests of the engine and of programs that use magpie_local.

The VMs of FakeHypervisor are detached processes of this host that run the real guest agent; the overlays of FakeDisks
and the images of FakeImages are small files; ManualClock moves when told to.
"""

from __future__ import annotations

from magpie_local.testing.clock import ManualClock
from magpie_local.testing.faults import Faults
from magpie_local.testing.hypervisor import FakeHypervisor
from magpie_local.testing.images import FakeDisks, FakeImages
from magpie_local.testing.meter import FakeMeter
from magpie_local.testing.networks import FakeNetworks
from magpie_local.testing.sleepers import FakeDoorbells, FakeSleepers

__all__ = [
    "FakeDisks",
    "FakeDoorbells",
    "FakeHypervisor",
    "FakeImages",
    "FakeMeter",
    "FakeNetworks",
    "FakeSleepers",
    "Faults",
    "ManualClock",
]
