"""QEMUs that libvirt has started here, and that have ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

#: prctl(2) and waitpid(2)
_PR_SET_CHILD_SUBREAPER, _WNOTHREAD = 36, 0x20000000


def reap_orphans() -> None:
    """Adopt the QEMUs that libvirt starts here, and reap each as soon as it has ended; run by the main thread.

    libvirt leaves its QEMUs to init, and takes one for alive until init has reaped it: in a container that may be 2 s
    later, or never. Orphans come to the main thread, and libvirt's own children stay with the threads that made them.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    while True:
        signal.sigwait({signal.SIGCHLD})
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG | _WNOTHREAD) != (0, 0):
                pass
