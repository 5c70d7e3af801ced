"""The views ``decisions``, one row a decision, its columns flat, and ``calls``, one row an inference call that was passed through."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import msgspec

from signalyard.problems import Problem, SignalyardError, error

_FIELDS = {
    "kind": "VARCHAR",
    "seq": "BIGINT",
    "t": "BIGINT",
    "proposal_id": "VARCHAR",
    "outcome": "VARCHAR",
    "reason": "VARCHAR",
    "problem": "STRUCT(code VARCHAR, pointer VARCHAR, detail VARCHAR)",
    "symbol": "VARCHAR",
    "ts_event": "BIGINT",
    "ts_recv": "BIGINT",
    "route": "VARCHAR",
    "revision": "VARCHAR",
    "generation": "BIGINT",
    "sequence": "BIGINT",
    "consumer": "VARCHAR",
    "direction": "VARCHAR",
    "held": "VARCHAR",
    "score": "DOUBLE",
    "confidence": "DOUBLE",
    "position": "DOUBLE",
    "objection": "VARCHAR",
    "reduces": "BOOLEAN",
    "model": "VARCHAR",
    "version": "VARCHAR",
    "digest": "VARCHAR",
    "track": "VARCHAR",
    "assigned": "VARCHAR",
    "failover": "BOOLEAN",
    "drift": "BOOLEAN",
    "degraded": "BOOLEAN",
    "reduce_only": "BOOLEAN",
    "paper": "BOOLEAN",
    "handover": "BOOLEAN",
    "signal_id": "VARCHAR",
    "epoch": "BIGINT",
    "signal_seq": "BIGINT",
    "prev_seq": "BIGINT",
    "duplicate_of": "VARCHAR",
    "group": "VARCHAR",
    "against": "VARCHAR",
    "replica": "VARCHAR",
    "ts_expire": "BIGINT",
    "budget_us": "BIGINT",
    "elapsed_us": "BIGINT",
    "request_id": "VARCHAR",
    "steps": "JSON",
    "input": "JSON",
    "id": "VARCHAR",
    "asked": "VARCHAR",
    "wire": "VARCHAR",
    "client_id": "VARCHAR",
    "output": "VARCHAR",
    "inputs": "JSON",
}
"""A record's members and their types; read as they are named here, so that a column does not depend on what the rows hold."""

_VIEW = {
    "time": "make_timestamp_ns(t)",
    "seq": "seq",
    "symbol": "coalesce(symbol, '')",
    "route": "coalesce(route, '')",
    "outcome": "outcome",
    "reason": "coalesce(reason, problem.code)",
    "direction": "direction",
    "score": "score",
    "confidence": "confidence",
    "position": '"position"',
    "model": "model",
    "version": "version",
    "track": "track",
    "assigned": "assigned",
    "failover": "coalesce(failover, false)",
    "drift": "coalesce(drift, false)",
    "degraded": "coalesce(degraded, false)",
    "reduce_only": "coalesce(reduce_only, false)",
    "paper": "coalesce(paper, false)",
    "handover": "coalesce(handover, false)",
    "reduces": "coalesce(reduces, false)",
    "held": "held",
    "objection": "objection",
    "signal_id": "signal_id",
    "signal_seq": "signal_seq",
    "prev_seq": "prev_seq",
    "duplicate_of": "duplicate_of",
    "group_name": "nullif(\"group\", '')",
    "against": "nullif(against, '')",
    "replica": "nullif(replica, '')",
    "epoch": "epoch",
    "proposal_id": "proposal_id",
    "consumer": "coalesce(consumer, '')",
    "t": "t",
    "ts_event": "ts_event",
    "event_time": "make_timestamp_ns(ts_event)",
    "ts_recv": "ts_recv",
    "ts_expire": "ts_expire",
    "sequence": "coalesce(sequence, 0)",
    "elapsed_us": "elapsed_us",
    "budget_us": "budget_us",
    "request_id": "coalesce(request_id, '')",
    "revision": "revision",
    "generation": "coalesce(generation, 0)",
    "digest": "digest",
    "problem_pointer": "problem.pointer",
    "problem_detail": "problem.detail",
    "steps": "steps",
    "input_columns": "input->'columns'",
    "input_values": "input->'values'",
}

_CALLS = {
    "time": "make_timestamp_ns(t)",
    "seq": "seq",
    "id": "id",
    "route": "route",
    "asked": "asked",
    "problem": "problem.code",
    "problem_detail": "problem.detail",
    "model": "model",
    "version": "version",
    "digest": "digest",
    "track": "track",
    "assigned": "assigned",
    "failover": "coalesce(failover, false)",
    "drift": "coalesce(drift, false)",
    "symbol": "coalesce(symbol, '')",
    "client_id": "coalesce(client_id, '')",
    "wire": "wire",
    "input": "input->>'$'",
    "output": "output",
    "inputs": "inputs",
    "t": "t",
    "ts_recv": "ts_recv",
    "elapsed_us": "elapsed_us",
    "budget_us": "budget_us",
    "request_id": "coalesce(request_id, '')",
    "revision": "revision",
    "generation": "coalesce(generation, 0)",
    "steps": "steps",
}

SHOWN = ("time", "symbol", "route", "outcome", "reason", "direction", "score", "confidence", "version", "seq")
"""The columns of a table for people, who have a terminal's width."""

_LONGEST_LINE = 64 * 1024 * 1024


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which decisions. Several values of one field mean any of them; ``since`` and ``until`` are journal nanoseconds, until excluded;
    ``limit`` keeps the newest."""

    symbol: Sequence[str] = ()
    route: Sequence[str] = ()
    version: Sequence[str] = ()
    outcome: Sequence[str] = ()
    reason: Sequence[str] = ()
    since: int | None = None
    until: int | None = None
    limit: int | None = None


class Decisions:
    """A connection to an in-memory DuckDB whose views ``decisions`` and ``calls`` are over ``files``.

    ``growing`` is the one that a router may be writing: a last line that is not finished is passed over there, and nowhere else. No
    extension is ever downloaded. Raises CallerError (invalid_setting) where a file or a statement is not good.
    """

    def __init__(self, files: Sequence[Path], growing: Path | None = None) -> None:
        self._db = duckdb.connect(
            config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
        )
        self._db.execute("SET TimeZone = 'UTC'")
        parts = []
        if files:
            parts.append(_source(files, "false"))
        if growing is not None:
            parts.append(_source([growing], "true"))
        source = " UNION ALL ".join(parts)
        for view, kind, shown in (("decisions", "decision", _VIEW), ("calls", "call", _CALLS)):
            columns = ", ".join(f"{expression} AS {_name(name)}" for name, expression in shown.items())
            _run(self._db, f"CREATE VIEW {view} AS SELECT {columns} FROM ({source}) WHERE kind = '{kind}'")

    def select(self, wanted: Filter, columns: Sequence[str] = ()) -> "Rows":
        """The decisions that pass, in the order of the journal."""
        shown = ", ".join(map(_name, columns)) or "*"
        conditions: list[str] = []
        values: list[object] = []
        for field in ("symbol", "route", "version", "outcome", "reason"):
            if chosen := getattr(wanted, field):
                conditions.append(f"{field} IN ({', '.join('?' * len(chosen))})")
                values += chosen
        for bound, operator in ((wanted.since, ">="), (wanted.until, "<")):
            if bound is not None:
                conditions.append(f"t {operator} ?")
                values.append(bound)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        newest = f" ORDER BY t DESC, seq DESC LIMIT {wanted.limit}" if wanted.limit is not None else ""
        inner = f"SELECT * FROM decisions{where}{newest}"
        return Rows(self._db, f"SELECT {shown} FROM ({inner}) ORDER BY t, seq", values)

    def sql(self, statement: str) -> "Rows":
        """What a statement of the user's own gives."""
        return Rows(self._db, statement.strip().rstrip(";"), [])


class Rows:
    """A statement, to be run once. Its calls raise CallerError (invalid_setting) where it is not good."""

    def __init__(self, db: duckdb.DuckDBPyConnection, statement: str, values: Sequence[object]) -> None:
        self._db = db
        self._statement = statement
        self._values = values

    def read(self) -> tuple[list[str], list[str], Iterator[tuple[object, ...]]]:
        """The columns' names and types, and the rows, a thousand in memory at a time."""
        cursor = _run(self._db, self._statement, self._values)
        described = cursor.description or []
        return [str(item[0]) for item in described], [str(item[1]) for item in described], _fetch(cursor)

    def write_parquet(self, path: Path) -> None:
        """Write the rows to a Parquet file."""
        target = f"{_text(str(path))} (FORMAT parquet, COMPRESSION zstd)"
        _run(self._db, f"COPY ({self._statement}) TO {target}", self._values)


def _fetch(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[object, ...]]:
    while True:
        try:
            part = cursor.fetchmany(1000)
        except duckdb.Error as exc:
            raise _bad(exc) from exc
        if not part:
            return
        yield from part


def _run(db: duckdb.DuckDBPyConnection, statement: str, values: Sequence[object] = ()) -> duckdb.DuckDBPyConnection:
    try:
        return db.execute(statement, list(values))
    except duckdb.Error as exc:
        raise _bad(exc) from exc


def _source(files: Sequence[Path], ignore_errors: str) -> str:
    named = ", ".join(_text(str(path)) for path in files)
    columns = ", ".join(f"{_name(name)}: {_text(kind)}" for name, kind in _FIELDS.items())
    return (
        f"SELECT * FROM read_json([{named}], format = 'newline_delimited', columns = {{{columns}}}, "
        f"maximum_object_size = {_LONGEST_LINE}, ignore_errors = {ignore_errors})"
    )


def _name(name: str) -> str:
    return f'"{name}"'


def _text(value: str) -> str:
    doubled = value.replace("'", "''")
    return f"'{doubled}'"


def _bad(exc: duckdb.Error) -> SignalyardError:
    return error(Problem.INVALID_SETTING, str(exc).strip(), "/sql")
