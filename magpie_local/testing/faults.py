"""What a fake hypervisor does wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Faults:
    """Faults to inject; may be changed while the hypervisor is in use."""

    #: Seconds between a VM's start and its agent's.
    boot_delay: float = 0.0
    #: The agent of VMs started from now on never comes up (F57).
    never_ready: bool = False
    #: Raised by start() before anything is done.
    start_error: Exception | None = None
    #: Seconds that start() takes in addition.
    start_delay: float = 0.0
    #: Calls by name (`start`, `destroy`, `sight`) whose answer never comes: they raise HypervisorTimeout after `budget`
    #: seconds. A hanging start has started the VM; a hanging destroy has not ended it (F52).
    hang: frozenset[str] = frozenset()
    budget: float = 0.2
    #: Changes are not reported (F53).
    drop_events: bool = False
