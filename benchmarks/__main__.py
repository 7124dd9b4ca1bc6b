"""Run all benchmarks (`./dev bench`): about three quarters of an hour. Each can be run alone as well."""

from __future__ import annotations

import runpy

for name in (
    "startup", "store", "queue", "jobs", "warm", "stateful", "recovery", "workspaces", "ssh", "notebook", "scrolling",
):  # fmt: skip
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    print()
