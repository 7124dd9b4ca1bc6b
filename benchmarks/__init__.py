"""Benchmarks: run by hand (`python -m benchmarks.NAME`), never asserted, each with a reference in the same run."""

from __future__ import annotations
