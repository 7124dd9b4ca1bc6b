"""The libvirt host: a process that holds one libvirt connection for one engine.

Started as a program (python -P -m magpie_local.hypervisor.host) with one end of a socket pair as its standard input;
ends when the other end is closed or the engine's process has died. VMs go on. Only the standard library and libvirt
are imported: it is up within about 0.1 s.

Why a process of its own? Things that don't work, all tried with libvirt 9.0 in the engine's process:

- Closing a connection to qemu:///embed releases nothing: the root stays locked and QEMU's monitors stay connected
  until the process ends. A notebook that closed its client would keep the next leader out for as long as it lives.
- A process can open one embed root in its life, and a child made by os.fork can't use it at all.
- A libvirt call that hangs (F52) leaves a thread that nothing can end; a process can be killed, and libvirt finds
  the VMs again.
- libvirt logs to standard error, which belongs to the user.
- An ended QEMU stays in libvirt's way until its parent has reaped it, and only a process of its own can be that parent.

Wire: a JSON object per line.

    {"id": 1, "verb": "create", "args": ["<domain…"]}                 request
    {"id": 1, "value": …}  or  {"id": 1, "code": 42, "error": "…"}    answer, in any order
    {"event": "gone", "vm": "UUID"}                                   a VM's new condition (domain.vm.Condition)
    {"event": "closed"}                                               libvirt's daemon has gone; reopen

server     the channel, and a verb for each thing that can be asked
held       domains that end with the engine
monitor    QEMU's own commands
snapshots  the state of a domain to a file, and back
sleeping   all of a domain to a file, and back
ways       what is behind a domain's two cards
sights     what libvirt says of a domain
orphans    QEMUs that have ended
"""

from __future__ import annotations

#: The XML namespace of our metadata: what makes a VM one of ours.
METADATA = "urn:magpie-local:vm:1"
NO_DOMAIN = 42
NO_METADATA = 80
#: Codes of our own, below libvirt's.
NO_LIBVIRT, BROKEN, CLOSED, BAD_SNAPSHOT = -1, -2, -3, -4
