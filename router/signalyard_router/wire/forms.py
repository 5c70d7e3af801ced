"""The forms of a predict body, as msgspec reads them: the wire's structs with the edges of what a number may be.

A form knows how many quotation marks it takes to write it. Where a body has more, a key was given twice (msgspec keeps the
last one silently) or a string holds an escaped one: only then is a body worth a slow, strict look.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

MAX_NAME = 256
"""The longest name of a feature, route or consumer, in characters: names go into every record."""

MIN_INT64, MAX_INT64 = -(2**63), 2**63 - 1

Name = Annotated[str, Meta(max_length=MAX_NAME)]
Time = Annotated[int, Meta(ge=1, le=MAX_INT64)]
Order = Annotated[int, Meta(ge=MIN_INT64, le=MAX_INT64)]
Number = float | None


class SnapshotForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One instrument's features at one event time, UTC nanoseconds: `signalyard.wire.Snapshot`."""

    symbol: str
    ts_event: Time
    features: dict[Name, Number]
    sequence: Order | UnsetType = UNSET
    route: Name | UnsetType | None = UNSET
    consumer: Name | UnsetType = UNSET

    @property
    def quotes(self) -> int:
        """Quotation marks in its JSON."""
        count = 8 + 2 * len(self.features)
        if self.sequence is not UNSET:
            count += 2
        if self.route is not UNSET:
            count += 2 if self.route is None else 4
        if self.consumer is not UNSET:
            count += 4
        return count


class RowForm(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """``[symbol, ts_event, [values], sequence]``, the sequence optional: `signalyard.wire.ColumnarRow`."""

    symbol: str
    ts_event: Time
    values: list[Number]
    sequence: Order = 0


class ColumnarForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Many snapshots with the same features, the names given once: `signalyard.wire.Columnar`."""

    columns: list[Name]
    rows: list[RowForm]
    route: Name | UnsetType | None = UNSET
    consumer: Name | UnsetType = UNSET

    @property
    def quotes(self) -> int:
        """Quotation marks in its JSON."""
        count = 4 + 2 * len(self.columns) + 2 * len(self.rows)
        if self.route is not UNSET:
            count += 2 if self.route is None else 4
        if self.consumer is not UNSET:
            count += 4
        return count


class EnvelopeForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A columnar body whose rows have yet to be read one by one."""

    columns: list[Name]
    rows: list[msgspec.Raw]
    route: Name | UnsetType | None = UNSET
    consumer: Name | UnsetType = UNSET


SNAPSHOT_FIELDS: Mapping[str, bool] = {
    "symbol": True,
    "ts_event": True,
    "features": True,
    "sequence": False,
    "route": False,
    "consumer": False,
}
"""The fields of a snapshot, and whether each must be there."""

COLUMNAR_FIELDS: Mapping[str, bool] = {"columns": True, "rows": True, "route": False, "consumer": False}
"""The fields of a columnar body, and whether each must be there."""
