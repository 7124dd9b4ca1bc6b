"""The notebook extension of magpie_local: magics and widgets. Not in this version; it keeps the place and the name."""

from __future__ import annotations

from magpie_local.errors import MagpieError


def load_ipython_extension(_shell: object) -> None:
    """Answer `%load_ext magpie_local`.

    Raises:
        MagpieError: always, in this version.
    """
    raise MagpieError(
        "The notebook magics are not in this version.",
        hint="In a cell, use the Python API: `from magpie_local import Magpie`.",
    )
