"""What the engine needs from the world: Protocols of at most 8 methods. Adapters implement them."""

from __future__ import annotations
