"""pandas's frames there and back, and trees that lie about them."""

from __future__ import annotations

import contextlib
import datetime
import json
import struct
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal, assert_index_equal, assert_series_equal

from notebook_ext.carry import arrays, frames
from notebook_ext.carry.plain import MAGIC, CarryError, dumps, loads

ROWS = 3
TIMES = pd.DatetimeIndex(["2026-03-29 00:30", "1999-12-31 23:59:59.123456789", None])
FIXED = datetime.timezone(datetime.timedelta(hours=-3, minutes=-30))
COLUMNS: dict[str, Any] = {
    "int8": pd.Series([1, -2, 3], dtype="int8"),
    "uint64": pd.Series([2**64 - 1, 0, 1], dtype="uint64"),
    "float": pd.Series([1.5, np.nan, -np.inf]),
    "float32": pd.Series([1.5, 2.5, 3.5], dtype="float32"),
    "complex": pd.Series([1j, 2, 3]),
    "bool": pd.Series([True, False, True]),
    "time": pd.Series(TIMES),
    "seconds": pd.Series(TIMES.floor("s").as_unit("s")),
    "zone": pd.Series(TIMES.tz_localize("UTC").tz_convert("Europe/Berlin")),
    "utc": pd.Series(TIMES.tz_localize("UTC")),
    "fixed": pd.Series(TIMES.tz_localize(FIXED)),
    "delta": pd.Series(pd.to_timedelta(["1s", None, "-2 days"])),
    "Int64": pd.Series([1, None, -(2**62) - 1], dtype="Int64"),
    "UInt8": pd.Series([1, None, 255], dtype="UInt8"),
    "Float64": pd.Series([1.5, None, -2.0], dtype="Float64"),
    "boolean": pd.Series([True, None, False], dtype="boolean"),
    "string": pd.Series(["a", None, "ü"], dtype="string"),
    "texts": pd.Series(["a", "b", ""]),
    "category": pd.Series(["x", None, "y"], dtype=pd.CategoricalDtype(["y", "x", "z"], ordered=True)),
    "numbers as categories": pd.Series([3, 1, 3], dtype="category"),
    "objects": pd.Series(["a", 1, None], dtype=object),
    "lists": pd.Series([[1, 2], (3,), {"a": b"b"}], dtype=object),
    "missing": pd.Series([pd.NA, pd.NaT, np.nan], dtype=object),
}
INDEXES: dict[str, Any] = {
    "range": pd.RangeIndex(2, 11, 3, name="row"),
    "texts": pd.Index(["b", "a", "b"], name="key"),
    "times": pd.DatetimeIndex(["2026-01-01", "2026-01-02", "2026-01-05"], tz="Europe/Berlin"),
    "floats": pd.Index([1.5, 2.5, -1.0], name=("a", 1)),
    "tuples": pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["letter", None]),
    "categories": pd.CategoricalIndex(["a", "b", "a"]),
    "mixed": pd.Index(["a", 1, None], dtype=object),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_columns_come_back_as_they_went(column):
    assert_series_equal(loads(dumps(column.rename("name"))), column.rename("name"))
    frame = pd.DataFrame({"a": column, "b": column[::-1]})
    assert_frame_equal(loads(dumps(frame)), frame)


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_columns_without_rows_keep_their_dtype(column):
    assert_series_equal(loads(dumps(column[:0])), column[:0])


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
def test_indexes_come_back_as_they_went(index):
    frame = pd.DataFrame({"a": [1, 2, 3]}, index=index)

    assert_index_equal(loads(dumps(index)), index, exact=True)
    assert_frame_equal(loads(dumps(frame)), frame, check_freq=False, check_index_type=True)
    assert_frame_equal(loads(dumps(frame.T)), frame.T, check_freq=False, check_column_type=True)


@given(st.data())
def test_any_columns_in_any_order_come_back(data):
    names = data.draw(st.lists(st.sampled_from(sorted(COLUMNS)), max_size=6))
    index = data.draw(st.sampled_from(sorted(INDEXES)))
    frame = pd.concat([COLUMNS[name].rename(name) for name in names], axis=1) if names else pd.DataFrame(index=range(3))
    frame.index = INDEXES[index]

    assert_frame_equal(loads(dumps({"deep": [frame]}))["deep"][0], frame, check_freq=False)


@pytest.mark.skipif(not frames._HAS_STR, reason="it takes pandas 3")
def test_texts_go_to_an_older_pandas_and_come_back(monkeypatch):
    frame = pd.DataFrame({"a": ["x", None, "y"]}, index=pd.Index(["1", "2", "3"]))
    sent = dumps(frame)
    monkeypatch.setattr(frames, "_HAS_STR", False)

    there = loads(sent)

    assert [there["a"].dtype, there.index.dtype] == [object, object]
    back = dumps(there)
    assert_frame_equal(loads(back), there)
    monkeypatch.setattr(frames, "_HAS_STR", True)
    assert_frame_equal(loads(back), frame)


def test_names_of_columns_may_be_anything_and_there_twice():
    frame = pd.DataFrame([[1, 2, 3, 4]], columns=pd.Index(["a", "a", 1, (2, None)], dtype=object, name="names"))

    assert_frame_equal(loads(dumps(frame)), frame)


def test_frames_without_columns_or_rows_come_back():
    for frame in (pd.DataFrame(), pd.DataFrame(index=range(3)), pd.DataFrame(columns=["a"]), pd.DataFrame({"a": []})):
        assert_frame_equal(loads(dumps(frame)), frame)


def test_a_frame_that_came_back_can_be_written_to():
    found = loads(dumps(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})))
    found.loc[0, "a"] = 9
    found["c"] = found["a"] * 2

    assert found["c"].tolist() == [18, 4]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (pd.Series([object()]), "a object can't be carried"),
        (pd.Series(pd.period_range("2026", periods=2, freq="D")), "values of period"),
        (pd.Series([1, 0], dtype="Sparse[int]"), "values of Sparse"),
        (pd.DataFrame({"a": pd.interval_range(0, 2)}), "its column 'a': values of interval"),
        (pd.Timestamp("2026-01-01"), "a pandas Timestamp can't be carried"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_can_not_be_carried_says_so(value, words):
    with pytest.raises(CarryError, match=words):
        dumps(value)


def sent(tree: object, *parts: np.ndarray[Any, Any]) -> bytes:
    """Return a carried value with this tree of pandas's; each "#" in it stands for the length of a part."""
    files = [arrays.write(part) for part in parts]
    text = json.dumps({"pandas": tree})
    for file in files:
        text = text.replace('"#"', str(len(file)), 1)
    return MAGIC + struct.pack("<Q", len(text)) + text.encode() + b"".join(files)


RANGE = {"range": [0, 2, 1, [None]]}
ONE = np.arange(2)


def test_a_tree_that_tells_the_truth_is_taken():
    assert loads(sent({"series": [RANGE, {"numpy": "#"}, None]}, ONE)).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("tree", "parts"),
    [
        ({"frame": [RANGE, RANGE, [{"numpy": "#"}]]}, [ONE]),
        ({"frame": [RANGE, {"range": [0, 1, 1, [None]]}, [{"numpy": "#"}]]}, [np.arange(3)]),
        ({"frame": [RANGE, {"range": [0, 1, 1, [None]]}, [{"numpy": "#"}]]}, [np.ones((2, 2))]),
        ({"frame": [RANGE, RANGE, {}]}, []),
        ({"index": {"range": [0, 10**18, 1, [None]]}}, []),
        ({"index": {"range": [0, 1, 0, [None]]}}, []),
        ({"index": {"range": [0, 1, 1, []]}}, []),
        ({"index": {"range": [0, 1, 1, [[]]]}}, []),
        ({"index": {"multi": [["#"], [{"objects": ["a"]}], [None]]}}, [np.array([0, 5])]),
        ({"series": [RANGE, {"zoned": ["#", "dateutil//etc/passwd"]}, None]}, [ONE.astype("M8[ns]")]),
        ({"series": [RANGE, {"zoned": ["#", "../../etc/passwd"]}, None]}, [ONE.astype("M8[ns]")]),
        ({"series": [RANGE, {"zoned": ["#", "No/Where"]}, None]}, [ONE.astype("M8[ns]")]),
        ({"series": [RANGE, {"zoned": ["#", 1e9]}, None]}, [ONE.astype("M8[ns]")]),
        ({"series": [RANGE, {"zoned": ["#", "UTC"]}, None]}, [ONE]),
        ({"series": [RANGE, {"zoned": ["#", "UTC"]}, None]}, [np.array(["0", "10000"], "M8[s]")]),
        ({"series": [RANGE, {"categorical": ["#", {"objects": ["a"]}, True]}, None]}, [np.array([0, 7])]),
        ({"series": [RANGE, {"categorical": ["#", {"objects": ["a", "a"]}, True]}, None]}, [np.array([0, 1])]),
        ({"series": [RANGE, {"masked": ["#", "#", "Int64"]}, None]}, [ONE, ONE]),
        ({"series": [RANGE, {"masked": ["#", "#", "Int8"]}, None]}, [ONE, ONE > 0]),
        ({"series": [RANGE, {"masked": ["#", "#", "PeriodArray"]}, None]}, [ONE, ONE > 0]),
        ({"series": [RANGE, {"strings": [["a", 7], False]}, None]}, []),
        ({"series": [RANGE, {"numpy": "#"}, []]}, [ONE]),
        ({"series": [RANGE, {"numpy": "#"}, None]}, [np.array(["a", "b"])]),
        ({"series": [RANGE, {"numpy": "#"}, None]}, [np.zeros(2, "i4,i4")]),
        ({"pickle": "x"}, []),
        ({"missing": "x"}, []),
    ],
    ids=str,
)  # fmt: skip
def test_trees_that_lie_are_refused(tree, parts):
    with pytest.raises(CarryError):
        loads(sent(tree, *parts))


@given(st.sampled_from(sorted(COLUMNS)), st.sampled_from(sorted(INDEXES)), st.data())
def test_damage_is_refused_or_makes_another_frame(column, index, data):
    frame = pd.DataFrame({"a": COLUMNS[column]})
    frame.index = INDEXES[index]
    whole = bytearray(dumps(frame))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))

    with contextlib.suppress(CarryError):
        loads(dumps(loads(bytes(whole))))
