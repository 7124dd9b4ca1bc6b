"""Widgets of jobs and workspaces; ipywidgets is imported by `controls` alone, when the first one is shown.

Whatever is clicked or typed comes on a thread of the kernel's choice and is only handed on: all that a widget does and
knows belongs to the worker's thread.
"""

from __future__ import annotations
