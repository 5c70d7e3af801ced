"""Snapshots with the same features as those before them, which nearly all are: read by place, without a string for each name."""

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from signalyard_router.rules.rows import Row
from signalyard_router.wire.forms import Name, Number, Order, Time

_ENOUGH = 64
"""So many snapshots with the same features, one after the other, are worth a form of their own. It takes half a millisecond to make."""

_MOST = 512
"""No form has more features."""

_UNFIT = re.compile(r'[\\"\x00-\x1f]')
"""What a form's names must not hold."""

_QUOTES = 8
"""Quotation marks in the JSON of a snapshot without features, and without the fields that it can do without."""


class FamiliarReader:
    """Reads a snapshot whose features are the ones that it knows. It gives what the general way would, but that the features stand in
    the order in which they were met first; where it is in any doubt it leaves the body to the general way."""

    def __init__(self) -> None:
        self._columns: tuple[str, ...] = ()
        self._quotes = 0
        self._decode: Callable[[bytes], Any] | None = None
        self._met: tuple[str, ...] | None = None
        self._times = 0

    def read(self, body: bytes) -> Row | None:
        """The row, or None."""
        if self._decode is None:
            return None
        try:
            form = self._decode(body)
        except (msgspec.DecodeError, RecursionError):
            return None
        quotes = self._quotes
        sequence, route, consumer = 0, None, ""
        if form.sequence is not UNSET:
            quotes += 2
            sequence = form.sequence
        if form.route is not UNSET:
            quotes += 2 if form.route is None else 4
            route = form.route
        if form.consumer is not UNSET:
            quotes += 4
            consumer = form.consumer
        if body.count(b'"') != quotes:
            return None
        self._times = 0
        values = msgspec.structs.astuple(form.features)
        return Row(0, form.symbol, form.ts_event, self._columns, values, sequence, route, consumer)

    def met(self, columns: tuple[str, ...]) -> None:
        """The general way has read a snapshot with these features; equal ones are the same object."""
        if columns is not self._met:
            self._met, self._times = columns, 0
        self._times += 1
        if self._times == _ENOUGH and len(columns) <= _MOST and not any(map(_UNFIT.search, columns)):
            self._learn(columns)

    def _learn(self, columns: tuple[str, ...]) -> None:
        names = {f"f{place}": column for place, column in enumerate(columns)}
        features = msgspec.defstruct(
            "FamiliarFeatures",
            [(field, Number) for field in names],
            rename=names,
            frozen=True,
            forbid_unknown_fields=True,
            gc=False,
        )
        form = msgspec.defstruct(
            "FamiliarForm",
            [
                ("symbol", str),
                ("ts_event", Time),
                ("features", features),
                ("sequence", Order | UnsetType, UNSET),
                ("route", Name | UnsetType | None, UNSET),
                ("consumer", Name | UnsetType, UNSET),
            ],
            frozen=True,
            forbid_unknown_fields=True,
            gc=False,
        )
        self._decode = msgspec.json.Decoder(form).decode
        self._columns, self._quotes = columns, _QUOTES + 2 * len(columns)
