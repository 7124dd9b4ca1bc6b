"""Run Magpie jobs (bash scripts) in real virtual machines on one laptop."""

from __future__ import annotations

__version__ = "0.1.0"
