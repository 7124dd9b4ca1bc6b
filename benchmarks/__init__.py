"""Benchmarks: run by hand (`python -m benchmarks.NAME`), never asserted in a test, each with a reference in the same run."""

from __future__ import annotations
