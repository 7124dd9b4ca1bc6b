"""NumPy's arrays there and back, and headers that lie."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from notebook_ext.carry.plain import MAGIC, CarryError, dumps, loads

DTYPES = (
    nps.boolean_dtypes() | nps.integer_dtypes(endianness="?") | nps.floating_dtypes(endianness="?")
    | nps.complex_number_dtypes(endianness="?") | nps.unicode_string_dtypes(endianness="?", min_len=1)
    | nps.byte_string_dtypes(min_len=1) | nps.datetime64_dtypes(endianness="?")
    | nps.timedelta64_dtypes(endianness="?")
)  # fmt: skip
STRUCTURED = nps.array_dtypes(DTYPES, min_size=1, max_size=3).filter(lambda dtype: max(repr(dtype)) <= "ÿ")
ARRAYS = (DTYPES | STRUCTURED).flatmap(
    lambda dtype: nps.arrays(dtype, nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


def same(one: Any, other: Any) -> bool:
    return (
        type(one) is type(other) and one.dtype == other.dtype and one.shape == other.shape
        and one.tobytes() == other.tobytes()
    )  # fmt: skip


@given(ARRAYS)
def test_what_goes_there_comes_back(array):
    found = loads(dumps(array))

    assert same(found, array)
    assert found.flags.writeable


@given(ARRAYS)
def test_order_and_steps_do_not_matter(array):
    for other in (np.asfortranarray(array), array.T, array[..., ::-1] if array.ndim else array):
        found = loads(dumps(other))
        assert same(found, other)
        assert found.flags.f_contiguous == other.flags.f_contiguous or not other.flags.c_contiguous


@pytest.mark.parametrize(
    "value",
    [
        np.float64(1.5), np.int8(-1), np.bool_(True), np.str_("ä"), np.datetime64("2026-11-21T12:00"), np.complex64(1j),
        np.timedelta64(3, "s"), np.longdouble("0.1"), np.array((1, 2.0), "i4,f8")[()],
        np.str_(""), np.bytes_(b"a\0b"), np.float64("-0.0"), np.array(["NaT"], "M8[25s]")[0], np.array([1], ">i2")[0],
    ],
    ids=repr,
)  # fmt: skip
def test_scalars_stay_scalars(value):
    found = loads(dumps({"deep": [value]}))["deep"][0]

    assert type(found) is type(value)
    assert found.dtype == value.dtype
    assert found.tobytes() == value.tobytes()


@pytest.mark.parametrize(
    "tree",
    ['["|O",8]', '["<f8",7]', '["<f8"]', '["|V8",8]', '["i4,O",8]', '["<M8[no]",8]', '["<U2",8]', "8", '["|b1",8]'],
)
def test_scalars_that_lie_are_refused(tree):
    text = f'{{"scalar":{tree}}}'.encode()

    with pytest.raises(CarryError):
        loads(MAGIC + struct.pack("<Q", len(text)) + text + b"\xff" * 8)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array([object()]), "an array of object can't be carried"),
        (np.array([(1, None)], [("a", "i4"), ("b", object)]), "can't be carried"),
        (np.ma.masked_array([1], [True]), "np.asarray"),
        (np.zeros(3, "V0"), "0 bytes each"),
        (np.zeros(1, [(f"a long name {place}", "i1") for place in range(1000)]), "one by one"),
        (np.zeros(1, [("Ω", "i1")]), "such names"),
        (np.random.default_rng(0), "a numpy.Generator can't be carried"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_can_not_be_carried_says_so(value, words):
    with pytest.raises(CarryError, match=words):
        dumps(value)


def sent(descr: str, shape: str, data: bytes, order: str = "False", version: tuple[int, int] = (1, 0)) -> bytes:
    """Return a carried array with this header."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    file = b"\x93NUMPY" + bytes(version) + length + text + data
    tree = f'{{"array":{len(file)}}}'.encode()
    return MAGIC + struct.pack("<Q", len(tree)) + tree + file


def test_a_header_that_tells_the_truth_is_taken():
    assert loads(sent("'<i2'", "(2,)", b"\1\0\2\0")).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("descr", "shape", "data"),
    [
        ("'|O'", "(1,)", b"\x80\x04N."),
        ("[('a', '|O')]", "(1,)", b"x" * 8),
        ("'<i8'", "(1000000000000,)", b"x" * 8),
        ("'<i8'", "(-1,)", b"x" * 8),
        ("'<i8'", "(4294967296, 4294967296)", b""),
        ("'<i8'", "(1.5,)", b"x" * 8),
        ("'<i8'", "(2,)", b"x" * 15),
        ("'<i8'", "(2,)", b"x" * 17),
        ("'|V0'", "(1000000000000000000,)", b""),
        ("'|S0'", "(9,)", b""),
        ("('<i4', (2,))", "(1,)", b"x" * 8),
        ("'|b1'", "(1,)", b"\2"),
        ("'<U1'", "(1,)", b"\xff\xff\xff\xff"),
        ("'>U1'", "(1,)", b"\xff\0\0\0"),
        ("[('a', '<U1'), ('b', '|b1')]", "(1,)", b"a\0\0\0\7"),
        ("'no such'", "(1,)", b""),
        ("__import__('os').system('true')", "(1,)", b""),
        ("'<i8'", "(1,) * 10", b"x" * 8),
        ("'<i8'", "(" + "1," * 70 + ")", b"x" * 8),
        ("(" * 3000, "(1,)", b""),
        ("'<M8[generic7]'", "(1,)", b"x" * 8),
    ],
)
def test_headers_that_lie_are_refused(descr, shape, data):
    with pytest.raises(CarryError):
        loads(sent(descr, shape, data))


def test_other_versions_are_refused():
    with pytest.raises(CarryError, match="version"):
        loads(sent("'<i2'", "(1,)", b"\1\0", version=(3, 0)))


@given(ARRAYS, st.data())
def test_damage_is_refused_or_makes_another_array(array, data):
    whole = bytearray(dumps(array))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))

    with contextlib.suppress(CarryError):
        repr(loads(bytes(whole)))  # everything that was taken can be shown


def test_the_parts_are_npy_files():
    array = np.arange(6.0).reshape(2, 3)
    data = dumps(array)

    assert same(np.load(io.BytesIO(data[data.index(b"\x93NUMPY") :])), array)
