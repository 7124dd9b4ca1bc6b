"""What a job is: specs, states, events, sizes and the wire format. Pure: no I/O, no asyncio, no third party."""

from __future__ import annotations
