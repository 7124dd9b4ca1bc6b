"""Opens shells, and imports asyncssh only then."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

from magpie_local.ports.shell import LINGER

if TYPE_CHECKING:
    from magpie_local.guest.ssh.shell import SshShell
    from magpie_local.ports.shell import SshTarget


class SshShells:
    """Opens SSH connections to VMs (the Shells port)."""

    async def connect(self, target: SshTarget, *, linger: float = LINGER) -> SshShell:
        """Connect to a VM's SSH server; waits a moment for one that is just starting.

        Args:
            linger: seconds after which a connection that nobody uses is closed.

        Raises:
            SshUnavailable: nothing answers, or it refuses our key.
            HostKeyMismatch: the server has another key than the target's.
        """
        # A third of a second, during which the loop goes on with its other work.
        module = await asyncio.to_thread(importlib.import_module, "magpie_local.guest.ssh.shell")
        shell: SshShell = module.SshShell(target, linger=linger)
        await shell.open()
        return shell
