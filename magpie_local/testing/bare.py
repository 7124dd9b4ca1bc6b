"""Run a module of magpie_local as an image does: `python -I -S bare.py MODULE ARGUMENTS`.

The packages above it are empty ones, so that nothing but the module, what it names and the standard library is
loaded: quick to start, and a proof that the guest agent needs no more.
"""

from __future__ import annotations

import os
import runpy
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def main() -> None:
    """Run the module named by the first argument with the rest of them."""
    for name in ("", "domain", "guest", "testing"):
        package = type(sys)(f"magpie_local.{name}".rstrip("."))
        package.__path__ = [os.path.join(_ROOT, name).rstrip("/")]
        sys.modules[package.__name__] = package
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
