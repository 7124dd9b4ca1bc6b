"""For how long connections to VMs stay when nobody uses them."""

from __future__ import annotations

import pytest

from magpie_local.api.shells import linger_of


@pytest.mark.parametrize(("idle_pause", "seconds"), [(None, 30), (7200, 30), (60, 15), (2, 0.5)])
def test_a_connection_is_closed_well_before_its_vm_may_sleep(idle_pause, seconds):
    assert linger_of(idle_pause) == seconds
