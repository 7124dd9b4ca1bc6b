"""NumPy's arrays and scalars as .npy files, whose headers are read with mistrust."""

from __future__ import annotations

import io
import math
import re

import numpy as np
from numpy.lib import format as npy

from .plain import CarryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .plain import Reader, Tree, Writer

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
#: Longest header that NumPy reads, characters; and what is certain to hold one.
_HEADER, _BEGIN = 10_000, 16_384
#: Dtypes of scalars that are told by their bytes.
_KINDS = "biufcSUmM"
_SCALAR = re.compile(rf"[<>|=][{_KINDS}][0-9]{{1,9}}(\[[0-9A-Za-zμ]{{1,20}}\])?")
_FIELDS = "an array with so many fields, or such names of them, can't be carried; carry them one by one"
#: Beyond Unicode, 4 bytes of a text are no character.
_LAST_CHARACTER = 0x10FFFF


def is_scalar(value: object) -> bool:
    """Whether it is one of NumPy's scalars, as np.float64(1)."""
    return isinstance(value, np.generic)


def write(value: Any) -> bytes:
    """Return an array or a scalar as an .npy file; order (C or Fortran), byte order and shape are kept.

    Raises:
        CarryError: it is of objects, or something else.
    """
    if not is_scalar(value) and type(value) is not np.ndarray:
        cure = "make it an array by np.asarray(…)" if isinstance(value, np.ndarray) else "carry arrays and numbers"
        raise CarryError(f"a numpy.{type(value).__name__} can't be carried; {cure}")
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise CarryError(
            f"an array of {array.dtype} can't be carried; give it a dtype by .astype(…), or make it a list"
        )
    if not array.dtype.itemsize:
        raise CarryError(f"an array of {array.dtype}, of 0 bytes each, can't be carried; give it a dtype by .astype(…)")
    file = io.BytesIO()
    try:
        npy.write_array(file, array, version=(1, 0), allow_pickle=False)
    except ValueError:  # a header beyond 64 KiB, or Latin-1
        raise CarryError(_FIELDS) from None
    if file.tell() - array.nbytes > _HEADER:
        raise CarryError(_FIELDS)
    return file.getvalue()


def read(data: bytes | memoryview) -> Any:
    """Return the array of an .npy file, which may be anything.

    Raises:
        CarryError: it is none that can be had without pickle, or not whole.
        Exception: whatever NumPy raises for what is no .npy file.
    """
    file = io.BytesIO(data[:_BEGIN])
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise CarryError(f"an array of it has the unknown version {version}")
    shape, is_fortran, dtype = _HEADERS[version](file)
    _check(shape, dtype, len(data) - file.tell())
    if 0 in shape:
        return np.empty(shape, dtype, "F" if is_fortran else "C")
    flat = np.frombuffer(data, dtype, offset=file.tell()).copy()
    _check_items(flat)
    return flat.reshape(shape, order="F" if is_fortran else "C")


def write_scalar(writer: Writer, value: Any) -> Tree:
    """Return a scalar's dtype and the length of its part: of its bytes alone, for lists may have millions of them."""
    dtype = value.dtype
    if dtype.kind not in _KINDS:
        return ["npy", writer.part(write(value))]
    return [dtype.str, writer.part(value.tobytes()[: dtype.itemsize])]  # an empty text has 4 bytes, and the size 0


def read_scalar(reader: Reader, tree: Tree) -> Any:
    """Return the scalar of a tree, which may be anything.

    Raises:
        CarryError: it is none.
        Exception: whatever NumPy raises for what is no dtype.
    """
    name, length = tree
    data = reader.part(length)
    if name == "npy":
        return read(data)[()]
    if not _SCALAR.fullmatch(name):
        raise CarryError(f"a number of it is of {name[:40]!r}, which is not taken")
    dtype = np.dtype(name)
    if len(data) != dtype.itemsize:
        raise CarryError(f"a number of it has {len(data)} bytes for a {dtype}")
    if not data:
        return dtype.type()  # an empty text
    found = np.frombuffer(data, dtype)
    _check_items(found)
    return found[0]


def _check(shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> None:
    # First of all: NumPy makes an array of objects, or of terabytes, of any header that names them.
    if dtype.hasobject or dtype.subdtype is not None or not dtype.itemsize:
        raise CarryError(f"an array of it is of {str(dtype)[:80]}, which is not taken")
    wanted = math.prod(shape) * dtype.itemsize
    if any(length < 0 for length in shape) or wanted != size:
        raise CarryError(f"an array of it has {size} bytes, and its header tells of {wanted}")


def _check_items(array: Any) -> None:
    """Refuse what NumPy takes for a value, and nobody could read: texts beyond Unicode, booleans beyond True."""
    dtype = array.dtype
    if dtype.names is not None:
        for name in dtype.names:
            _check_items(array[name])
    elif dtype.kind == "b" and (np.ascontiguousarray(array).view(np.uint8) > 1).any():
        raise CarryError("a boolean of it is neither true nor false")
    elif dtype.kind == "U":
        characters = np.ascontiguousarray(array).reshape(-1).view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if (characters > _LAST_CHARACTER).any():
            raise CarryError("a text of it has characters beyond Unicode")
