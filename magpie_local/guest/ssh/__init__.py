"""SSH from the host to a VM: keys, commands, files and forwarded ports.

Importing this package imports no asyncssh (a third of a second): `SshShells` does when it first connects.
"""

from __future__ import annotations
