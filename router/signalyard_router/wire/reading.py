"""From the body of a predict request to rows."""

import msgspec

from signalyard.problems import Problem, ProblemDetails, error
from signalyard_router.rules.rows import BadRow, Row
from signalyard_router.wire.columns import ColumnSets
from signalyard_router.wire.familiar import FamiliarReader
from signalyard_router.wire.faults import (
    bad_row,
    bad_snapshot,
    envelope_fault,
    read_object,
    repeated_column,
    repeated_field,
    wrong_count,
)
from signalyard_router.wire.forms import ColumnarForm, EnvelopeForm, RowForm, SnapshotForm
from signalyard_router.wire.places import Places, in_columnar, in_list, in_object


class Batch(msgspec.Struct, frozen=True):
    """The rows of a request. ``alone``: it was one snapshot, and is answered by one decision."""

    rows: list[Row | BadRow]
    places: Places
    alone: bool = False


class PredictReader:
    """Reads one snapshot, a list of them, or columns with rows.

    The whole body is decoded at once, as if all of it were good. Only where that fails, or where a key may be there twice, is
    it read again row by row; so one bad row costs the others time, and nothing else.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._columns = ColumnSets()
        self._familiar = FamiliarReader()
        self._snapshot = msgspec.json.Decoder(SnapshotForm)
        self._snapshots = msgspec.json.Decoder(list[SnapshotForm])
        self._columnar = msgspec.json.Decoder(ColumnarForm)
        self._row = msgspec.json.Decoder(RowForm)
        self._envelope = msgspec.json.Decoder(EnvelopeForm)
        self._parts = msgspec.json.Decoder(list[msgspec.Raw])

    def read(self, body: bytes) -> Batch:
        """The rows, in order; a row that is not a snapshot becomes a BadRow.

        Raises CallerError: malformed_body where it is not JSON, too_many_rows.
        """
        try:
            if not body.isascii():
                body.decode()
            if body.lstrip(b" \t\r\n")[:1] == b"[":
                return self._list(body)
            return self._object(body)
        except UnicodeDecodeError as exc:
            raise error(Problem.MALFORMED_BODY, f"it is not UTF-8 (byte {exc.start})") from exc
        except msgspec.DecodeError as exc:
            raise error(Problem.MALFORMED_BODY, str(exc)) from exc
        except RecursionError as exc:
            raise error(Problem.MALFORMED_BODY, "it is nested too deeply") from exc

    # One object

    def _object(self, body: bytes) -> Batch:
        known = self._familiar.read(body)
        if known is not None:
            return Batch([known], in_object, alone=True)
        try:
            form = self._snapshot.decode(body)
        except msgspec.ValidationError:
            return self._other_object(body)
        if body.count(b'"') != form.quotes and (bad := bad_snapshot(0, body)):
            return Batch([bad], in_object, alone=True)
        row = self._row_of(0, form)
        self._familiar.met(row.columns)
        return Batch([row], in_object, alone=True)

    def _other_object(self, body: bytes) -> Batch:
        try:
            form = self._columnar.decode(body)
            if body.count(b'"') == form.quotes:
                return self._columnar_batch(form)
        except msgspec.ValidationError:
            pass
        fields = read_object(body)
        if fields is None or not ("columns" in fields or "rows" in fields):
            bad = bad_snapshot(0, body)
            if bad is None:
                raise AssertionError("a snapshot was refused with no fault in it")
            return Batch([bad], in_object, alone=True)
        problem = envelope_fault(fields) or repeated_field(body)
        if problem is not None:
            return Batch([BadRow(0, problem)], in_object, alone=True)
        return self._columnar_by_row(self._envelope.decode(body))

    # A list

    def _list(self, body: bytes) -> Batch:
        try:
            forms = self._snapshots.decode(body)
        except msgspec.ValidationError:
            return self._list_by_row(body)
        self._check_count(len(forms))
        if body.count(b'"') != sum([form.quotes for form in forms]):
            return self._list_by_row(body)
        return Batch([self._row_of(index, form) for index, form in enumerate(forms)], in_list)

    def _list_by_row(self, body: bytes) -> Batch:
        parts = self._parts.decode(body)
        self._check_count(len(parts))
        return Batch([self._one_of_list(index, bytes(part)) for index, part in enumerate(parts)], in_list)

    def _one_of_list(self, index: int, part: bytes) -> Row | BadRow:
        try:
            form = self._snapshot.decode(part)
        except msgspec.ValidationError:
            form = None
        if form is None or part.count(b'"') != form.quotes:
            bad = bad_snapshot(index, part)
            if bad is not None:
                return bad
        if form is None:
            raise AssertionError("a snapshot was refused with no fault in it")
        return self._row_of(index, form)

    def _row_of(self, index: int, form: SnapshotForm) -> Row:
        features = form.features
        return Row(
            index,
            form.symbol,
            form.ts_event,
            self._columns.shared(tuple(features)),
            list(features.values()),
            0 if form.sequence is msgspec.UNSET else form.sequence,
            None if form.route is msgspec.UNSET else form.route,
            "" if form.consumer is msgspec.UNSET else form.consumer,
        )

    # Columns with rows

    def _columnar_batch(self, form: ColumnarForm) -> Batch:
        self._check_count(len(form.rows))
        columns = self._columns.shared(tuple(form.columns))
        twice = repeated_column(columns)
        return Batch(
            [self._columnar_row(index, row, columns, form, twice) for index, row in enumerate(form.rows)],
            in_columnar(columns),
        )

    def _columnar_by_row(self, envelope: EnvelopeForm) -> Batch:
        self._check_count(len(envelope.rows))
        columns = self._columns.shared(tuple(envelope.columns))
        twice = repeated_column(columns)
        rows: list[Row | BadRow] = []
        for index, raw in enumerate(envelope.rows):
            part = bytes(raw)
            try:
                rows.append(self._columnar_row(index, self._row.decode(part), columns, envelope, twice))
            except msgspec.ValidationError as exc:
                bad = bad_row(index, part, columns)
                if bad is None:
                    raise AssertionError("a row was refused with no fault in it") from exc
                rows.append(bad)
        return Batch(rows, in_columnar(columns))

    def _columnar_row(
        self,
        index: int,
        row: RowForm,
        columns: tuple[str, ...],
        form: ColumnarForm | EnvelopeForm,
        twice: ProblemDetails | None,
    ) -> Row | BadRow:
        if twice is not None:
            return BadRow(index, twice, row.symbol, row.ts_event)
        if len(row.values) != len(columns):
            return BadRow(index, wrong_count(columns, len(row.values)), row.symbol, row.ts_event)
        return Row(
            index,
            row.symbol,
            row.ts_event,
            columns,
            row.values,
            row.sequence,
            None if form.route is msgspec.UNSET else form.route,
            "" if form.consumer is msgspec.UNSET else form.consumer,
        )

    def _check_count(self, rows: int) -> None:
        if rows > self._max_rows:
            raise error(Problem.TOO_MANY_ROWS, f"it has {rows} rows, at most {self._max_rows} are taken")
