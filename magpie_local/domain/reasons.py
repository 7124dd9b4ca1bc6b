"""Why a job ended otherwise than by its script (reliability.md, failure catalogue)."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The cause of an infrastructure failure or a loss; the value is what users and dialects see."""

    BOOT_TIMEOUT = "boot_timeout"
    GUEST_PANIC = "guest_panic"
    GUEST_SILENT = "guest_silent"
    HOST_DISK_FULL = "host_disk_full"
    HOST_REBOOT = "host_reboot"
    IMAGE_BROKEN = "image_broken"
    LOG_FLOOD = "log_flood"
    START_FAILED = "start_failed"
    VM_KILLED = "vm_killed"
    VM_ERROR = "vm_error"
    ENGINE_DEADLINE = "engine_deadline"
    WORKSPACE_DAMAGED = "workspace_damaged"


#: One sentence a person can act on.
EXPLANATION: dict[Reason, str] = {
    Reason.BOOT_TIMEOUT: "The VM did not reach its agent within the boot time limit.",
    Reason.GUEST_PANIC: "The guest's kernel panicked; the console's end is in the job's folder.",
    Reason.GUEST_SILENT: "The VM ended without an exit record, so the script's result is unknown.",
    Reason.HOST_DISK_FULL: "The host's disk is full, so the VM could not write.",
    Reason.HOST_REBOOT: "The host restarted while the job ran.",
    Reason.IMAGE_BROKEN: "The image's files are missing or damaged; rebuild it.",
    Reason.LOG_FLOOD: "The guest wrote past the hard limit of its log and was ended.",
    Reason.START_FAILED: "The VM could not be started.",
    Reason.VM_KILLED: "The VM's process ended from outside, so the script's result is unknown.",
    Reason.VM_ERROR: "The VM stopped with an error of the hypervisor.",
    Reason.WORKSPACE_DAMAGED: "The workspace's disk is missing or damaged; it was left as it is.",
    Reason.ENGINE_DEADLINE: "The guest did not enforce the timeout, so the engine ended the VM.",
}
