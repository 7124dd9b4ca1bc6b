"""Everything magpie_local raises, in one tree.

    MagpieError
    ├── InvalidInput            a field the caller gave (names field, value, what is allowed)
    │   ├── NetworkTaken        a network's name or range is another's
    │   ├── LeaseTaken          another job has the address
    │   └── Unsupported         a known field that this version does not carry out
    ├── NotFound
    │   ├── JobNotFound
    │   ├── ImageNotFound
    │   ├── TemplateNotFound
    │   ├── WorkspaceNotFound
    │   ├── NetworkNotFound
    │   └── GuestFileNotFound
    ├── WorkspaceExists         a workspace, or a snapshot of one, has that name
    ├── WorkspaceInUse          a job has the workspace
    ├── NetworkInUse            jobs are on the network
    ├── WorkspaceDamaged        its disk is missing or no disk
    ├── JobActive               the job still runs; stop it first
    ├── JobFailed               a job ended in another state than success
    ├── SecretsLost             the key of a job's secrets is gone, or another one
    ├── VmUnreachable           the job has no VM (any more)
    ├── WaitTimeout             waiting ended, the job goes on
    ├── ClientClosed            the client was closed, or crossed a fork
    ├── IllegalTransition       a state change the tables do not know (a bug: carries the story)
    ├── StateError              the state directory
    │   ├── StateUnavailable    unreadable, not ours, wrong file system
    │   ├── StateTooNew         written by a later version
    │   ├── StateCorrupt        not a readable database
    │   ├── HostDiskFull
    │   └── LeadershipLost      another process drives this state directory now
    └── HostError               this machine
        ├── HypervisorUnavailable   libvirt or QEMU is absent or refuses
        ├── HypervisorTimeout       a libvirt call did not return in its budget
        ├── SnapshotUnusable        a VM can't be forked from what is on disk
        ├── TemplateFailed          a template could not be made
        ├── VmExists                the VM was started before
        ├── NetworkFull             no address is left
        ├── NetworkUnavailable      what a VM's network takes is missing here
        ├── GuestLost               the channel to the guest agent broke
        ├── SshError                the VM's SSH server
        │   ├── SshUnavailable      nothing answers there, or it refuses us
        │   ├── HostKeyMismatch     another machine answers
        │   └── SshLost             the connection broke; what ran on it may have had its effect
        ├── TransferError           a file could not be copied
        │   └── TransferRefused     an unsafe name, too many files or bytes, something in the way
        ├── PortUnavailable         a port of this machine is taken
        ├── ImageBroken             an image's files do not match its manifest
        │   └── ImageStale          built by another version of ours
        └── ImageBuildFailed

The first line of a class docstring is its default message, the rest of it the default cure. Every error has a stable
`code`
(for `--json` and dialects), an `exit_code` (for the CLI) and a `hint` (the cure).
"""

from __future__ import annotations

import inspect


class MagpieError(Exception):
    """Something in magpie_local went wrong.

    Run `magpie doctor` to see what is missing on this machine.
    """

    code = "error"
    exit_code = 255

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        default_message, default_hint = _from_docstring(type(self))
        self.message = message or default_message
        self.hint = default_hint if hint is None else hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class InvalidInput(MagpieError):
    """A value is not allowed."""

    code = "invalid_input"
    exit_code = 2

    def __init__(self, field: str, value: object, allowed: str, *, hint: str = "") -> None:
        self.field = field
        self.value = value
        self.allowed = allowed
        super().__init__(f"{field}: {_shown(value)} is not allowed; {allowed}", hint=hint)


class Unsupported(InvalidInput):
    """This version does not carry that out."""

    code = "unsupported"


class NetworkTaken(InvalidInput):
    """A network's name or range is another's already."""

    code = "network_taken"


class LeaseTaken(InvalidInput):
    """Another job has the address of that name."""

    code = "lease_taken"


class NotFound(MagpieError):
    """There is no such thing."""

    code = "not_found"
    exit_code = 3


class JobNotFound(NotFound):
    """There is no such job.

    `magpie ps --all` lists the jobs of this state directory.
    """

    code = "job_not_found"


class ImageNotFound(NotFound):
    """There is no such image.

    Build it with `magpie images build base`; `magpie images list` shows what is there.
    """

    code = "image_not_found"


class TemplateNotFound(NotFound):
    """There is no such template.

    `magpie templates list` shows what is there.
    """

    code = "template_not_found"


class WorkspaceNotFound(NotFound):
    """There is no such workspace.

    `magpie workspaces list` shows what is there; a job that names a new one makes it.
    """

    code = "workspace_not_found"


class WorkspaceExists(MagpieError):
    """There is a workspace, or a snapshot, of that name already."""

    code = "workspace_exists"
    exit_code = 2


class WorkspaceInUse(MagpieError):
    """A job has the workspace, or waits for it.

    Wait for the job, or stop it with `magpie stop ID`.
    """

    code = "workspace_in_use"
    exit_code = 2


class WorkspaceDamaged(MagpieError):
    """The disk of a workspace is missing, or is no disk any more.

    Nothing was changed, and nothing is made in its place. Roll back to a snapshot, import an export, or delete it.
    """

    code = "workspace_damaged"


class GuestFileNotFound(NotFound):
    """There is no such file in the VM."""

    code = "guest_file_not_found"


class NetworkNotFound(NotFound):
    """There is no such network.

    `magpie networks list` shows what is there; `magpie networks create NAME CIDR` makes one.
    """

    code = "network_not_found"


class NetworkInUse(MagpieError):
    """Jobs are on the network.

    Wait for them, or stop them with `magpie stop ID`.
    """

    code = "network_in_use"
    exit_code = 2


class JobActive(MagpieError):
    """The job has not ended yet.

    Stop it first (`magpie stop ID`), or delete it with force=True (`magpie rm --force ID`).
    """

    code = "job_active"
    exit_code = 2


class JobFailed(MagpieError):
    """The job did not succeed."""

    code = "job_failed"


class WaitTimeout(MagpieError):
    """The job has not ended within the time given to wait; it goes on.

    Wait again, or stop it with `magpie stop ID`.
    """

    code = "wait_timeout"


class ClientClosed(MagpieError):
    """This client is closed.

    Make a new Magpie(); jobs and logs are in the state directory. After os.fork(), make one in the child.
    """

    code = "client_closed"


class VmUnreachable(MagpieError):
    """The job has no VM to work in.

    A persistent job has one from its start until `magpie stop ID`; create another with persistent=True.
    """

    code = "vm_unreachable"


class IllegalTransition(MagpieError):
    """A state change that the tables do not allow was tried."""

    code = "illegal_transition"


class StateError(MagpieError):
    """The state directory can't be used."""

    code = "state_error"


class StateUnavailable(StateError):
    """The state directory can't be read or written.

    Choose another with MAGPIE_HOME, or mend its permissions (it must be yours, mode 0700, on a local file system).
    """

    code = "state_unavailable"


class StateTooNew(StateError):
    """The state directory was written by a later version of magpie_local.

    Upgrade magpie_local, or choose another directory with MAGPIE_HOME. Nothing was changed.
    """

    code = "state_too_new"


class StateCorrupt(StateError):
    """The job database can't be read.

    It was left untouched. Move it aside to start afresh; logs stay readable below jobs/ in the state directory.
    """

    code = "state_corrupt"


class HostDiskFull(StateError):
    """The disk of the state directory is full.

    Free some space; `magpie rm` of old jobs helps. Accepted jobs are kept.
    """

    code = "host_disk_full"


class LeadershipLost(StateError):
    """Another process drives this state directory now."""

    code = "leadership_lost"


class HostError(MagpieError):
    """This machine can't do what was asked."""

    code = "host_error"


class HypervisorUnavailable(HostError):
    """libvirt can't be reached.

    Run `magpie doctor`: it names what is missing and the command that mends it.
    """

    code = "hypervisor_unavailable"


class HypervisorTimeout(HostError):
    """libvirt did not answer in time."""

    code = "hypervisor_timeout"


class SnapshotUnusable(HostError):
    """A VM can't be forked from what is on disk; it can still boot."""

    code = "snapshot_unusable"


class TemplateFailed(HostError):
    """The template could not be made; jobs boot without it.

    Mend the cause and ask again with `magpie images warm NAME`.
    """

    code = "template_failed"


class VmExists(HostError):
    """A VM of that identity was started before."""

    code = "vm_exists"


class NetworkFull(HostError):
    """A network has no address left.

    Delete jobs that use it, or create a network with a larger range.
    """

    code = "network_full"


class NetworkUnavailable(HostError):
    """A VM can't be given its network."""

    code = "network_unavailable"


class SecretsLost(MagpieError):
    """A job's secrets can't be read any more.

    Create the job again: its secrets were kept under a key that is no longer there.
    """

    code = "secrets_lost"


class GuestLost(HostError):
    """The channel to the guest's agent broke."""

    code = "guest_lost"


class SshError(HostError):
    """The VM could not be used over SSH."""

    code = "ssh_error"


class SshUnavailable(SshError):
    """The VM's SSH server does not answer.

    Try again in a moment; `magpie status ID` says whether the VM still runs.
    """

    code = "ssh_unavailable"


class HostKeyMismatch(SshError):
    """Something else than the job's VM answers at its SSH port; nothing was sent to it.

    Stop the job and start it again: its VM gets a new port and a new key.
    """

    code = "host_key_mismatch"


class SshLost(SshError):
    """The SSH connection to the VM broke; what was under way may or may not have had its effect.

    Look in the VM before doing it again; the next call connects anew.
    """

    code = "ssh_lost"


class TransferError(HostError):
    """A file could not be copied."""

    code = "transfer_error"


class TransferRefused(TransferError):
    """Files were not copied, because that would not be safe; the destination was left as it was."""

    code = "transfer_refused"


class PortUnavailable(HostError):
    """A port of this machine can't be listened on.

    Choose another, or 0 for any that is free.
    """

    code = "port_unavailable"


class ImageBroken(HostError):
    """An image does not match its manifest.

    Rebuild it with `magpie images build NAME --force`.
    """

    code = "image_broken"


class ImageStale(ImageBroken):
    """An image was built by another version of magpie_local, whose agent this one can't talk to.

    Build it anew with `magpie images build NAME`.
    """

    code = "image_stale"


class ImageBuildFailed(HostError):
    """The image could not be built."""

    code = "image_build_failed"


def _from_docstring(kind: type[MagpieError]) -> tuple[str, str]:
    first, _, rest = (inspect.getdoc(kind) or "").partition("\n")
    return first, " ".join(rest.split())


def _shown(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
