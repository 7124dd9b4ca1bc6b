"""Networks through the client, on the fake hypervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from magpie_local import Magpie
from magpie_local.api import farewell
from magpie_local.errors import LeaseTaken, NetworkInUse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from magpie_local.config import Settings


@pytest.fixture
def client(settings: Settings) -> Iterator[Magpie]:
    with Magpie(settings=settings) as client:
        yield client


def test_a_job_that_is_over_never_keeps_its_network_or_its_address(client: Magpie) -> None:
    for turn in range(5):
        name = f"lab-{turn}"
        client.networks.create(name, "10.77.0.0/24")
        for _ in range(2):
            client.jobs.run_and_wait("job", "true", memory_mb=64, network=name, ipv6_lease=name)
        client.networks.remove(name)
        assert client.networks.list() == []


def test_a_job_that_goes_on_keeps_both(client: Magpie, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farewell, "PATIENCE", 1e9)  # who waits for it would never come back
    client.networks.create("lab", "10.77.0.0/24")
    job = client.jobs.create("job", "echo up; sleep 60", memory_mb=64, network="lab", ipv6_lease="mine")
    assert next(client.jobs.stream_logs(job.id)).text == "up\n"

    with pytest.raises(NetworkInUse):
        client.networks.remove("lab")
    with pytest.raises(LeaseTaken):
        client.jobs.create("other", "true", network="lab", ipv6_lease="mine")


def test_a_vm_that_stays_keeps_both_after_its_script(client: Magpie, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farewell, "PATIENCE", 1e9)
    client.networks.create("lab", "10.77.0.0/24")
    client.jobs.run_and_wait("job", "true", memory_mb=64, network="lab", ipv6_lease="mine", persistent=True)

    with pytest.raises(NetworkInUse):
        client.networks.remove("lab")
    with pytest.raises(LeaseTaken):
        client.jobs.create("other", "true", network="lab", ipv6_lease="mine")
