"""Python's own values there and back, and whatever else may come."""

from __future__ import annotations

import collections
import contextlib
import datetime
import json
import math
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notebook_ext.carry import plain
from notebook_ext.carry.plain import MAGIC, CarryError, dumps, loads

ATOMS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary()
    | st.integers(-(2**200), 2**200) | st.characters(codec=None)
)  # fmt: skip
KEYS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
VALUES = st.recursive(
    ATOMS | st.sets(KEYS, max_size=5) | st.frozensets(KEYS, max_size=5),
    lambda inner: (
        st.lists(inner, max_size=5) | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5)
    ),
    max_leaves=20,
)  # fmt: skip
#: Trees that are nearly right.
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 200) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*plain._READERS, "frame", "series", "index", "flat", "numpy", "range"]), inner, max_size=2
        )
    ),
    max_leaves=15,
)


def packed(tree: object, parts: bytes = b"") -> bytes:
    text = json.dumps(tree).encode()
    return MAGIC + struct.pack("<Q", len(text)) + text + parts


def same(one: object, other: object) -> bool:
    """Whether two values are equal and of equal types all through; NaN is itself, and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    match one:
        case float():
            assert isinstance(other, float)
            return repr(one) == repr(other)
        case complex():
            assert isinstance(other, complex)
            return same(one.real, other.real) and same(one.imag, other.imag)
        case list() | tuple():
            assert isinstance(other, (list, tuple))
            return len(one) == len(other) and all(map(same, one, other))
        case dict():
            assert isinstance(other, dict)
            return same(list(one.items()), list(other.items()))
        case set() | frozenset():
            assert isinstance(other, (set, frozenset))
            return one == other and {type(item) for item in one} == {type(item) for item in other}
    return one == other


@given(VALUES)
def test_what_goes_there_comes_back(value):
    assert same(loads(dumps(value)), value)


def test_numbers_of_any_size_are_carried():
    for value in (10**10_000, -(10**10_000), 2**63, -(2**63), 2**64, math.inf, -math.inf, -0.0, 5e-324):
        assert same(loads(dumps(value)), value)


Point = collections.namedtuple("Point", "x y")
CYCLE: list[object] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "a object can't be carried"),
        (Point(1, 2), r"a Point can't be carried; make it tuple\(…\)"),
        (collections.OrderedDict(), r"make it dict\(…\)"),
        (bytearray(b"x"), r"make it bytes\(…\)"),
        ([{"deep": {1, "a"}}, datetime.date(2026, 1, 1)], "a date can't be carried"),
        (len, "can't be carried"),
        (CYCLE, "more than 100 deep, or within itself"),
    ],
    ids=repr,
)
def test_what_can_not_be_carried_says_what_it_is(value, words):
    with pytest.raises(CarryError, match=words):
        dumps(value)


@given(st.binary(max_size=200))
def test_anything_else_is_refused(data):
    with pytest.raises(CarryError):
        loads(data)


@given(VALUES, st.data())
def test_damage_is_refused_or_makes_another_value(value, data):
    whole = bytearray(dumps(value))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))

    with contextlib.suppress(CarryError):
        loads(dumps(loads(bytes(whole))))


@given(VALUES, st.data())
def test_what_is_cut_short_or_too_long_is_refused(value, data):
    whole = dumps(value)

    with pytest.raises(CarryError):
        loads(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CarryError):
        loads(whole + b"x")


@given(TREES, st.binary(max_size=100))
def test_no_tree_makes_more_than_an_error(tree, parts):
    with contextlib.suppress(CarryError):
        loads(packed(tree, parts))


@pytest.mark.parametrize(
    "data",
    [
        b'{"bytes":3}' + b"",
        b'{"bytes":-1}',
        b'{"bytes":true}',
        b'{"bytes":1e9}',
        b'[{"bytes":4},{"bytes":4}]',
        b'{"int":"__import__(0)"}',
        b'{"int":"0x_"}',
        b'{"float":"1.0"}',
        b'{"complex":[1,2]}',
        b'{"set":[[]]}',
        b'{"items":[[1]]}',
        b'{"dict":[]}',
        b'{"pickle":"gASV"}',
        b'{"int":"0x1","float":"nan"}',
        b"{}",
        b"NaN",
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 200 + b"]" * 200,
        b"9" * 10_000,
    ],
    ids=lambda data: data[:30].decode(),
)
def test_trees_that_lie_are_refused(data):
    with pytest.raises(CarryError):
        loads(MAGIC + struct.pack("<Q", len(data)) + data + b"parts")


def test_sizes_are_limited(monkeypatch):
    data = dumps(b"x" * 1000)
    monkeypatch.setattr(plain, "LIMIT", len(data) - 1)
    with pytest.raises(CarryError, match="at most"):
        loads(data)
    with pytest.raises(CarryError, match="to a file"):
        dumps(b"x" * 1000)
    monkeypatch.setattr(plain, "LIMIT", len(data))
    monkeypatch.setattr(plain, "TREE_LIMIT", 5)
    with pytest.raises(CarryError, match="its text"):
        loads(data)
    with pytest.raises(CarryError, match="make them arrays"):
        dumps([1, 2, 3])


def test_a_part_can_be_had_once():
    with pytest.raises(CarryError, match="missing"):
        loads(packed([{"bytes": 5}, {"bytes": 5}], b"12345"))


def test_plain_values_need_neither_numpy_nor_pandas():
    code = (
        "import sys\nfrom notebook_ext.carry.plain import dumps, loads\n"
        "loads(dumps([1, {'a': b'x'}, {2.5, None}]))\nprint({'numpy', 'pandas', 'IPython'} & set(sys.modules))"
    )

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ended.stdout == "set()\n", ended.stderr
