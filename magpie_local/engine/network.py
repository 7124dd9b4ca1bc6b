"""What is behind the card of an attempt's VM, and what its guest is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from magpie_local.domain.network import (
    GuestConfig,
    NetworkSpec,
    host_names,
    hosts_lines,
    private_config,
    ula_prefix,
)
from magpie_local.errors import MagpieError, NetworkUnavailable

if TYPE_CHECKING:
    from magpie_local.domain.ids import VmId
    from magpie_local.domain.job import JobRecord
    from magpie_local.engine.context import Ports

#: The length of the prefix of every IPv6 network of ours.
_PREFIX6 = 64


async def connect(ports: Ports, job: JobRecord, vm_id: VmId) -> GuestConfig | None:
    """Connect a job's VM as the job asks; connected so already, it stays so.

    Returns:
        What its guest must be told; None where it is on no network.

    Raises:
        MagpieError: this machine lacks what it takes; with the cure.
        HostError: there is no such VM.
    """
    if job.network == "none":
        return None
    try:
        if job.network == "default":
            config = await ports.networks.attach_default(vm_id)
            lease = (f"{job.address6}/{_PREFIX6}",) if job.address6 else ()
            return replace(config, addresses=(*config.addresses, *lease))
        await ports.networks.attach_private(vm_id, job.network)
    except NetworkUnavailable as error:
        # Not the VM's fault: another one would have no network either.
        raise MagpieError(error.message, hint=error.hint) from error
    return await private(ports, job)


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
