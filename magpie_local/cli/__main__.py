"""`python -m magpie_local.cli` is `magpie`."""

from __future__ import annotations

from magpie_local.cli.main import main

main()
