"""The verbs of the public API as coroutines on the engine's loop; `client` and `aio` are two thin faces of them."""

from __future__ import annotations
