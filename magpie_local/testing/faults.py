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
    #: Raised by start() of a fork before anything is done.
    fork_error: Exception | None = None
    #: Raised by freeze() before anything is done.
    freeze_error: Exception | None = None
    #: Raised by save() when it has paused the VM, and by load() before anything is done.
    save_error: Exception | None = None
    load_error: Exception | None = None
    #: Seconds that start() takes in addition, and that of a fork once more.
    start_delay: float = 0.0
    fork_delay: float = 0.0
    #: The agent of forks started from now on stays silent.
    fork_silent: bool = False
    #: What a hypervisor opened from now on calls itself: another one stands for another QEMU.
    fingerprint: str = "fake"
    #: Calls by name (`start`, `fork`, `destroy`, `sight`, `pause`, `resume`, `freeze`, `plug`) whose answer never
    #: comes: they raise HypervisorTimeout after `budget` seconds. A hanging start or fork has started the VM; of the
    #: others nothing has been done (F52).
    hang: frozenset[str] = frozenset()
    budget: float = 0.2
    #: Changes are not reported (F53).
    drop_events: bool = False
