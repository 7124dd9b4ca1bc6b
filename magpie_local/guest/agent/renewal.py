"""Fresh randomness and the right time, for a kernel that stood still, or has twins."""

from __future__ import annotations

import fcntl
import os
import struct
import time

#: RNDADDENTROPY takes two ints (bits credited, bytes) and the bytes; RNDRESEEDCRNG nothing. See random(4).
_ADD_ENTROPY, _RESEED = 0x40085203, 0x5207
_HEADER = struct.Struct("=ii")


def renew(now: float, entropy: bytes) -> None:
    """Make the kernel's random numbers unlike those of all twins, from the next one on, and set its clock.

    Adding alone does not change what is drawn next: the generator takes up its pool only at times.

    Raises:
        OSError: the kernel refused.
    """
    device = os.open("/dev/urandom", os.O_WRONLY)
    try:
        fcntl.ioctl(device, _ADD_ENTROPY, _HEADER.pack(8 * len(entropy), len(entropy)) + entropy)
        fcntl.ioctl(device, _RESEED)
    finally:
        os.close(device)
    time.clock_settime(time.CLOCK_REALTIME, now)
