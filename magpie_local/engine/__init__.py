"""The engine: who leads, what starts when, one task an attempt, recovery. Knows domain and ports only."""

from __future__ import annotations
