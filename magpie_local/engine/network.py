"""What is behind the card of an attempt's VM, and what its guest is told of it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from magpie_local.domain.network import (
    DEFAULT,
    NONE,
    GuestConfig,
    NetworkSpec,
    host_names,
    hosts_lines,
    private_config,
    ula_prefix,
)
from magpie_local.errors import MagpieError, NetworkUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from magpie_local.domain.ids import VmId
    from magpie_local.domain.job import JobRecord
    from magpie_local.engine.context import Ports

#: The length of the prefix of every IPv6 network of ours.
_PREFIX6 = 64


async def check(ports: Ports, job: JobRecord) -> None:
    """Return where this machine has what a job's network takes.

    Raises:
        MagpieError: it lacks that; with the cure.
    """
    if job.network == DEFAULT:
        with _final():
            await ports.networks.expect_default()


async def connect(ports: Ports, job: JobRecord, vm_id: VmId) -> GuestConfig | None:
    """Connect a job's VM as the job asks; connected so already, it stays so.

    Returns:
        What its guest must be told; None where it was never told anything, and need not be.

    Raises:
        MagpieError: this machine lacks what it takes; with the cure.
        HostError: there is no such VM.
    """
    if job.network == NONE:
        if job.start == "pool":
            await ports.networks.detach(vm_id)
        return None if job.start == "cold" else GuestConfig()
    with _final():
        if job.network == DEFAULT:
            config = await ports.networks.attach_default(vm_id)
            lease = (f"{job.address6}/{_PREFIX6}",) if job.address6 else ()
            return replace(config, addresses=(*config.addresses, *lease))
        await ports.networks.attach_private(vm_id, job.network)
    return await private(ports, job)


@contextlib.contextmanager
def _final() -> Iterator[None]:
    """Have what this machine lacks end the job: it is not the VM's fault, and another would have no network either."""
    try:
        yield
    except NetworkUnavailable as error:
        raise MagpieError(error.message, hint=error.hint) from error


async def private(ports: Ports, job: JobRecord) -> GuestConfig:
    """Return what the guest of a job on a named network is told now: its addresses, and its peers' names."""
    found = await ports.network_store.get(job.network)
    if found is None or job.address is None:
        raise MagpieError(f"There is no network {job.network!r} any more.", hint="")
    prefix = ula_prefix(ports.state_id, job.network)
    own6 = (job.address6,) if job.address6 else ()
    config = private_config(NetworkSpec(found.name, found.cidr), prefix, job.address, *own6)
    members = await ports.network_store.members(job.network)
    names = host_names([(member.job_id, member.name) for member in members])
    addresses = {
        member.job_id: [address for address in (member.address, member.address6) if address] for member in members
    }
    return replace(config, hosts=hosts_lines(names, addresses))
