"""The notebook extension of magpie_local: `%load_ext magpie_local`, then `%%magpie` and `%magpie`.

Faces know only the public API. IPython is imported when the extension is loaded, ipywidgets and SSH when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics; loading twice, by either name, is loading once.

    Raises:
        InvalidInput: [tool.magpie_local] of the project's pyproject.toml says something that is not allowed.
    """
    from notebook_ext import hook
    from notebook_ext.magics import register

    register(shell)
    hook.load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magics away; jobs, their displays and the client stay."""
    from notebook_ext import hook
    from notebook_ext.magics import unregister

    hook.unload()
    unregister(shell)
