"""Snapshots of jobs as HTML and text: pure functions, shared by the command line, the notebook and web pages.

Nothing here reads a clock, a file or a client, and the same snapshot always gives the same page. Whatever comes from a
job (its output, its name, its messages) is shown as text, never as markup.
"""

from __future__ import annotations
