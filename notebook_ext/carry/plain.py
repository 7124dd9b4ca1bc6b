"""The format of carried values, and Python's own values in it.

A carried value is MAGIC, the length of a JSON text (8 bytes, little-endian), that text, and then the parts of which it
tells the lengths, in its order, to the last byte. Nothing in it names code, a path or a compression: to read it makes
values of the types below and no others, of about the size that was sent.

None, booleans, texts, finite floats, integers of up to 64 bits and lists are themselves in JSON; all else is an object
of one key, the kind.
"""

from __future__ import annotations

import functools
import json
import math
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Tree = Any

MAGIC = b"magpie 1\n"
#: Most bytes of a carried value, and of the JSON text in it: lists of small values take much more memory than text.
LIMIT, TREE_LIMIT = 512 * 1024 * 1024, 64 * 1024 * 1024
#: Most lists within lists.
MAX_DEPTH = 100
_LENGTH = struct.Struct("<Q")
_WIDE = 2**63


class CarryError(Exception):
    """A value can't be carried, or what came is none; says why, in words that go on behind the variable's name."""


class Lacking(CarryError):
    """It takes a package that is not installed here.

    Args:
        package: as people write it.
    """

    def __init__(self, package: str) -> None:
        self.package = package
        super().__init__(f"it takes {package}, which is not installed here")


class Writer:
    """Turns values into a tree for JSON, and parts."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def part(self, data: bytes) -> int:
        """Add a part; returns what the tree says of it."""
        self.parts.append(data)
        return len(data)

    def node(self, value: object, depth: int = 0) -> Tree:
        """Return the tree of a value.

        Raises:
            CarryError: it, or something in it, can't be carried.
        """
        if depth > MAX_DEPTH:
            raise CarryError(f"it is nested more than {MAX_DEPTH} deep, or within itself")
        # Not isinstance: what is made of a subclass's value would be another one.
        write = _WRITERS.get(type(value)) or _foreign(value)
        return write(self, value, depth + 1)

    def nodes(self, values: Any, depth: int) -> list[Tree]:
        """Return the trees of some values."""
        return [self.node(value, depth) for value in values]


class Reader:
    """Makes values of a tree and its parts, which it must use up."""

    def __init__(self, parts: memoryview) -> None:
        self._parts = parts

    def part(self, length: object) -> memoryview:
        """Return the next part."""
        if type(length) is not int or not 0 <= length <= len(self._parts):
            raise CarryError("a part of it is missing")
        found, self._parts = self._parts[:length], self._parts[length:]
        return found

    def end(self) -> None:
        """Raise CarryError where parts are left."""
        if self._parts:
            raise CarryError("it has more parts than it tells of")

    def node(self, tree: Tree, depth: int = 0) -> Any:
        """Return the value of a tree."""
        if depth > MAX_DEPTH:
            raise CarryError(f"it is nested more than {MAX_DEPTH} deep")
        if isinstance(tree, list):
            return self.nodes(tree, depth + 1)
        if not isinstance(tree, dict):
            return tree
        [(kind, content)] = tree.items()
        read = _READERS.get(kind)
        if read is None:
            raise CarryError(f"it is of an unknown kind, {kind[:40]!r}")
        return read(self, content, depth + 1)

    def nodes(self, trees: Tree, depth: int) -> list[Any]:
        """Return the values of some trees."""
        if not isinstance(trees, list):
            raise CarryError("a list is missing in it")
        return [self.node(tree, depth) for tree in trees]


def dumps(value: object) -> bytes:
    """Return a value as bytes.

    Raises:
        CarryError: it can't be carried, or is too large.
    """
    writer = Writer()
    text = json.dumps(writer.node(value), separators=(",", ":"), allow_nan=False).encode()
    if len(text) > TREE_LIMIT:
        raise CarryError(f"its lists take {len(text)} bytes, at most {TREE_LIMIT} do; make them arrays")
    data = b"".join([MAGIC, _LENGTH.pack(len(text)), text, *writer.parts])
    if len(data) > LIMIT:
        raise CarryError(f"it takes {len(data)} bytes, at most {LIMIT} do; write it to a file")
    return data


def loads(data: bytes) -> Any:
    """Return the value of `dumps`; `data` may be anything.

    Raises:
        CarryError: it is no such value, or damaged.
        Lacking: it takes NumPy or pandas.
    """
    try:
        return _loads(memoryview(data))
    except CarryError:
        raise
    except Exception as error:  # whatever strange data make of the libraries, it is the data's fault
        raise CarryError(f"it is damaged: {type(error).__name__}: {str(error)[:200]}") from None


def _loads(data: memoryview) -> Any:
    begin = len(MAGIC) + _LENGTH.size
    if data[: len(MAGIC)] != MAGIC or len(data) < begin:
        raise CarryError("it is no carried value of this version")
    if len(data) > LIMIT:
        raise CarryError(f"it has {len(data)} bytes; at most {LIMIT} are taken")
    (size,) = _LENGTH.unpack(data[len(MAGIC) : begin])
    if size > min(TREE_LIMIT, len(data) - begin):
        raise CarryError(f"its text has {size} bytes; {min(TREE_LIMIT, len(data) - begin)} can be")
    tree = json.loads(bytes(data[begin : begin + size]), parse_constant=_no_constant)
    reader = Reader(data[begin + size :])
    value = reader.node(tree)
    reader.end()
    return value


def _no_constant(word: str) -> None:
    raise CarryError(f"{word} is no JSON")


@functools.cache
def _arrays() -> Any:
    try:
        from . import arrays
    except ImportError:
        raise Lacking("NumPy") from None
    return arrays


@functools.cache
def _frames() -> Any:
    try:
        from . import frames
    except ImportError:
        raise Lacking("pandas") from None
    return frames


def _itself(_writer: Writer, value: Any, _depth: int) -> Tree:
    return value


def _int(_writer: Writer, value: Any, _depth: int) -> Tree:
    return value if -_WIDE <= value < _WIDE else {"int": hex(value)}


def _float(_writer: Writer, value: Any, _depth: int) -> Tree:
    return value if math.isfinite(value) else {"float": repr(value)}


def _complex(writer: Writer, value: Any, depth: int) -> Tree:
    return {"complex": writer.nodes((value.real, value.imag), depth)}


def _dict(writer: Writer, value: Any, depth: int) -> Tree:
    if all(type(key) is str for key in value):
        return {"dict": {key: writer.node(one, depth) for key, one in value.items()}}
    return {"items": [writer.nodes(item, depth) for item in value.items()]}


_WRITERS: dict[type, Callable[[Writer, Any, int], Tree]] = {
    type(None): _itself,
    bool: _itself,
    str: _itself,
    int: _int,
    float: _float,
    complex: _complex,
    bytes: lambda writer, value, _depth: {"bytes": writer.part(value)},
    list: lambda writer, value, depth: writer.nodes(value, depth),
    tuple: lambda writer, value, depth: {"tuple": writer.nodes(value, depth)},
    set: lambda writer, value, depth: {"set": writer.nodes(value, depth)},
    frozenset: lambda writer, value, depth: {"frozenset": writer.nodes(value, depth)},
    dict: _dict,
}


def _read_dict(reader: Reader, content: Tree, depth: int) -> Any:
    return {key: reader.node(tree, depth) for key, tree in content.items()}


def _read_items(reader: Reader, content: Tree, depth: int) -> Any:
    return dict(reader.nodes(item, depth) for item in content)


def _read_float(_reader: Reader, content: Tree, _depth: int) -> Any:
    return {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[content]


def _read_complex(reader: Reader, content: Tree, depth: int) -> Any:
    real, imaginary = reader.nodes(content, depth)
    if type(real) is not float or type(imaginary) is not float:
        raise CarryError("a complex number of it has other parts than two floats")
    return complex(real, imaginary)


_READERS: dict[str, Callable[[Reader, Tree, int], Any]] = {
    "int": lambda _reader, content, _depth: int(content, 16),
    "float": _read_float,
    "complex": _read_complex,
    "bytes": lambda reader, content, _depth: bytes(reader.part(content)),
    "tuple": lambda reader, content, depth: tuple(reader.nodes(content, depth)),
    "set": lambda reader, content, depth: set(reader.nodes(content, depth)),
    "frozenset": lambda reader, content, depth: frozenset(reader.nodes(content, depth)),
    "dict": _read_dict,
    "items": _read_items,
    "array": lambda reader, content, _depth: _arrays().read(reader.part(content)),
    "scalar": lambda reader, content, _depth: _arrays().read_scalar(reader, content),
    "pandas": lambda reader, content, depth: _frames().read(reader, content, depth),
}


def _foreign(value: object) -> Callable[[Writer, Any, int], Tree]:
    """Return what writes a value that is not Python's own."""
    home = type(value).__module__.partition(".")[0]
    if home == "numpy" and "numpy" in sys.modules:
        return _numpy
    if home == "pandas" and "pandas" in sys.modules:
        return lambda writer, value, depth: {"pandas": _frames().write(writer, value, depth)}
    raise CarryError(f"a {type(value).__qualname__} can't be carried; {_cure(value)}")


def _numpy(writer: Writer, value: Any, _depth: int) -> Tree:
    arrays = _arrays()
    if arrays.is_scalar(value):
        return {"scalar": arrays.write_scalar(writer, value)}
    return {"array": writer.part(arrays.write(value))}


def _cure(value: object) -> str:
    for kind in (dict, list, tuple, set, str, bytes, int, float):
        if isinstance(value, kind):
            return f"make it {kind.__name__}(…)"
    if isinstance(value, (bytearray, memoryview)):
        return "make it bytes(…)"
    return "carry its parts, or write it to a file"
