"""Snapshots as the router works on them: one form, whichever wire they came by and however they were written."""

from collections.abc import Sequence

import msgspec

from signalyard.problems import ProblemDetails
from signalyard.wire import Columnar, Snapshot


class Row(msgspec.Struct, frozen=True, gc=False):
    """One snapshot of a request: ``values[i]`` belongs to ``columns[i]``, None or NaN where it is missing.

    ``columns`` is shared by the rows of a request that name the same features in the same order.
    """

    index: int
    symbol: str
    ts_event: int
    columns: tuple[str, ...]
    values: Sequence[float | None]
    sequence: int = 0
    route: str | None = None
    consumer: str = ""


class BadRow(msgspec.Struct, frozen=True, gc=False):
    """A row of a request that does not have the form of a snapshot, with whatever could be read of it."""

    index: int
    problem: ProblemDetails
    symbol: str = ""
    ts_event: int = 0


def rows_of(request: Snapshot | Sequence[Snapshot] | Columnar) -> list[Row]:
    """The rows of a request made in process. Columns are checked with the row, not here."""
    if isinstance(request, Columnar):
        columns = tuple(request.columns)
        return [
            Row(index, row.symbol, row.ts_event, columns, row.values, row.sequence, request.route, request.consumer)
            for index, row in enumerate(request.rows)
        ]
    if isinstance(request, Snapshot):
        request = (request,)
    return [
        Row(
            index,
            item.symbol,
            item.ts_event,
            tuple(item.features),
            list(item.features.values()),
            item.sequence,
            item.route,
            item.consumer,
        )
        for index, item in enumerate(request)
    ]
