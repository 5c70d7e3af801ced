"""Tensors as the Open Inference Protocol has them: as JSON writes their values, or packed little-endian.

Source: the protocol's data types and its binary tensor extension, https://github.com/kserve/open-inference-protocol
and https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md. A packed ``BYTES``
element is its length in four bytes, then the bytes.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

_FORMATS: Mapping[str, str] = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
"""What `struct` calls the numbers of each type."""

DATATYPES = (*_FORMATS, "BYTES")
_FLOATS = ("FP16", "FP32", "FP64")
_LENGTH = struct.Struct("<I")


class TensorError(ValueError):
    """Values and their declaration do not go together; the text says how."""


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """A named tensor. Its content is ``packed`` or, as JSON writes an array, flat or nested, ``written``: exactly one of them is there."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    packed: bytes | None = None
    written: bytes | None = None
    parameters: Mapping[str, Any] = {}

    def as_packed(self) -> bytes:
        """The content little-endian, row-major. Raises TensorError."""
        if self.packed is not None:
            check_length(self.datatype, self.shape, self.packed)
            return self.packed
        try:
            values = msgspec.json.decode(self.written or b"[]")
        except (ValueError, RecursionError) as exc:
            raise TensorError(f"the data is not JSON: {exc}") from exc
        return pack(self.datatype, self.shape, values)

    def as_written(self) -> bytes:
        """The content as a JSON array; what is not finite becomes null. Raises TensorError."""
        if self.written is not None:
            return self.written
        return msgspec.json.encode(unpack(self.datatype, self.shape, self.packed or b""))


def count(shape: Sequence[int]) -> int:
    """How many elements a tensor of this shape has. Raises TensorError."""
    if any(side < 0 for side in shape):
        raise TensorError(f"a shape has no negative side, this one is {list(shape)}")
    return math.prod(shape)


def check_length(datatype: str, shape: Sequence[int], packed: bytes) -> None:
    """Raise TensorError where packed bytes are not what type and shape promise."""
    if datatype == "BYTES":
        unpack_elements(shape, packed)
        return
    wanted = count(shape) * struct.calcsize(_format(datatype))
    if len(packed) != wanted:
        raise TensorError(f"{datatype} {list(shape)} takes {wanted} bytes, there are {len(packed)}")


def pack(datatype: str, shape: Sequence[int], values: object) -> bytes:
    """Values as JSON has them, flat or nested, little-endian. null is the NaN of a float. Raises TensorError."""
    flat = _flat(values)
    wanted = count(shape)
    if len(flat) != wanted:
        raise TensorError(f"the shape {list(shape)} has {wanted} elements, there are {len(flat)}")
    if datatype == "BYTES":
        return b"".join(_prefixed(_text(value)) for value in flat)
    kind = _format(datatype)
    if datatype in _FLOATS:
        flat = [math.nan if value is None else value for value in flat]
    if datatype == "BOOL":
        if not all(value in (0, 1) for value in flat):
            raise TensorError("BOOL takes true and false")
    elif any(isinstance(value, bool) for value in flat):
        raise TensorError(f"{datatype} takes numbers, not true and false")
    try:
        return struct.pack(f"<{wanted}{kind}", *flat)
    except (struct.error, OverflowError, TypeError) as exc:
        raise TensorError(f"a value is no {datatype}: {exc}") from exc


def unpack(datatype: str, shape: Sequence[int], packed: bytes) -> list[Any]:
    """Packed elements as JSON has them, flat. Raises TensorError."""
    check_length(datatype, shape, packed)
    if datatype == "BYTES":
        try:
            return [part.decode() for part in unpack_elements(shape, packed)]
        except UnicodeDecodeError as exc:
            raise TensorError(f"JSON carries text alone, and an element is not UTF-8: {exc}") from exc
    return list(struct.unpack(f"<{count(shape)}{_format(datatype)}", packed))


def pack_elements(shape: Sequence[int], values: Sequence[bytes]) -> bytes:
    """The elements of a ``BYTES`` tensor, packed. Raises TensorError."""
    if len(values) != count(shape):
        raise TensorError(f"the shape {list(shape)} has {count(shape)} elements, there are {len(values)}")
    return b"".join(map(_prefixed, values))


def unpack_elements(shape: Sequence[int], packed: bytes) -> list[bytes]:
    """The elements of a packed ``BYTES`` tensor. Raises TensorError."""
    wanted = count(shape)
    found: list[bytes] = []
    at = 0
    while at < len(packed):
        if at + _LENGTH.size > len(packed):
            raise TensorError("the bytes end within the length of an element")
        (length,) = _LENGTH.unpack_from(packed, at)
        at += _LENGTH.size
        if at + length > len(packed):
            raise TensorError("the bytes end within an element")
        found.append(packed[at : at + length])
        at += length
    if len(found) != wanted:
        raise TensorError(f"the shape has {wanted} elements, the bytes hold {len(found)}")
    return found


def _format(datatype: str) -> str:
    kind = _FORMATS.get(datatype)
    if kind is None:
        raise TensorError(f"{datatype[:40]!r} is no datatype; those are {', '.join(DATATYPES)}")
    return kind


def _flat(values: object) -> list[Any]:
    if not isinstance(values, list):
        raise TensorError("the data is an array")
    while values and isinstance(values[0], list):
        if not all(isinstance(part, list) for part in values):
            raise TensorError("the data mixes arrays and values")
        values = list(chain.from_iterable(values))
    return values


def _text(value: object) -> bytes:
    if not isinstance(value, str):
        raise TensorError("BYTES takes text")
    return value.encode()


def _prefixed(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data
