"""The hypervisor adapter: QEMU through libvirt. Nothing outside this package knows either.

adapter      LibvirtHypervisor, the port's implementation
connection   the libvirt connection, held by a process of its own (host)
place        which URI, and what its folder must hold before it is opened
stillborn    clears a root of VMs that never came to be
domain_xml   VmSpec -> domain XML, pure
processes    QEMU's processes, which tell the end of a VM before libvirt does
accel        proves KVM by booting a guest with it
disks        QemuDisks, overlays
files        files that are ours alone
needs        what this machine must have, for `magpie doctor`
"""

from __future__ import annotations
