"""The commands on a journal that need more than its folder: query, replay."""

import asyncio
import csv
import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click
import msgspec

from signalyard.problems import ModelError, Problem, SignalyardError, error
from signalyard.words import Outcome
from signalyard_router.adapters.archive.opening import open_archive
from signalyard_router.journal.archived import chains
from signalyard_router.journal.archiver import Index, packed_name
from signalyard_router.journal.replay import Difference, Replay, Tally
from signalyard_router.journal.segments import Tail, read, segments
from signalyard_router.journal.verify import before, first_record
from signalyard_router.ports import Archive
from signalyard_router.rules.record import Record
from signalyard_router.rules.route import Endpoint
from signalyard_router.world.real import RealDisk, RealWorld

if TYPE_CHECKING:
    from signalyard_router.adapters.sql.decisions import Filter, Rows

_Command = TypeVar("_Command", bound=Callable[..., Any])

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WIDEST = 40

journal_option = click.option(
    "--journal",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("journal"),
    envvar="SIGNALYARD_JOURNAL",
    show_default=True,
    show_envvar=True,
    help="The journal's folder.",
)
archive_option = click.option(
    "--archive",
    "archive_url",
    envvar="SIGNALYARD_ARCHIVE",
    show_envvar=True,
    help="The archive, for what is no longer in the folder: s3://, gs://, az:// or file:///.",
)


class _Moment(click.ParamType[int]):
    """ISO 8601 (UTC unless it says otherwise), or UTC nanoseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value.isdigit():
            return int(value)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither ISO 8601, such as 2024-06-20T22:44:16Z, nor nanoseconds", param, ctx)
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
        return since // timedelta(microseconds=1) * 1000


@click.command()
@journal_option
@archive_option
@click.option("--symbol", multiple=True, help="An instrument; may be given again for more.")
@click.option("--route", multiple=True, help="A route; may be given again.")
@click.option("--version", multiple=True, help="The version that answered; may be given again.")
@click.option(
    "--outcome",
    multiple=True,
    type=click.Choice([outcome.value for outcome in Outcome]),
    help="An outcome; may be given again.",
)
@click.option("--reason", multiple=True, help="A reason, or a rejected row's problem; may be given again.")
@click.option("--from", "since", type=_Moment(), help="Journal time from which on, ISO 8601 or nanoseconds.")
@click.option("--to", "until", type=_Moment(), help="Journal time before which.")
@click.option("--limit", type=click.IntRange(1), help="Only as many of the newest.")
@click.option("--sql", "statement", help="A statement of your own over the view 'decisions', instead of the filters.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How the rows are written; json: one object a line.",
)
@click.option("--parquet", type=click.Path(path_type=Path), help="Write the rows to this Parquet file instead.")
def query(
    *,
    folder: Path,
    archive_url: str | None,
    symbol: Sequence[str],
    route: Sequence[str],
    version: Sequence[str],
    outcome: Sequence[str],
    reason: Sequence[str],
    since: int | None,
    until: int | None,
    limit: int | None,
    statement: str | None,
    form: str,
    parquet: Path | None,
) -> None:
    """Query the decisions, in the folder and the archive, also while a router writes them.

    Needs the extra 'query' (DuckDB). The chain is not verified: 'signalyard journal verify' does that.

    \b
    signalyard journal query --symbol rb2410.SHFE --outcome suppressed --from 2024-06-20T09:00+08:00
    signalyard journal query --sql "SELECT reason, count(*) FROM decisions GROUP BY ALL"
    signalyard journal query --version 8 --parquet canary.parquet
    """
    try:
        from signalyard_router.adapters.sql.decisions import SHOWN, Decisions, Filter
    except ModuleNotFoundError as exc:
        raise click.ClickException(
            f"'journal query' needs the package {exc.name!r}: install signalyard[query]"
        ) from exc
    wanted = Filter(
        symbol=symbol,
        route=route,
        version=version,
        outcome=outcome,
        reason=reason,
        since=since,
        until=until,
        limit=limit,
    )
    if statement and wanted != Filter(symbol=(), route=(), version=(), outcome=(), reason=()):
        raise click.UsageError("--sql stands alone: write the filters into the statement")
    with tempfile.TemporaryDirectory(prefix="signalyard-") as fetched:
        files, growing = _files(folder, open_archive(archive_url), Path(fetched), wanted)
        decisions: Decisions = Decisions(files, growing)
        if statement:
            rows = decisions.sql(statement)
        else:
            rows = decisions.select(wanted, SHOWN if form == "table" and parquet is None else ())
        if parquet is not None:
            rows.write_parquet(parquet)
            click.echo(f"{parquet}: {parquet.stat().st_size:,} bytes", err=True)
        else:
            _show(rows, form)


def _files(folder: Path, archive: Archive | None, fetched: Path, wanted: "Filter") -> tuple[list[Path], Path | None]:
    """The complete segments, fetched from the archive where they are not in the folder, and the one that is being written."""
    disk = RealDisk()
    first = first_record(disk, str(folder))
    local = [folder / name for name in segments(disk, str(folder))] if first is not None else []
    files: list[Path] = []
    if archive is not None:
        files = asyncio.run(_fetch(archive, first, fetched, wanted))
    if not files and not local:
        raise error(Problem.INVALID_SETTING, f"{folder} holds no journal, and no archive gives one", "/journal")
    return files + local[:-1], local[-1] if local else None


async def _fetch(archive: Archive, first: Record | None, fetched: Path, wanted: "Filter") -> list[Path]:
    held = await chains(archive)
    chosen: list[tuple[str, Index]] = []
    if first is None:
        chosen = [(epoch, index) for epoch, row in sorted(held.items()) for index in row]
    else:
        epoch, row = before(held, first)
        chosen = [(epoch, index) for index in row]
        if first.seq > 1 and not row:
            click.echo(f"the archive does not hold record {first.seq - 1}, at which the folder begins", err=True)
    files: list[Path] = []
    for epoch, index in chosen:
        # the indexes' times spare the download of what cannot match
        if (wanted.since is None or index.last_t >= wanted.since) and (
            wanted.until is None or index.first_t < wanted.until
        ):
            path = fetched / epoch / f"{index.segment}.gz"
            path.parent.mkdir(exist_ok=True)
            hasher = hashlib.sha256()
            try:
                with path.open("wb") as file:
                    async for piece in archive.get(packed_name(epoch, index.segment)):
                        hasher.update(piece)
                        file.write(piece)
            except OSError as exc:
                raise error(Problem.INVALID_SETTING, f"the archive cannot be read: {exc}", "/archive") from exc
            if hasher.hexdigest() != index.packed_sha256:
                raise error(Problem.JOURNAL_CORRUPT, f"{packed_name(epoch, index.segment)} is not what its index says")
            files.append(path)
    return files


def _show(rows: "Rows", form: str) -> None:
    names, types, found = rows.read()
    if form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        for row in found:
            writer.writerow(["" if value is None else _moment(value) for value in row])
    elif form == "json":
        encoder = msgspec.json.Encoder(enc_hook=str)
        for row in found:
            values = (
                msgspec.Raw(str(value).encode()) if kind == "JSON" and value is not None else _moment(value)
                for value, kind in zip(row, types, strict=True)
            )
            click.echo(encoder.encode(dict(zip(names, values, strict=True))))
    else:
        _table(names, found)


def _table(names: Sequence[str], found: Iterator[tuple[object, ...]]) -> None:
    """Columns as wide as the first thousand rows need."""
    count = 0
    widths: list[int] = []
    while block := [[_plain(value) for value in row] for _, row in zip(range(1000), found, strict=False)]:
        if not widths:
            widths = [
                min(_WIDEST, max(len(name), *(len(row[index]) for row in block))) for index, name in enumerate(names)
            ]
            click.echo(_cells(names, widths))
        for row in block:
            click.echo(_cells(row, widths))
        count += len(block)
    click.echo(f"{count} rows", err=True)


def _cells(values: Iterable[str], widths: Sequence[int]) -> str:
    return "  ".join(value.ljust(width) for value, width in zip(values, widths, strict=True)).rstrip()


def _moment(value: object) -> object:
    return f"{value.isoformat()}Z" if isinstance(value, datetime) else value


def _plain(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(_moment(value))


@click.command()
@journal_option
@click.option("--against", required=True, help="The model server: http://HOST:PORT.")
@click.option("--route", help="Only the decisions of this route.")
@click.option("--version", help="Only the decisions that this version answered.")
@click.option("--limit", type=click.IntRange(1), help="Only as many, from the oldest.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=1e-9,
    show_default=True,
    help="What two numbers may differ by, relative to the larger of them and 1.",
)
@click.option("--batch", type=click.IntRange(1), default=256, show_default=True, help="Rows in one call.")
@click.option("--json", "as_json", is_flag=True, help="Differences and the summary as JSON, one object a line.")
@click.pass_context
def replay(
    ctx: click.Context,
    *,
    folder: Path,
    against: str,
    route: str | None,
    version: str | None,
    limit: int | None,
    tolerance: float,
    batch: int,
    as_json: bool,
) -> None:
    """Score the recorded inputs again on a running model server, and list every difference.

    Each record's version is asked for, and the digest that the server answers is held against the record's. Records of versions that
    the server does not have are skipped and counted. The chain is verified on the way. Exit code 0: no difference, 1: differences,
    2: it could not be done, or nothing could be scored.
    """
    parts = urlsplit(against)
    try:
        port = parts.port or 80
    except ValueError as exc:
        raise click.UsageError(f"--against {against}: {exc}") from exc
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
        raise click.UsageError(f"--against {against}: http://HOST:PORT is what is needed")
    how = Replay(
        route=route,
        version=version,
        limit=limit,
        tolerance=tolerance,
        batch=batch,
    )
    tally = Tally()
    try:
        since = asyncio.run(_replay(folder, Endpoint(parts.hostname, port), how, tally, as_json))
    except SignalyardError as exc:
        click.echo(f"signalyard: {exc}", err=True)
        ctx.exit(2)
    other = sum(tally.other.values())
    if as_json:
        click.echo(msgspec.json.encode({"since": since, **msgspec.structs.asdict(tally)}).decode())
    else:
        click.echo(
            f"{tally.scored} records scored, {tally.different} differ; skipped {other} of other versions "
            f"and {tally.unanswered} without a model's answer"
        )
        for name, number in sorted(tally.other.items()):
            click.echo(f"  {name}: {number} skipped")
        if since > 1:
            click.echo(f"the folder begins with record {since}")
    if not tally.scored:
        click.echo("signalyard: nothing could be scored", err=True)
        ctx.exit(2)
    ctx.exit(1 if tally.different else 0)


async def _replay(folder: Path, endpoint: Endpoint, how: Replay, tally: Tally, as_json: bool) -> int:
    from signalyard_router.adapters.oip.direct import DirectServer
    from signalyard_router.adapters.oip.settings import OipSettings

    world = RealWorld()
    disk = world.disk
    if first_record(disk, str(folder)) is None:
        raise error(Problem.INVALID_SETTING, f"{folder} holds no journal", "/journal")
    tail = Tail()
    total = sum(disk.size(f"{folder}/{name}") for name in segments(disk, str(folder)))
    server = DirectServer(world, OipSettings(), endpoint)
    hidden = not sys.stderr.isatty()
    shown = ("", 0)
    with click.progressbar(length=total, label="replaying", file=sys.stderr, hidden=hidden) as bar:

        def passed(_: int) -> None:
            nonlocal shown
            if shown[0] != tail.segment:
                shown = (tail.segment, 0)
            if tail.size - shown[1] > 1_000_000:
                bar.update(tail.size - shown[1])
                shown = (tail.segment, tail.size)

        records = (line.record for line in read(disk, str(folder), tail, partly=True))
        try:
            async for difference in how.run(records, server, world.clock, tally, passed):
                click.echo(_difference(difference, as_json))
        except ModelError as exc:
            raise type(exc)(exc.problem, f"{endpoint.host} port {endpoint.port}: {exc.detail}") from exc
        finally:
            server.close()
    return tail.since


def _difference(difference: Difference, as_json: bool) -> str:
    if as_json:
        return msgspec.json.encode(difference).decode()
    return (
        f"record {difference.seq} {difference.symbol} {difference.what}: recorded {difference.recorded!r}, "
        f"replayed {difference.replayed!r} by {difference.model} {difference.version}"
    )
