"""Doorbells: what listens at the port of a VM that sleeps.

bells    TcpDoorbells, the port's implementation: starts them, and tells them to make way
program  one doorbell, a small process that needs nobody to be alive
"""

from __future__ import annotations
