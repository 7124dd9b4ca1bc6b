"""Run all benchmarks (`./dev bench`): about twenty-six minutes. Each can be run alone as well."""

from __future__ import annotations

import runpy

for name in ("startup", "store", "queue", "jobs", "warm", "workspaces"):
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    print()
