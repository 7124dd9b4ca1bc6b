"""Other ways to start a guest and have it say one line: what this project's starts are measured against.

    cold     QEMU, started directly, boots our own guest
    fork     QEMU, started directly, forks a template of our own guest: the floor
    virtme   virtme-ng from the package index, in emulation, with the distribution's kernel
    debian   a Debian system with systemd and cloud-init under QEMU

Each module has one class, made with a folder that keeps what is costly to make. `prepare()` makes it, or finds it made;
`start_seconds()` starts one guest and ends it, whatever happens. `python -m benchmarks.references` runs all of them.
"""

from __future__ import annotations

from typing import Protocol


class ReferenceUnavailable(Exception):
    """A reference can't be measured on this machine; the text says why, for the table."""


class Reference(Protocol):
    """One way to start a guest."""

    #: For the table.
    name: str

    def prepare(self) -> None:
        """Make what a start needs, and print what is being made; a second call finds it.

        Raises:
            ReferenceUnavailable: a tool, a package or room is missing.
        """
        ...

    def start_seconds(self) -> float:
        """Start one guest, and return the seconds until its first output line; prepare() comes first.

        Raises:
            ReferenceUnavailable: the guest ended, or stayed silent too long.
        """
        ...
