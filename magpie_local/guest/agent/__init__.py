"""The guest agent: takes one order, runs its script, relays the output, reports how it ended.

Plain standard library, few imports, one thread: every import costs start time in an emulated guest. Keep this file
free of imports.

    main      where it runs (guest or host process), and the last resort when it fails
    machine   that place: its ports, its privileges, how it ends
    hostprocess  what stands in for it outside a guest
    loop      epoll and timers
    control   the control port: messages in and out, clients that come and go
    orders    what was told: one handler per op
    parcel    raw bytes while they come in: those of a runorder, or of uploads, which are unpacked
    identity  what tells this VM from all others
    renewal   fresh randomness and the right time
    warmup    a harmless script, so that the real one starts faster
    services  mount, upload, network, ssh and halt
    network   the job's own network card, names and authorities
    workspace a disk that outlives the guest
    outputs   files that a script leaves for its user: patterns finds them, tar writes them
    sshd      OpenSSH's server, and card: the network card that it listens on
    background  threads and programs, for what blocks
    processes the guest's processes
    script    the one script: start, limits, end
    output    its stdout and stderr, in order
    masked    secrets out of that output: masking finds them wherever they are cut, forms are what they may look like,
              unfolding what they are when broken into lines
    log       the log port: frames and their cap
"""

from __future__ import annotations
