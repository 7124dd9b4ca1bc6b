"""Looks all the time at who has which workspace, without any code of ours between: the store's rows and the VMs."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from magpie_local.domain.ids import VmId
from magpie_local.testing import FakeHypervisor
from magpie_local.testing.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from magpie_local.domain.vm import Condition

#: Seconds between two looks.
_PACE = 0.01
#: The VM of each job's newest attempt, where the job has a workspace.
_VMS = """
    SELECT attempts.vm_id, jobs.id, jobs.workspace_id FROM attempts JOIN jobs ON jobs.seq = attempts.job
    WHERE attempts.number = jobs.attempt AND jobs.workspace_id IS NOT NULL
"""
_HEADS = "SELECT id, head, in_use_by FROM workspace_records WHERE head IS NOT NULL"
_HAVING = """
    SELECT workspace_id, count(*) FROM jobs WHERE workspace_id IS NOT NULL
    AND (script_state IN ('starting', 'running') OR vm_state IN ('booting', 'ready', 'paused', 'stopping'))
    GROUP BY workspace_id HAVING count(*) > 1
"""


class Vms(Protocol):
    """The VMs of one state directory."""

    def disks(self) -> set[tuple[str, str]]:
        """Return the VMs that live now, each with the name of each disk of a workspace that it has."""
        ...


class FakeVms:
    """Those of the fake hypervisor."""

    def __init__(self, run: Path) -> None:
        self._folder = run / "libvirt"
        self._registry = Registry(self._folder)

    def disks(self) -> set[tuple[str, str]]:
        found = set()
        for vm_id in self._registry.ids():
            record = self._registry.read(vm_id)
            if record is not None and record.is_alive():
                with suppress(OSError):
                    found.add((vm_id, (self._registry.disks(vm_id) / "workspace").readlink().name))
        return found

    async def pause(self, vm_id: str, shown: Condition) -> None:
        """Stop a VM where it stands; it is seen as `shown`."""
        record = self._registry.read(vm_id)
        assert record is not None
        await FakeHypervisor(self._folder, record.state_id).pause(VmId(vm_id), shown)

    def alive(self) -> dict[str, int]:
        """Return the process of each VM that lives now."""
        records = map(self._registry.read, self._registry.ids())
        return {one.id: one.pid for one in records if one is not None and one.pid is not None and one.is_alive()}


class RealVms:
    """QEMU's processes."""

    def __init__(self, rig: Any) -> None:
        self._rig = rig

    def disks(self) -> set[tuple[str, str]]:
        return {found for pid in self._rig.qemus() for found in self._of(pid)}

    def _of(self, pid: int) -> Iterator[tuple[str, str]]:
        with suppress(OSError, ValueError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            vm_id = command[command.index("-uuid") + 1]
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    target = Path(os.readlink(descriptor))
                    if target.parent == self._rig.home / "workspaces":
                        yield vm_id, target.name


class Watch:
    """A thread that looks; what it saw that must not be is raised at the end.

    Args:
        home: the state directory.
        vms: its VMs.
    """

    def __init__(self, home: Path, vms: Vms) -> None:
        self._home = home
        self._vms = vms
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="watch")
        #: How often a VM was seen that has a workspace: none means that nothing was shown.
        self.seen = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        assert not self.wrong, self.wrong[:5]

    def _look_on(self) -> None:
        while not self._ended.wait(_PACE):
            try:
                self.wrong += self.look()
            except sqlite3.OperationalError:
                continue  # there is no database yet, or it is busy
            except Exception as error:  # the thread's own: it must not pass for a clean look
                self.wrong.append(repr(error))
                return

    def look(self) -> list[str]:
        """Return what is wrong now."""
        before = self._vms.disks()
        with closing(sqlite3.connect(f"file:{self._home}/magpie.db?mode=ro", uri=True)) as db:
            db.execute("BEGIN")
            jobs = {vm: (job, workspace) for vm, job, workspace in db.execute(_VMS)}
            heads = {name: (f"{head}.qcow2", user) for name, head, user in db.execute(_HEADS)}
            shared = db.execute(_HAVING).fetchall()
        wrong = [f"{count} jobs have {name}" for name, count in shared]
        wrong += [
            f"{name} lacks its head" for name, (head, _) in heads.items()
            if not (self._home / "workspaces" / head).is_file()
        ]  # fmt: skip
        # A VM that was there before and after the rows were read was there when they were.
        having = before & self._vms.disks()
        for name, (head, user) in heads.items():
            vms = [vm for vm, disk in having if disk == head]
            self.seen += len(vms)
            if len(vms) > 1:
                wrong.append(f"the VMs {vms} have {name}")
            wrong += [
                f"{name} is in use by {user}, and the VM {vm} has it" for vm in vms if jobs.get(vm) != (user, name)
            ]
        return wrong
