"""The form of a request that the fast lane answers: narrower than the protocol, with no field that it does not know, and one flat tensor."""

from typing import Any, Generic, Literal, TypeVar

import msgspec

from signalyard import profile
from signalyard._remembering import remembered
from signalyard.problems import SignalyardError
from signalyard_runtimes.features import Vector
from signalyard_runtimes.lanes.numbers import MARK, Numbers, cut
from signalyard_runtimes.lanes.target import SMALL_BYTES

_Data = TypeVar("_Data")


class _Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    columns: str


class _Tensor(msgspec.Struct, Generic[_Data], frozen=True, forbid_unknown_fields=True, gc=False):
    name: Literal["features"]
    shape: tuple[int, int]
    datatype: Literal["FP64"]
    parameters: msgspec.Raw
    """The same bytes in every request of a client, so they are read once."""
    data: _Data


class _Plain(msgspec.Struct, Generic[_Data], frozen=True, forbid_unknown_fields=True, gc=False):
    inputs: tuple[_Tensor[_Data]]
    id: str | None = None


_decode = msgspec.json.Decoder(_Plain[list[float | None]]).decode
_decode_cut = msgspec.json.Decoder(_Plain[msgspec.Raw]).decode
_decode_parameters = msgspec.json.Decoder(_Parameters).decode
_UNREADABLE = (ValueError, RecursionError)


class Form(msgspec.Struct, frozen=True, gc=False):
    """What a request says: ``rows`` times one value a column in ``data``, which is flat, None or NaN for missing."""

    columns: tuple[str, ...]
    rows: int
    data: list[float | None] | Vector
    id: str | None


class Forms:
    """Reads bodies of this form."""

    def __init__(self) -> None:
        self._numbers = Numbers()
        self._last: tuple[msgspec.Raw, tuple[str, ...] | None] = msgspec.Raw(), None

    def read(self, body: bytes) -> Form | None:
        """None where it is not of this form."""
        plain: _Plain[Any] | None = None
        if len(body) > SMALL_BYTES:
            plain = self._read_many(body)
        if plain is None:
            try:
                plain = _decode(body)
            except _UNREADABLE:
                return None
        tensor = plain.inputs[0]
        parameters, columns = self._last
        if parameters != tensor.parameters:  # compared in a tenth of the time that it takes to look so long a text up
            columns = _columns(bytes(tensor.parameters))
            self._last = tensor.parameters.copy(), columns
        if columns is None:
            return None
        rows, width = tensor.shape
        if rows < 1 or width != len(columns) or len(tensor.data) != rows * width:
            return None
        return Form(columns, rows, tensor.data, plain.id)

    def _read_many(self, body: bytes) -> _Plain[Vector] | None:
        """The same in half the time, None where that is not certain to give the same."""
        parts = cut(body)
        if parts is None:
            return None
        rest, text = parts
        try:
            plain = _decode_cut(rest)
        except _UNREADABLE:
            return None
        tensor = plain.inputs[0]
        data = self._numbers.read(text) if bytes(tensor.data) == MARK else None
        if data is None:
            return None
        return _Plain((_Tensor(tensor.name, tensor.shape, tensor.datatype, tensor.parameters, data),), plain.id)


@remembered(longest=SMALL_BYTES, most=256)
def _columns(parameters: bytes) -> tuple[str, ...] | None:
    """The columns that a tensor's parameters name, None where these are not of the profile."""
    try:
        return profile.decode_columns(_decode_parameters(parameters).columns)
    except (*_UNREADABLE, SignalyardError):
        return None
