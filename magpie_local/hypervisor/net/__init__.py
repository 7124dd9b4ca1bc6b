"""Networks of VMs: what is behind the card that every VM has (docs/decisions/0012-networks.md).

networks     VmNetworks, the port's implementation
uplink       the default network: what the guest is told, and the command of its gate
gate         a process per VM: lets through to passt what may leave, and nothing that leads to this machine
policy       where a frame may go, pure
addresses    this machine's own addresses and routes, as the kernel tells them
switch       a process per private network: an Ethernet switch between UNIX sockets
bridge       what a switch does with a frame, pure
frames       QEMU's stream format
start        how gates and switches are started, and detach themselves
host_access  what a guest may be given of this machine's settings for package downloads
needs        what this machine must have, for `magpie doctor`
"""

from __future__ import annotations
