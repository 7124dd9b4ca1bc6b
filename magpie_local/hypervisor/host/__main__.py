"""The host's process."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

from magpie_local.hypervisor.host.orphans import reap_orphans
from magpie_local.hypervisor.host.server import Host


def main() -> None:
    """Serve the engine whose pidfd is argv[1], over the socket that is standard input."""
    # Blocked before there are threads, so that it interrupts none of libvirt's calls.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    host = Host(socket.socket(fileno=os.dup(0)))
    threading.Thread(target=host.serve, args=(int(sys.argv[1]),)).start()
    reap_orphans()


if __name__ == "__main__":
    main()
