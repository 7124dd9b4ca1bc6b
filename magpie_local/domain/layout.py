"""Where things lie in a state directory.

    STATE/                0700
      magpie.db           the store
      leader.lock         flock of the process that drives VMs
      keeper.lock         flock of the keeper, so that there is one
      ballast             space given back when the disk is full, so that ends can be written (F30)
      jobs/JOB/N/         one attempt: log, console.log, scratch.qcow2
      warm/VM/            the same of a VM that has no job yet; the folder moves to its job
      workspaces/         the disks of workspaces: DISK.qcow2, and a lock for each: ID.lock
      uploads/JOB.tar     what a job is given, until it is deleted
      doors/JOB/          by what a persistent VM is reached: key, known_hosts, config, door.json
      templates/KEY/      one template: manifest.json, ram, devices, scratch.qcow2, blank.qcow2, used
      RUN -> run/         sockets: bells/, c/ (control ports), n/ (networks), d/ (doorbells),
                          libvirt/ (embed root), and interrupts/

UNIX socket paths are limited to 107 bytes, so RUN lies elsewhere where STATE is a long path (F110): see
config.runtime_dir.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.domain.ids import JobId, VmId
    from magpie_local.domain.workspace import DiskId


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one state directory and of its run directory (sockets)."""

    root: Path
    run: Path

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.root / "magpie.db"

    @property
    def leader_lock(self) -> Path:
        """Held by the leader; nothing else opens it (F13)."""
        return self.root / "leader.lock"

    @property
    def keeper_lock(self) -> Path:
        """Held by the keeper."""
        return self.root / "keeper.lock"

    @property
    def ballast(self) -> Path:
        """Given back when the disk is full."""
        return self.root / "ballast"

    @property
    def jobs(self) -> Path:
        """One folder per job."""
        return self.root / "jobs"

    @property
    def warm(self) -> Path:
        """One folder per VM without a job: pooled ones and templates in the making."""
        return self.root / "warm"

    @property
    def templates(self) -> Path:
        """One folder per template."""
        return self.root / "templates"

    @property
    def workspaces(self) -> Path:
        """The disks of all workspaces, and their locks."""
        return self.root / "workspaces"

    @property
    def uploads(self) -> Path:
        """What jobs are given."""
        return self.root / "uploads"

    @property
    def doors(self) -> Path:
        """One folder per persistent VM, with what its SSH clients need."""
        return self.root / "doors"

    @property
    def bells(self) -> Path:
        """One datagram socket per open process."""
        return self.run / "bells"

    @property
    def interrupts(self) -> Path:
        """An empty file for each job that is to be interrupted."""
        return self.run / "interrupts"

    @property
    def pool_report(self) -> Path:
        """What the leader last said of its pool."""
        return self.run / "pool.json"

    @property
    def hypervisor(self) -> Path:
        """The hypervisor adapter's own folder (libvirt's embed root, or the fake's registry)."""
        return self.run / "libvirt"

    @property
    def networks(self) -> Path:
        """Sockets of networks; short, because socket paths are."""
        return self.run / "n"

    def job(self, job_id: JobId) -> Path:
        """Return a job's folder."""
        return self.jobs / job_id

    def upload(self, job_id: JobId) -> Path:
        """Return the tar file with what a job is given."""
        return self.uploads / f"{job_id}.tar"

    def collected(self, job_id: JobId) -> Path:
        """Return the folder with the files that were collected of a job."""
        return self.job(job_id) / "outputs"

    def attempt(self, job_id: JobId, number: int) -> AttemptFiles:
        """Return the files of one attempt."""
        return AttemptFiles(self.job(job_id) / str(number))

    def warming(self, vm_id: VmId) -> AttemptFiles:
        """Return the files of a VM without a job."""
        return AttemptFiles(self.warm / vm_id)

    def disk(self, disk_id: DiskId) -> Path:
        """Return the file of one disk of a workspace."""
        return self.workspaces / f"{disk_id}.qcow2"

    def workspace_lock(self, workspace_id: str) -> Path:
        """Held by whoever changes a workspace, and for a moment by the leader that gives it to a job."""
        return self.workspaces / f"{workspace_id}.lock"

    def doorbell(self, vm_id: VmId) -> Path:
        """Return the socket by which a sleeping VM's doorbell is told to make way."""
        return self.run / "d" / vm_id[:13]

    def control(self, vm_id: VmId) -> Path:
        """Return the socket of a VM's control port; short, because socket paths are."""
        return self.run / "c" / vm_id[:13]


@dataclass(frozen=True, slots=True)
class AttemptFiles:
    """The files of one attempt."""

    folder: Path

    @property
    def log(self) -> Path:
        """Frames written by the guest's agent (domain.frames)."""
        return self.folder / "log"

    @property
    def console(self) -> Path:
        """The guest kernel's console."""
        return self.folder / "console.log"

    @property
    def outputs(self) -> Path:
        """What comes out of the guest's outputs port: a tar stream."""
        return self.folder / "outputs.tar"

    @property
    def asleep(self) -> Path:
        """All of a VM that sleeps: its memory, and what it is."""
        return self.folder / "asleep"

    @property
    def scratch(self) -> Path:
        """The VM's throw-away disk."""
        return self.folder / "scratch.qcow2"
