"""pandas's frames, series and indexes, by their columns; pandas 1.5 to 3 understand each other.

What one version has and the other has not becomes the nearest there: texts of pandas 3 (dtype str) are objects before
and texts again when they are back, and before pandas 2 times are in nanoseconds. An index's `freq`, and `attrs`, are
not carried.
"""

from __future__ import annotations

import datetime
import re

import numpy as np
import pandas as pd

from . import arrays
from .plain import CarryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .plain import Reader, Tree, Writer

#: pandas's own dtypes with a mask -> the class of their arrays.
_MASKED = {
    **{f"{sign}{bits}": "IntegerArray" for sign in ("Int", "UInt") for bits in (8, 16, 32, 64)},
    "Float32": "FloatingArray",
    "Float64": "FloatingArray",
    "boolean": "BooleanArray",
}
#: Kinds of NumPy's dtypes that a column may have.
_PLAIN = set("biufcmM")
#: Most rows of an index that is told by its ends, and costs nothing to send.
_MAX_RANGE = 2**28
#: Years whose times pandas can show in any zone.
_FIRST, _LAST = np.datetime64("0002"), np.datetime64("9998")
#: Names of time zones; "dateutil/…" would name a file.
_ZONE = re.compile(r"(?!dateutil/)[A-Za-z][A-Za-z0-9_+/-]{0,63}")


def write(writer: Writer, value: Any, depth: int) -> Tree:
    """Return the tree of a frame, series or index.

    Raises:
        CarryError: it is something else, or holds what can't be carried.
    """
    if value is pd.NA or value is pd.NaT:
        return {"missing": str(value)}
    if type(value) is pd.DataFrame:
        columns = [_write_column(writer, value, place, depth) for place in range(value.shape[1])]
        axes = [_write_index(writer, axis, depth) for axis in (value.index, value.columns)]
        return {"frame": [*axes, columns]}
    if type(value) is pd.Series:
        index = _write_index(writer, value.index, depth)
        return {"series": [index, _write_values(writer, value, depth), writer.node(value.name, depth)]}
    if isinstance(value, pd.Index):
        return {"index": _write_index(writer, value, depth)}
    name = type(value).__name__
    raise CarryError(f"a pandas {name} can't be carried; carry a DataFrame, a Series, or str(…)")


def read(reader: Reader, tree: Tree, depth: int) -> Any:
    """Return the frame, series or index of a tree, which may be anything.

    Raises:
        CarryError: it is none.
        Exception: whatever pandas raises for strange values.
    """
    [(kind, content)] = tree.items()
    if kind == "missing":
        return {"<NA>": pd.NA, "NaT": pd.NaT}[content]
    if kind == "index":
        return _read_index(reader, content, depth)
    if kind == "series":
        index, values, name = content
        return _read_series(reader, index, values, name, depth)
    if kind != "frame":
        raise CarryError(f"it is of an unknown kind, pandas {kind[:40]!r}")
    index, columns, values = content
    return _read_frame(reader, index, columns, values, depth)


def _read_series(reader: Reader, index: Tree, values: Tree, name: Tree, depth: int) -> Any:
    rows = _read_index(reader, index, depth)
    series = _series(_read_values(reader, values, depth), len(rows))
    series.index = rows
    series.name = reader.node(name, depth)
    return series


def _read_frame(reader: Reader, index: Tree, columns: Tree, values: Tree, depth: int) -> Any:
    if not isinstance(values, list):
        raise CarryError("its columns are missing")
    # In the order in which they were written: that of the parts.
    columns_read = [_read_values(reader, one, depth) for one in values]
    rows, names = _read_index(reader, index, depth), _read_index(reader, columns, depth)
    if len(names) != len(columns_read):
        raise CarryError(f"it has {len(columns_read)} columns and {len(names)} names of columns")
    frame = pd.DataFrame(
        {place: _series(one, len(rows)) for place, one in enumerate(columns_read)}, index=pd.RangeIndex(len(rows))
    )
    frame.index, frame.columns = rows, names
    return frame


def _series(values: Any, length: int) -> Any:
    if len(values) != length:
        raise CarryError(f"a column of it has {len(values)} values for {length} rows")
    # With its dtype: pandas 3 makes texts of objects that are texts.
    return pd.Series(values, dtype=values.dtype)


def _write_index(writer: Writer, index: Any, depth: int) -> Tree:
    names = writer.nodes(index.names, depth)
    if type(index) is pd.RangeIndex and len(index) <= _MAX_RANGE:
        return {"range": [index.start, index.stop, index.step, names]}
    if isinstance(index, pd.MultiIndex):
        codes = [writer.part(arrays.write(np.asarray(one))) for one in index.codes]
        levels = [_write_values(writer, one, depth) for one in index.levels]
        return {"multi": [codes, levels, names]}
    return {"flat": [_write_values(writer, index, depth), names]}


def _read_index(reader: Reader, tree: Tree, depth: int) -> Any:
    [(kind, content)] = tree.items()
    names = reader.nodes(content[-1], depth)
    if kind == "range":
        start, stop, step, _ = content
        if not all(type(one) is int for one in (start, stop, step)) or len(range(start, stop, step)) > _MAX_RANGE:
            raise CarryError("its index has no such range")
        return pd.RangeIndex(start, stop, step, name=names[0])
    if kind == "multi":
        codes = [_codes(reader, one) for one in content[0]]
        levels = [_index(_read_values(reader, one, depth)) for one in content[1]]
        return pd.MultiIndex(levels=levels, codes=codes, names=names)
    if kind != "flat":
        raise CarryError(f"its index is of an unknown kind, {kind[:40]!r}")
    index = _index(_read_values(reader, content[0], depth))
    index.names = names
    return index


def _index(values: Any) -> Any:
    return pd.Index(values, dtype=values.dtype)


def _write_column(writer: Writer, frame: Any, place: int, depth: int) -> Tree:
    try:
        return _write_values(writer, frame.iloc[:, place], depth)
    except CarryError as error:
        raise CarryError(f"its column {frame.columns[place]!r}: {error}") from None


def _write_values(writer: Writer, holder: Any, depth: int) -> Tree:
    """Return the tree of the values of a column or an index."""
    values, dtype = holder.array, holder.dtype
    if isinstance(dtype, np.dtype):
        data = np.asarray(values)
        if data.dtype.kind == "O":
            return {_objects_kind(data): writer.nodes(data.tolist(), depth)}
        return {"numpy": writer.part(arrays.write(data))}
    if isinstance(dtype, pd.DatetimeTZDtype):
        zone = _zone(dtype.tz)
        moments = pd.DatetimeIndex(values).tz_convert("UTC").tz_localize(None)
        return {"zoned": [writer.part(arrays.write(moments.to_numpy())), zone]}
    if isinstance(dtype, pd.CategoricalDtype):
        codes = writer.part(arrays.write(np.asarray(values.codes)))
        return {"categorical": [codes, _write_values(writer, dtype.categories, depth), bool(dtype.ordered)]}
    if isinstance(dtype, pd.StringDtype):
        is_nan = getattr(dtype, "na_value", pd.NA) is not pd.NA
        return {"strings": [[None if one is pd.NA or one != one else one for one in values], is_nan]}
    if str(dtype) in _MASKED:
        missing = np.asarray(values.isna())
        data = values.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.type(0))
        return {"masked": [writer.part(arrays.write(data)), writer.part(arrays.write(missing)), str(dtype)]}
    raise CarryError(f"values of {dtype} can't be carried; make them others by .astype(…)")


def _read_values(reader: Reader, tree: Tree, depth: int) -> Any:
    [(kind, content)] = tree.items()
    read = _VALUES.get(kind)
    if read is None:
        raise CarryError(f"a column of it is of an unknown kind, {kind[:40]!r}")
    return read(reader, content, depth)


def _objects(reader: Reader, content: Tree, depth: int) -> Any:
    values = reader.nodes(content, depth)
    # Not np.array(values): of lists of one length it would make more dimensions.
    found = np.empty(len(values), object)
    for place, value in enumerate(values):
        found[place] = value
    return found


def _objects_kind(values: Any) -> str:
    """Return "texts" for what pandas 3 would not make objects of."""
    return "texts" if not _HAS_STR and pd.api.types.infer_dtype(values, skipna=True) == "string" else "objects"


def _texts(reader: Reader, content: Tree, depth: int) -> Any:
    values = _objects(reader, content, depth)
    return pd.array(values, dtype=pd.StringDtype(na_value=np.nan)) if _HAS_STR else values


def _numpy(reader: Reader, content: Tree, _depth: int) -> Any:
    data = arrays.read(reader.part(content))
    if data.ndim != 1 or data.dtype.kind not in _PLAIN:
        raise CarryError(f"a column of it is of {data.dtype}, in {data.ndim} dimensions")
    # pandas has the times of its own units, and numbers in this machine's byte order.
    return pd.Series(data).array if data.dtype.kind in "mM" else data.astype(data.dtype.newbyteorder("="), copy=False)


def _zoned(reader: Reader, content: Tree, depth: int) -> Any:
    moments, zone = content
    if isinstance(zone, str) and not _ZONE.fullmatch(zone):
        raise CarryError("a column of it has no such time zone")
    place = zone if isinstance(zone, str) else datetime.timezone(datetime.timedelta(seconds=zone))
    times = _numpy(reader, moments, depth)
    if times.dtype.kind != "M":
        raise CarryError(f"a column of times has {times.dtype}")
    years = np.asarray(times).astype("M8[Y]")
    if ((years < _FIRST) | (years > _LAST)).any():
        raise CarryError("times of it lie beyond the years for which there are time zones")
    return pd.DatetimeIndex(times).tz_localize("UTC").tz_convert(place).array


def _categorical(reader: Reader, content: Tree, depth: int) -> Any:
    codes, categories, is_ordered = content
    places = _codes(reader, codes)
    known = _index(_read_values(reader, categories, depth))
    return pd.Categorical.from_codes(places, categories=known, ordered=is_ordered is True)


def _codes(reader: Reader, length: Tree) -> Any:
    """Return numbers of levels or categories; whether there are such, pandas looks."""
    codes = arrays.read(reader.part(length))
    if codes.ndim != 1 or codes.dtype.kind != "i":
        raise CarryError(f"codes of it are of {codes.dtype}, in {codes.ndim} dimensions")
    return codes


def _strings(_reader: Reader, content: Tree, _depth: int) -> Any:
    texts, is_nan = content
    if not all(one is None or isinstance(one, str) for one in texts):
        raise CarryError("a column of texts has something else")
    if not is_nan:
        return pd.array(texts, dtype="string")
    if _HAS_STR:
        return pd.array(texts, dtype=pd.StringDtype(na_value=np.nan))
    return np.array([np.nan if one is None else one for one in texts], dtype=object)


def _masked(reader: Reader, content: Tree, _depth: int) -> Any:
    data, missing, name = content
    values, mask = arrays.read(reader.part(data)), arrays.read(reader.part(missing))
    made = getattr(pd.arrays, _MASKED[name])(values, mask)
    if str(made.dtype) != name:
        raise CarryError(f"a column of {name} has values of {made.dtype}")
    return made


_VALUES = {
    "objects": _objects,
    "numpy": _numpy,
    "zoned": _zoned,
    "categorical": _categorical,
    "strings": _strings,
    "texts": _texts,
    "masked": _masked,
}
#: Whether texts are no objects, and missing ones NaN: since pandas 3.
_HAS_STR = int(pd.__version__.partition(".")[0]) >= 3


def _zone(zone: Any) -> str | float:
    """Return a time zone's name, or its seconds east of UTC where it has none."""
    for name in (getattr(zone, "key", None), getattr(zone, "zone", None)):
        if isinstance(name, str) and _ZONE.fullmatch(name):
            return name
    offset = zone.utcoffset(None)
    if offset is None:
        raise CarryError(f"times of the zone {zone} can't be carried; change it by .tz_convert(…)")
    return "UTC" if not offset else float(offset.total_seconds())
