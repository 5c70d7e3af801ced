"""Rotation, checkpoints, retention and the archive: what becomes of a segment that is complete."""

import asyncio
import gzip
import hashlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.journal.conftest import Bench, scored, until

from signalyard import SignalyardError
from signalyard.problems import Problem
from signalyard_router.journal import checkpoint
from signalyard_router.journal.query import find, follow, last, newest, route_in_force, since
from signalyard_router.journal.retention import Complete, expendable
from signalyard_router.journal.segments import segment_name
from signalyard_router.journal.verify import verify
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.units import MINUTE, SECOND
from signalyard_router.testing.archive import MemoryArchive
from signalyard_router.world.real import RealDisk


def state(journal):
    """All that opening a journal gives back."""
    return (
        # a live gate has a route's record as it was before its line was chained
        vars(journal._gate)
        | {"_routes": {n: msgspec.structs.replace(r, prev="") for n, r in journal._gate.routes.items()}},
        journal._now,
        journal._epoch,
        journal._kept_by or journal._settings.clock,  # a new journal has it from its settings
        (journal._tail.seq, journal._tail.digest, journal._tail.t, journal._tail.segment, journal._tail.size),
    )


DOCUMENT = {
    "apiVersion": "signalyard.io/v1alpha1",
    "kind": "SignalRoute",
    "metadata": {"name": "r"},
    "spec": {
        "model": "m",
        "instruments": ["*.X"],
        "tracks": [{"name": "stable", "version": "7", "weight": 100, "endpoint": {"service": "a", "port": 1}}],
        "mapping": {"long": {"enter": 0.6}},
    },
}


# Rotation ------------------------------------------------------------------------------------------------------------


def test_a_segment_grows_old(bench):
    async def run():
        bench.settings = type(bench.settings)(folder=str(bench.folder), segment_age=5 * MINUTE)
        bench.open(upkeep=False)
        await bench.commit(1)
        bench.world.clock.advance(5 * MINUTE - 3 * SECOND)
        await bench.commit(1)
        assert bench.names() == [segment_name(1)]
        await bench.commit(1)
        assert bench.names() == [segment_name(1), segment_name(2)]
        await bench.close()
        # its age is that of its first record, whoever wrote it
        bench.open(upkeep=False)
        bench.world.clock.advance(5 * MINUTE)
        await bench.commit(1)
        assert bench.names()[-1] == segment_name(3)
        await bench.close()

    asyncio.run(run())


def test_a_segment_grows_old_while_nothing_comes_and_an_empty_one_does_not(bench):
    async def run():
        bench.settings = type(bench.settings)(folder=str(bench.folder), segment_age=MINUTE)
        bench.open()
        await bench.commit(1)
        bench.world.clock.advance(2 * MINUTE)
        await until(lambda: bench.names("checkpoint"))
        bench.world.clock.advance(60 * MINUTE)
        for _ in range(20):
            bench.journal.rotate_if_due()
        assert bench.names() == [segment_name(1), segment_name(2)]
        await bench.close()

    asyncio.run(run())


def test_on_event_time_age_is_of_events(tmp_path):
    async def run():
        bench = Bench(tmp_path, clock="event", segment_bytes=10**6, segment_age=MINUTE)
        bench.open(upkeep=False)
        await bench.journal.commit([scored(1)])
        bench.world.clock.advance(MINUTE)
        await bench.journal.commit([scored(2)])
        assert bench.names() == [segment_name(1)]
        await bench.close()

    asyncio.run(run())


# Checkpoints ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_opening_reads_what_follows_the_checkpoint_and_gives_the_same_state(tmp_path, durability):
    async def run():
        bench = Bench(tmp_path, durability=durability)
        bench.open()
        await bench.journal.accept([(parse_document(DOCUMENT, "r.yaml"), "r.yaml")])
        await bench.fill(4)
        await bench.commit(1)
        live = state(bench.journal)
        await bench.close()
        bench.open(upkeep=False)
        quick = state(bench.journal)
        assert bench.value("signalyard_journal_folded_records_total") < 8
        assert quick[:4] == live[:4]
        bench.journal._release()
        for path in bench.folder.glob("checkpoint-*"):
            path.unlink()
        whole = bench.folder / bench.names()[-1]
        whole.write_bytes(whole.read_bytes()[: live[4][4]])  # without the start just written
        bench.open(upkeep=False)
        assert bench.value("signalyard_journal_folded_records_total") > 12
        assert state(bench.journal) == quick
        await bench.close()

    asyncio.run(run())


def damage(path, how):
    content = path.read_bytes()
    match how:
        case "cut":
            path.write_bytes(content[:-10])
        case "flipped":
            path.write_bytes(content.replace(b'"seq"', b'"sEq"', 1))
        case "empty":
            path.write_bytes(b"")
        case "garbage":
            path.write_bytes(b"\x00\xff" * 100)
        case "nested":
            path.write_bytes(b"[" * 100_000 + b"\n")
        case "longer":
            path.write_bytes(content + b"{}\n")
        case "another":  # a good checkpoint, of another chain
            head, *rest = content.splitlines(keepends=True)
            changed = json.loads(head)
            changed["digest"] = "1" * 64
            body = [json.dumps(changed, separators=(",", ":")).encode() + b"\n", *rest[:-1]]
            end = json.dumps({"part": "end", "sha256": hashlib.sha256(b"".join(body)).hexdigest()}).encode() + b"\n"
            path.write_bytes(b"".join(body) + end)
        case "newer":
            head, *rest = content.splitlines(keepends=True)
            path.write_bytes(head.replace(b'"format":1', b'"format":2') + b"".join(rest))


HOW = ["cut", "flipped", "empty", "garbage", "nested", "longer", "another", "newer"]


@pytest.mark.parametrize("how", HOW)
def test_a_checkpoint_that_is_not_right_is_passed_over(bench, caplog, how):
    async def run():
        bench.open()
        await bench.fill(3)
        await bench.commit(1)
        live = state(bench.journal)
        await until(lambda: len(bench.names("checkpoint")) == 2)
        await bench.close()
        damage(bench.folder / bench.names("checkpoint")[1], how)
        journal = bench.open()
        assert journal.restored == segment_name(2)
        assert state(journal)[:4] == live[:4]
        assert f"event=checkpoint_ignored checkpoint={checkpoint.checkpoint_name(3)}" in caplog.text
        (report,) = await verify(RealDisk(), str(bench.folder))
        assert [note.split()[0] for note in report.notes] == [checkpoint.checkpoint_name(3)]
        await bench.fill(1)  # and it goes when the next one is there
        await until(lambda: bench.names("checkpoint") == [checkpoint.checkpoint_name(n) for n in (2, 4)])
        await bench.close()
        for path in bench.folder.glob("checkpoint-*"):
            damage(path, how)
        assert bench.open(upkeep=False).restored == ""
        await bench.close()

    asyncio.run(run())


def test_without_older_segments_and_without_a_checkpoint_the_journal_does_not_open(bench):
    async def run():
        bench.open()
        await bench.fill(2)
        await bench.close()
        (bench.folder / segment_name(1)).unlink()
        assert bench.open(upkeep=False).restored == segment_name(2)
        await bench.close()
        for path in bench.folder.glob("checkpoint-*"):
            path.unlink()
        with pytest.raises(SignalyardError) as refused:
            bench.open(upkeep=False)
        assert refused.value.problem is Problem.JOURNAL_CORRUPT
        assert "no checkpoint stands in for it" in refused.value.detail

    asyncio.run(run())


def test_a_break_behind_the_checkpoint_still_refuses_to_start(bench):
    async def run():
        bench.open()
        await bench.fill(2)
        await bench.commit(2)
        await bench.close()
        path = bench.folder / bench.names()[-1]
        first, *rest = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(first.replace(b'"prev":"', b'"prev":"0') + b"".join(rest))
        with pytest.raises(SignalyardError, match="line 1: the chain is broken"):
            bench.open(upkeep=False)

    asyncio.run(run())


def test_a_checkpoint_without_a_segment_behind_it_is_gone_on_from(bench):
    async def run():
        bench.open()
        await bench.fill(1)
        seq = bench.journal.sequence
        await bench.close()
        (bench.folder / segment_name(2)).unlink()
        journal = bench.open()
        assert (journal.segment, journal.sequence) == (segment_name(2), seq + 1)
        await bench.close()
        (report,) = await verify(RealDisk(), str(bench.folder))
        assert (report.seq, report.notes) == (seq + 1, [])

    asyncio.run(run())


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
def test_a_checkpoint_that_cannot_be_written_stops_no_commit(bench, trouble):
    async def run():
        bench.open()
        if trouble == "fails":
            bench.disk.fail_upkeep = True
        else:
            bench.disk.hang_upkeep = asyncio.Event()
        await bench.commit(20)
        await asyncio.sleep(0.02)
        assert bench.names("checkpoint") == []
        assert len(bench.names()) > 3
        if trouble == "fails":
            assert bench.value("signalyard_journal_checkpoints_total", result="failed") > 0
            bench.disk.fail_upkeep = False
        else:
            bench.disk.hang_upkeep.set()
            bench.disk.hang_upkeep = None
        await bench.fill(1)
        await until(lambda: bench.value("signalyard_journal_checkpoints_total", result="ok") > 0)
        await bench.close()

    asyncio.run(run())


# Retention -----------------------------------------------------------------------------------------------------------

complete = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50)), max_size=8).map(
    lambda parts: [
        Complete(segment_name(number), size, sum(t for _, t in parts[:number]))
        for number, (size, _) in enumerate(parts, start=1)
    ]
)


@given(
    complete,
    st.integers(0, 9),
    st.none() | st.sets(st.integers(1, 8)),
    st.none() | st.integers(1, 300),
    st.none() | st.integers(0, 200),
)
def test_what_may_be_dropped(segments, anchor, archived, keep_bytes, keep_age):
    names = None if archived is None else {segment_name(number) for number in archived}
    now = 400
    gone = expendable(
        segments, anchor=segment_name(anchor), archived=names, keep_bytes=keep_bytes, keep_age=keep_age, now=now
    )
    assert gone == [item.segment for item in segments[: len(gone)]]  # the oldest, and no gap
    left = segments[len(gone) :]
    assert all(name < segment_name(anchor) for name in gone)
    assert names is None or set(gone) <= names
    if keep_bytes is None and keep_age is None:
        assert gone == []
    for index, item in enumerate(segments[: len(gone)]):
        too_much = keep_bytes is not None and sum(s.size for s in segments[index:]) > keep_bytes
        assert too_much or (keep_age is not None and now - item.last_t > keep_age)
    if left and left[0].segment < segment_name(anchor) and (names is None or left[0].segment in names):
        assert keep_bytes is None or sum(s.size for s in left) <= keep_bytes
        assert keep_age is None or now - left[0].last_t <= keep_age


def test_old_segments_go_and_the_journal_opens_verifies_and_answers_without_them(tmp_path):
    async def run():
        bench = Bench(tmp_path, keep_bytes=1)
        bench.open()
        await bench.journal.accept([(parse_document(DOCUMENT, "r.yaml"), "r.yaml")])
        revision = bench.journal._gate.routes["r"].revision
        await bench.fill(6)
        await until(lambda: len(bench.names()) == 3)  # those of the two checkpoints, and the one that is written
        assert bench.names() == [segment_name(number) for number in (5, 6, 7)]
        await until(lambda: bench.value("signalyard_journal_dropped_segments_total") == 4)
        assert bench.value("signalyard_journal_dropped_bytes_total") > 4 * 2_000
        assert bench.value("signalyard_journal_segments") == 2
        bench.number += 1
        await bench.journal.commit([scored(bench.number)])
        live = state(bench.journal)
        await bench.close()
        disk, folder = RealDisk(), str(bench.folder)
        first = json.loads(bench.lines()[0])["seq"]
        assert first > 10
        (report,) = await verify(disk, folder)
        assert (report.since, report.seq) == (first, bench.journal.sequence)
        with pytest.raises(
            SignalyardError, match=f"no decision or record '3'; it holds what follows record {first - 1}"
        ):
            find(disk, folder, "3")
        assert find(disk, folder, str(first)).seq == first
        decision = newest(disk, folder, f"I{bench.number % 3}.X")
        assert decision.proposal_id == f"{bench.number:032x}"
        document = route_in_force(
            disk, folder, type(decision)(**{**fields(decision), "revision": revision, "generation": 1})
        )
        assert document.document == DOCUMENT | {"spec": document.document["spec"]}
        assert route_in_force(disk, folder, decision) is None  # made under a revision that nobody has accepted here
        records, position = last(disk, folder, 10_000)
        assert [record.seq for record in records] == list(range(first, report.seq + 1))
        assert list(follow(disk, folder, position)) == []
        bench.open()
        assert state(bench.journal)[:4] == live[:4]
        await bench.close()

    asyncio.run(run())


def test_reading_from_a_time_on(bench):
    async def run():
        bench.open(upkeep=False)
        await bench.commit(20)
        await bench.close()
        disk, folder = RealDisk(), str(bench.folder)
        every, _ = last(disk, folder, 1_000)
        for record in every:
            read = list(follow(disk, folder, since(disk, folder, record.t)))
            assert [r.seq for r in every if r.t >= record.t] == [r.seq for r in read if r.t >= record.t]
        assert len(read) < 6

    asyncio.run(run())


def fields(record):
    return {name: getattr(record, name) for name in record.__struct_fields__}


@pytest.mark.parametrize("archive", [None, MemoryArchive()])
def test_a_damaged_segment_stays_and_is_told(tmp_path, caplog, archive):
    async def run():
        bench = Bench(tmp_path, archive)
        bench.open()
        await bench.fill(4)
        await bench.close()
        path = bench.folder / segment_name(2)
        path.write_bytes(path.read_bytes()[:-5])
        bench.settings = type(bench.settings)(folder=str(bench.folder), segment_bytes=2_000, keep_bytes=1)
        bench.open()
        await bench.fill(1)
        await until(lambda: segment_name(1) not in bench.names())
        await bench.fill(1)
        await asyncio.sleep(0.03)
        assert bench.names() == [segment_name(number) for number in range(2, 8)]
        assert f"event=segment_damaged segment={segment_name(2)}" in caplog.text
        await bench.close()

    asyncio.run(run())


def test_segments_go_by_age(tmp_path):
    async def run():
        bench = Bench(tmp_path, keep_age=60 * MINUTE)
        bench.open()
        await bench.fill(4)
        await asyncio.sleep(0.03)
        assert len(bench.names()) == 5
        bench.world.clock.advance(61 * MINUTE)
        await until(lambda: len(bench.names()) == 3)
        await bench.close()

    asyncio.run(run())


# The archive ---------------------------------------------------------------------------------------------------------


def test_what_is_archived_is_what_was_written_and_only_then_it_goes(tmp_path):
    async def run():
        archive = MemoryArchive()
        archive.hang = asyncio.Event()
        bench = Bench(tmp_path, archive, keep_bytes=1)
        bench.open()
        await bench.fill(5)
        await asyncio.sleep(0.03)
        assert len(bench.names()) == 6  # nothing is dropped that is not archived
        assert bench.value("signalyard_archive_waiting_segments") == 5
        assert bench.value("signalyard_archive_oldest_waiting_seconds") > 10
        written = {name: (bench.folder / name).read_bytes() for name in bench.names()[:-1]}
        archive.hang.set()
        archive.hang = None
        await until(lambda: len(bench.names()) == 3)
        await until(lambda: bench.value("signalyard_archive_segments_total") == 5)
        assert bench.value("signalyard_archive_oldest_waiting_seconds") == 0
        assert bench.value("signalyard_archive_failures_total") == 0
        epoch = bench.journal.epoch
        for name, content in written.items():
            assert gzip.decompress(archive.objects[f"{epoch}/{name}.gz"]) == content
        await bench.close()
        (report,) = await verify(RealDisk(), str(bench.folder), archive)
        assert (report.since, report.seq, report.notes) == (1, bench.journal.sequence, [])
        assert 0 < report.archived < report.seq
        (alone,) = await verify(RealDisk(), str(tmp_path / "lost"), archive)
        assert (alone.since, alone.epoch) == (1, epoch)

    asyncio.run(run())


def test_a_store_that_hangs_or_fails_delays_no_commit(tmp_path):
    async def run():
        archive = MemoryArchive()
        archive.hang = asyncio.Event()
        bench = Bench(tmp_path, archive)
        bench.open()
        loop = asyncio.get_running_loop()
        turns = 0

        def turn():
            nonlocal turns
            turns += 1
            loop.call_soon(turn)

        await bench.commit(20)  # a dozen rotations behind which nothing moves
        loop.call_soon(turn)
        for _ in range(20):
            before = turns
            await bench.commit(1)
            assert turns - before <= 3  # a commit takes the turns of the loop that it always takes
        turns = -(10**9)
        archive.hang.set()
        archive.hang, archive.fail = None, 10**9
        await until(lambda: bench.value("signalyard_archive_failures_total") > 3)
        await bench.commit(20)
        assert bench.value("signalyard_journal_commits_total", result="failed") == 0
        assert archive.objects == {}
        archive.fail = 2
        waiting = len(bench.names()) - 1
        await until(lambda: bench.value("signalyard_archive_segments_total") >= waiting)
        await bench.close()

    asyncio.run(run())


def test_a_store_that_hangs_is_given_up_and_asked_again(tmp_path):
    async def run():
        archive = MemoryArchive()
        archive.hang = asyncio.Event()
        bench = Bench(tmp_path, archive)
        bench.quick = type(bench.quick)(archive_seconds=0.005, first_pause_seconds=0.001, longest_pause_seconds=0.002)
        bench.open()
        await bench.fill(1)
        await until(lambda: bench.value("signalyard_archive_failures_total") > 2)
        bench.upkeep._upkeep = type(bench.quick)(archive_seconds=20)
        archive.hang = None
        await until(lambda: bench.value("signalyard_archive_segments_total") == 1)
        await bench.close()

    asyncio.run(run())


def test_what_arrives_damaged_is_uploaded_again(tmp_path, caplog):
    async def run():
        archive = MemoryArchive()
        archive.garble = True
        bench = Bench(tmp_path, archive)
        bench.open()
        await bench.fill(1)
        await until(lambda: bench.value("signalyard_archive_failures_total") > 1)
        assert "is not what was uploaded" in caplog.text
        assert not any(name.endswith(".json") for name in archive.objects)
        archive.garble = False
        await until(lambda: bench.value("signalyard_archive_segments_total") == 1)
        await bench.close()

    asyncio.run(run())


def test_an_index_that_arrived_damaged_is_uploaded_again(tmp_path):
    async def run():
        archive = MemoryArchive()
        bench = Bench(tmp_path, archive)
        bench.open()
        name = f"{bench.journal.epoch}/journal-00000001.json"
        archive.objects[name] = b'{"v":1,"segment":"journal-00000001.jso'
        await bench.fill(1)
        await until(lambda: bench.value("signalyard_archive_segments_total") == 1)
        assert json.loads(archive.objects[name])["segment"] == segment_name(1)
        await bench.close()

    asyncio.run(run())


def test_archiving_is_idempotent_and_goes_on_after_a_restart(tmp_path):
    async def run():
        archive = MemoryArchive()
        bench = Bench(tmp_path, archive)
        bench.open()
        await bench.fill(3)
        await until(lambda: bench.value("signalyard_archive_segments_total") == 3)
        await bench.close()
        del archive.objects[f"{bench.journal.epoch}/journal-00000002.json"]  # as if killed before the index was there
        archive.calls.clear()
        bench.open()
        await until(lambda: bench.value("signalyard_archive_segments_total") == 3)
        put = [name for verb, name in archive.calls if verb == "put"]
        assert put == [f"{bench.journal.epoch}/journal-00000002.{end}" for end in ("jsonl.gz", "json")]
        await bench.close()

    asyncio.run(run())


def test_what_another_journal_archived_is_never_written_over(tmp_path, caplog):
    async def run():
        archive = MemoryArchive()
        bench = Bench(tmp_path / "one", archive)
        bench.open()
        await bench.fill(1)
        await until(lambda: bench.value("signalyard_archive_segments_total") == 1)
        await bench.close()
        before = dict(archive.objects)
        other = Bench(tmp_path / "two", archive, keep_bytes=1)  # began in the same second
        other.open()
        await other.commit(1, symbol="Z.Z")
        await other.fill(4)
        await until(lambda: other.value("signalyard_archive_failures_total") > 1)
        assert "give each journal an archive of its own" in caplog.text
        assert archive.objects == before
        assert len(other.names()) == 5
        await other.close()
        later = Bench(tmp_path / "three", archive)
        later.world.clock.advance(SECOND)
        later.open()
        await later.fill(1)
        await until(lambda: later.value("signalyard_archive_segments_total") == 1)
        await later.close()
        assert len(await verify(RealDisk(), str(tmp_path / "lost"), archive)) == 2

    asyncio.run(run())


def test_verify_finds_what_is_wrong_in_an_archive(tmp_path):
    async def run():
        archive = MemoryArchive()
        bench = Bench(tmp_path, archive, keep_bytes=1)
        bench.open()
        await bench.fill(6)
        await until(lambda: len(bench.names()) == 3)
        await until(lambda: bench.value("signalyard_archive_segments_total") == 6)
        await bench.close()
        disk, folder, epoch = RealDisk(), str(bench.folder), bench.journal.epoch
        whole = dict(archive.objects)
        name = f"{epoch}/journal-00000002.jsonl.gz"

        async def refused():
            with pytest.raises(SignalyardError) as raised:
                await verify(disk, folder, archive)
            archive.objects = dict(whole)
            return str(raised.value)

        archive.objects[name] = gzip.compress(gzip.decompress(whole[name]).replace(b'"long"', b'"flat"', 1))
        assert f"{name}, line " in await refused()
        archive.objects[name] = whole[name][:-20]
        assert f"{name}: its sha256 is" in await refused()
        archive.objects[name] = b"no gzip"
        assert f"{name}: it is not gzip" in await refused()
        del archive.objects[name]
        assert "cannot be read" in await refused()
        index = f"{epoch}/journal-00000005.json"
        archive.objects[index] = whole[index].replace(b'"digest":"', b'"digest":"0')
        assert "the archive holds it with 0" in await refused()
        archive.objects[index] = b"{}"
        assert "is not the index of a segment" in await refused()
        # an archive from which the oldest were removed is verified from where it begins
        del archive.objects[f"{epoch}/journal-00000001.json"]
        (report,) = await verify(disk, folder, archive)
        assert report.since > 1
        # and one that does not reach the folder says so
        del archive.objects[f"{epoch}/journal-00000004.json"]
        (report,) = await verify(disk, folder, archive)
        assert (report.archived, len(report.notes)) == (0, 1)

    asyncio.run(run())
