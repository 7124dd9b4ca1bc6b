"""Start the agent: called by PID 1 as `python3 -I -S`, which knows no folder but the standard library's."""

from __future__ import annotations

import sys

sys.path.insert(0, "/usr/lib/magpie")

from magpie_local.guest.agent.main import main

main()
