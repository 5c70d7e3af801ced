"""Tensors from JSON to bytes and back, and what their declaration forbids."""

import math
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalyard_router.rules.inference import digest_of
from signalyard_router.rules.tensors import DATATYPES, Tensor, TensorError, pack, unpack

WHOLE = {"UINT8": 8, "UINT16": 16, "UINT32": 32, "UINT64": 64, "INT8": -8, "INT16": -16, "INT32": -32, "INT64": -64}


def values_of(datatype):
    if datatype == "BYTES":
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    if datatype == "BOOL":
        return st.booleans()
    if datatype in WHOLE:
        bits = WHOLE[datatype]
        return st.integers(0, 2**bits - 1) if bits > 0 else st.integers(-(2 ** (-bits - 1)), 2 ** (-bits - 1) - 1)
    return st.floats(width={"FP16": 16, "FP32": 32, "FP64": 64}[datatype], allow_nan=False, allow_infinity=False)


@given(st.data(), st.sampled_from(DATATYPES))
def test_there_and_back(data, datatype):
    values = data.draw(st.lists(values_of(datatype), max_size=6))
    shape = (len(values),)
    packed = pack(datatype, shape, values)
    assert unpack(datatype, shape, packed) == values
    written = Tensor(name="t", datatype=datatype, shape=shape, written=msgspec.json.encode(values))
    assert written.as_packed() == packed
    one = Tensor(name="t", datatype=datatype, shape=shape, packed=packed)
    assert msgspec.json.decode(one.as_written()) == values
    assert digest_of([written]) == digest_of([one])  # whichever wire it came by


def test_nested_data_is_flat_data():
    assert pack("FP64", (2, 2), [[1, 2], [3, 4.5]]) == struct.pack("<4d", 1, 2, 3, 4.5)
    assert pack("INT8", (1, 2, 1), [[[1], [2]]]) == b"\x01\x02"


def test_null_is_the_nan_of_a_float():
    assert math.isnan(unpack("FP32", (1,), pack("FP32", (1,), [None]))[0])
    nan = Tensor(name="t", datatype="FP64", shape=(2,), packed=struct.pack("<2d", math.nan, math.inf))
    assert nan.as_written() == b"[null,null]"


@pytest.mark.parametrize(
    ("datatype", "shape", "values", "said"),
    [
        ("FP64", (3,), [1.0, 2.0], "3 elements, there are 2"),
        ("FP64", (-1,), [1.0], "negative"),
        ("INT32", (1,), [1.5], "no INT32"),
        ("INT32", (1,), [None], "no INT32"),
        ("INT8", (1,), [128], "no INT8"),
        ("UINT8", (1,), [-1], "no UINT8"),
        ("INT64", (1,), [True], "true and false"),
        ("FP64", (1,), ["1"], "no FP64"),
        ("FP64", (1,), [10**400], "no FP64"),
        ("FP32", (1,), [1e300], "no FP32"),
        ("BOOL", (1,), [2], "BOOL takes"),
        ("BYTES", (1,), [5], "BYTES takes text"),
        ("FP64", (2,), [[1.0], 2.0], "mixes"),
        ("FP64", (2,), [1.0, [2.0]], "no FP64"),
        ("FP64", (1,), {"a": 1}, "array"),
        ("FP8", (1,), [1.0], "no datatype"),
    ],
)
def test_what_does_not_fit_is_refused(datatype, shape, values, said):
    with pytest.raises(TensorError, match=said):
        pack(datatype, shape, values)


@pytest.mark.parametrize(
    ("datatype", "shape", "packed", "said"),
    [
        ("FP64", (2,), b"\0" * 15, "takes 16 bytes, there are 15"),
        ("BYTES", (1,), b"\x05\0\0\0abc", "within an element"),
        ("BYTES", (1,), b"\x05\0", "within the length"),
        ("BYTES", (2,), b"\x01\0\0\0a", "hold 1"),
        ("BYTES", (1,), b"\x01\0\0\0\xff", "UTF-8"),
        ("FP64", (2**62, 2**62), b"", "takes"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(datatype, shape, packed, said):
    with pytest.raises(TensorError, match=said):
        unpack(datatype, shape, packed)


def test_the_digest_tells_tensors_apart():
    def one(**more):
        return Tensor(**{"name": "a", "datatype": "INT8", "shape": (2,), "written": b"[1,2]"} | more)

    different = [
        one(),
        one(name="b"),
        one(datatype="UINT8"),
        one(shape=(1, 2)),
        one(written=b"[2,1]"),
    ]
    assert len({digest_of([tensor]) for tensor in different}) == len(different)
    assert digest_of([one(), one(name="b")]) != digest_of([one(name="b"), one()])
    with pytest.raises(TensorError, match="'a'"):
        digest_of([one(written=b"[1]")])
