"""Warm starts on real VMs, side by side with what others would do: `python -m benchmarks.warm [--json FILE]`.

starts    create() called -> first output line in the reader's hands: pool, fork, cold; and the references
spans     where each millisecond of those starts went
refill    whether a job that runs is slowed while the pool refills
burst     fifty one-line jobs at once, as forks and as cold boots
memory    what an idle fork really takes
"""

from __future__ import annotations
