"""Where a cell's output goes: a notebook that can show HTML and change it later, or a terminal."""

from __future__ import annotations

import os
import sys
import uuid
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from IPython.display import display, update_display

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    Bundle = dict[str, Any]

_NO = {"", "0", "false", "no", "off"}


class Frontend:
    """What is known of the place where cells come from."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell

    @property
    def is_notebook(self) -> bool:
        """Whether there is a kernel: one that shows HTML, and lets a display be updated."""
        return getattr(self._shell, "kernel", None) is not None

    @property
    def cell_id(self) -> str | None:
        """The id of the cell that runs; None where nobody sits in front of it."""
        kernel: Any = getattr(self._shell, "kernel", None)
        if kernel is None:
            return None
        metadata = kernel.get_parent("shell").get("metadata", {})
        found = metadata.get("cellId") or metadata.get("cell_id")
        return str(found) if found else None

    @property
    def is_interactive(self) -> bool:
        """Whether somebody will still be there when a cell has returned (nbclient, say, is nobody)."""
        if os.environ.get("MAGPIE_NONINTERACTIVE", "").lower() not in _NO:
            return False
        return not self.is_notebook or self.cell_id is not None

    @property
    def has_widgets(self) -> bool:
        """Whether widgets can be shown: ipywidgets is there, a notebook, somebody before it, and they are wanted.

        A kernel can't know whether its front end draws widgets; MAGPIE_WIDGETS=0 says that it does not.
        """
        if os.environ.get("MAGPIE_WIDGETS", "1").lower() in _NO:
            return False
        return self.is_notebook and self.is_interactive and find_spec("ipywidgets") is not None

    @property
    def cell(self) -> str:
        """The notebook's cell that runs, as the description of its job: the same whenever it runs again."""
        if self.cell_id is None or not self.is_interactive:
            return ""
        notebook = os.environ.get("JPY_SESSION_NAME", "")
        return f"notebook cell {self.cell_id}" + (f" of {notebook}" if notebook else "")


def publish(bundle: Bundle, identity: str | None = None) -> None:
    """Show a bundle of MIME types below the running cell; with an identity it can be changed later."""
    display(bundle, raw=True, display_id=identity)  # type: ignore[no-untyped-call]


class Place:
    """One output in the notebook that is written again and again; from any thread, it stays in its cell."""

    def __init__(self) -> None:
        self._id: str | None = None

    @property
    def is_shown(self) -> bool:
        """Whether it is there."""
        return self._id is not None

    def show(self, bundle: Bundle) -> None:
        """Write it, the first time where the running cell's output has come to."""
        if self._id is None:
            self._id = uuid.uuid4().hex
            sys.stdout.flush()
            sys.stderr.flush()
            publish(bundle, self._id)
        else:
            update_display(bundle, raw=True, display_id=self._id)  # type: ignore[no-untyped-call]
