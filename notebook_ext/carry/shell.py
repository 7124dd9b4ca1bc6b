"""What bash scripts read and write: one file for a variable, of a kind that its ending tells."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

from notebook_ext.carry.plain import CarryError, Lacking

if TYPE_CHECKING:
    from collections.abc import Callable

_WHERE = "see the table of --in and --out"


def write(value: object) -> tuple[str, bytes]:
    """Return a value's ending, and the content of its file.

    Raises:
        CarryError: there is no kind of file for it.
    """
    pandas, numpy = sys.modules.get("pandas"), sys.modules.get("numpy")
    if isinstance(value, str):
        return "txt", value.encode(errors="surrogateescape")
    if isinstance(value, (bytes, bytearray)):
        return "bin", bytes(value)
    if pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series)):
        return "csv", value.to_csv(index=False).encode(errors="surrogateescape")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        from notebook_ext.carry import arrays

        return "npy", arrays.write(value)
    try:
        return "json", json.dumps(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CarryError(f"a {type(value).__name__} can't be made a file: {error}; {_WHERE}") from None


def read(ending: str, data: bytes) -> Any:
    """Return the value of a file that a script has written, which may be anything.

    Raises:
        CarryError: it is no such file; Lacking: it takes NumPy or pandas.
    """
    try:
        return ENDINGS[ending](data)
    except CarryError:
        raise
    except Exception as error:  # whatever strange data make of the libraries, it is the data's fault
        raise CarryError(f"it is no .{ending}: {type(error).__name__}: {str(error)[:200]}") from None


def _npy(data: bytes) -> Any:
    try:
        from notebook_ext.carry import arrays
    except ImportError:
        raise Lacking("NumPy") from None
    return arrays.read(data)


def _csv(data: bytes) -> Any:
    try:
        import pandas
    except ImportError:
        raise Lacking("pandas") from None
    return pandas.read_csv(io.BytesIO(data))


#: Ending -> what reads such a file.
ENDINGS: dict[str, Callable[[bytes], Any]] = {
    "json": json.loads,
    "txt": bytes.decode,
    "bin": bytes,
    "npy": _npy,
    "csv": _csv,
}
