"""`signalyard journal query` against a journal in a folder, in an archive, and in both."""

import asyncio
import csv
import json

import duckdb
import msgspec
import pytest
from click.testing import CliRunner
from tests.unit.journal.conftest import Bench, until

from signalyard_router.cli import journal
from signalyard_router.rules.record import DecisionRecord
from signalyard_router.rules.units import SECOND
from signalyard_router.testing.world import ManualClock

T0 = ManualClock().wall()


@pytest.fixture
def filled(tmp_path):
    """A journal of which the archive holds the beginning, the folder the end, and both something."""
    from signalyard_router.adapters.archive.settings import ArchiveSettings
    from signalyard_router.adapters.archive.store import ObstoreArchive

    async def run():
        archive = ObstoreArchive(ArchiveSettings(url=f"file://{tmp_path}/archive"), create=True)
        bench = Bench(tmp_path / "journal", archive, keep_bytes=1)
        bench.open()
        await bench.fill(4)
        await bench.commit(2, version="8")
        await bench.fill(2)
        await until(lambda: bench.value("signalyard_archive_segments_total") == 6 and len(bench.names()) == 3)
        await bench.commit(1, symbol="Z.Z")
        await bench.close()
        return bench

    bench = asyncio.run(run())
    bench.url = f"file://{tmp_path}/archive"
    return bench


def query(bench, *arguments, archive=True, code=0):
    where = ["--journal", str(bench.folder), *(["--archive", bench.url] if archive else [])]
    result = CliRunner().invoke(journal, ["query", *where, *arguments], catch_exceptions=True)
    if code is not None:
        assert result.exit_code == code, (result.output, result.exception)
    return result


def rows(bench, *arguments, **more):
    return [json.loads(line) for line in query(bench, "--format", "json", *arguments, **more).stdout.splitlines()]


def test_archive_and_folder_are_one_journal(filled):
    every = rows(filled)
    assert [row["proposal_id"] for row in every] == [f"{n:032x}" for n in range(1, filled.number + 1)]
    here = rows(filled, archive=False)
    assert 0 < len(here) < len(every)
    assert every[-len(here) :] == here
    (first,) = rows(filled, "--limit", "1", "--to", str(T0 + SECOND + 1))
    assert first["time"] == "2024-06-20T22:44:17Z"
    assert (first["t"], first["event_time"]) == (T0 + SECOND, "1970-01-01T00:00:00.000001Z")
    assert (first["input_columns"], first["input_values"]) == (["a", "b"], [1 / 97, 1])


def test_every_filter(filled):
    every = rows(filled)

    def same(arguments, wanted):
        expected = [row for row in every if wanted(row)]
        assert expected
        assert rows(filled, *arguments) == expected

    same(["--symbol", "I1.X"], lambda row: row["symbol"] == "I1.X")
    same(["--symbol", "I1.X", "--symbol", "Z.Z"], lambda row: row["symbol"] in ("I1.X", "Z.Z"))
    same(["--route", "r"], lambda row: row["route"] == "r")
    assert rows(filled, "--route", "none") == []
    same(["--version", "8"], lambda row: row["version"] == "8")
    same(["--outcome", "emitted", "--version", "7"], lambda row: row["outcome"] == "emitted" and row["version"] == "7")
    same(["--reason", "no_direction"], lambda row: row["reason"] == "no_direction")
    same(["--from", "2024-06-20T22:44:20Z"], lambda row: row["t"] >= T0 + 4 * SECOND)
    same(["--from", "2024-06-21T06:44:20+08:00"], lambda row: row["t"] >= T0 + 4 * SECOND)
    same(["--from", str(T0 + 3 * SECOND), "--to", "2024-06-20T22:44:20"], lambda row: row["t"] == T0 + 3 * SECOND)
    assert rows(filled, "--limit", "3") == every[-3:]


def test_times_spare_downloads(filled):
    # what is pruned is not fetched: spoil the first segment, and ask for what lies behind it
    first = next(iter(sorted((filled.folder.parent / "archive").rglob("*00000001.jsonl.gz"))))
    first.write_bytes(b"spoilt")
    last = rows(filled, "--from", str(T0 + filled.number * SECOND))
    assert [row["symbol"] for row in last] == ["Z.Z"]
    refused = query(filled, code=1)
    assert "is not what its index says" in str(refused.exception)


def test_the_other_forms(filled, tmp_path):
    every = rows(filled)
    table = query(filled, "--outcome", "emitted").stdout.splitlines()
    assert table[0].split() == [
        "time",
        "symbol",
        "route",
        "outcome",
        "reason",
        "direction",
        "score",
        "confidence",
        "version",
        "seq",
    ]
    assert len(table) == 1 + sum(row["outcome"] == "emitted" for row in every)
    as_csv = list(csv.DictReader(query(filled, "--format", "csv").stdout.splitlines()))
    assert [float(row["score"]) for row in as_csv] == [row["score"] for row in every]
    target = tmp_path / "it's.parquet"
    query(filled, "--version", "7", "--parquet", str(target))
    with duckdb.connect() as db:
        read = db.execute("SELECT seq, score, time FROM read_parquet(?)", [str(target)]).fetchall()
    assert [row[:2] for row in read] == [(row["seq"], row["score"]) for row in every if row["version"] == "7"]


def test_free_sql(filled):
    counted = rows(filled, "--sql", "SELECT version, count(*) AS n FROM decisions GROUP BY ALL ORDER BY 1;")
    assert counted == [
        {"version": "7", "n": sum(row["version"] == "7" for row in rows(filled))},
        {"version": "8", "n": 2},
    ]
    assert "SELEKT" in str(query(filled, "--sql", "SELEKT 1", code=1).exception)
    assert query(filled, "--sql", "SELECT 1", "--limit", "1", code=2).stderr.endswith("into the statement\n")
    refused = query(filled, "--sql", "SELECT * FROM 'https://localhost:1/x.parquet'", code=1)
    assert "invalid_setting" in str(refused.exception)  # no extension is downloaded for it


def test_a_journal_that_is_being_written(filled):
    path = filled.folder / filled.names()[-1]
    every = rows(filled)
    with path.open("ab") as file:
        file.write(b'{"kind":"decision","v":1,"seq":999,"t":')
    assert rows(filled) == every
    # a line of a complete segment is another matter
    complete = filled.folder / filled.names()[0]
    complete.write_bytes(complete.read_bytes() + b"{nonsense\n")
    assert "invalid_setting" in str(query(filled, code=1).exception)


def test_nothing_to_query(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (empty, tmp_path / "missing"):
        result = CliRunner().invoke(journal, ["query", "--journal", str(folder)])
        assert "holds no journal" in str(result.exception)
    result = CliRunner().invoke(journal, ["query", "--from", "yesterday"])
    assert (result.exit_code, "neither ISO 8601" in result.stderr) == (2, True)
    result = CliRunner().invoke(journal, ["query", "--journal", str(empty), "--archive", "ftp://x"])
    assert "is not s3://" in str(result.exception)
    result = CliRunner().invoke(journal, ["query", "--journal", str(empty), "--archive", "s3://me:secret@bucket"])
    assert "credentials do not belong into a URL" in str(result.exception)
    assert "secret" not in str(result.exception)


def test_every_member_of_a_record_can_be_queried():
    from signalyard_router.adapters.sql.decisions import _FIELDS

    fields = {field.encode_name for field in msgspec.structs.fields(DecisionRecord)}
    assert fields - set(_FIELDS) == {"v", "prev"}
