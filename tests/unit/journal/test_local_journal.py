"""The local journal: the chain, the restart, and every way in which a disk lets it down."""

import asyncio
import hashlib
import json

import pytest
from prometheus_client import CollectorRegistry

from signalyard import Direction, Outcome, Reason, SignalyardError
from signalyard.problems import Problem
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.segments import Tail, read
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.ports import JournalInDoubt
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.levers import Order
from signalyard_router.rules.plan import Progress
from signalyard_router.rules.proposal import Proposal
from signalyard_router.rules.route import GateRules
from signalyard_router.rules.units import SECOND
from signalyard_router.testing.disk import FaultyDisk
from signalyard_router.testing.sim.network import Node
from signalyard_router.testing.sim.world import Simulation
from signalyard_router.testing.world import ManualWorld
from signalyard_router.world.real import RealDisk

RULES = GateRules(window=5 * SECOND, valid_for=SECOND)
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


class Bench:
    """A journal in a folder, opened and reopened as a test needs."""

    def __init__(self, folder, durability="os", clock="wall", **more):
        self.disk = FaultyDisk()
        self.world = ManualWorld(self.disk)
        self.settings = JournalSettings(folder=str(folder), durability=durability, clock=clock, **more)
        self.registry = CollectorRegistry()
        self.journal = self.open()

    def open(self) -> LocalJournal:
        self.registry = CollectorRegistry()
        self.journal = LocalJournal(self.world, self.settings, self.registry, "test")
        return self.journal

    def value(self, name, **labels):
        return self.registry.get_sample_value(name, labels)

    async def crash(self) -> LocalJournal:
        """Let go of the folder as a killed process does, writing nothing more, and open it again."""
        self.journal._release()
        return self.open()


def proposal(number: int, direction="long", symbol="A.X", *, ts_event=None, commit_by=2**62, **more) -> Proposal:
    return Proposal(
        proposal_id=f"{number:032x}",
        symbol=symbol,
        ts_event=ts_event or 1_000 + number,
        ts_recv=1,
        received=0,
        route="r",
        revision="1",
        direction=direction and Direction(direction),
        commit_by=commit_by,
        rules=RULES,
        **more,
    )


def lines(folder):
    return [line for path in sorted(folder.glob("journal-*.jsonl")) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_decisions_are_chained_and_survive_a_crash(tmp_path, durability):
    async def run():
        bench = Bench(tmp_path, durability)
        settled = await bench.journal.commit([proposal(1), proposal(2), proposal(3, "short")])
        assert [(s.decision.outcome, s.decision.reason) for s in settled] == [
            (Outcome.EMITTED, None),
            (Outcome.SUPPRESSED, Reason.DUPLICATE),
            (Outcome.EMITTED, None),
        ]
        signal = settled[2].decision.signal
        assert (signal.seq, signal.prev_seq) == (2, 1)
        journal = await bench.crash()
        assert journal.settled(f"{2:032x}") == settled[1].decision
        assert journal._gate._instruments["r", "A.X"].held is Direction.SHORT
        assert [opinion.seq for opinion in journal.opinions()] == [2]
        again = await journal.commit([proposal(3, "short"), proposal(4, "long")])
        assert again[0].repeated
        assert again[0].decision == settled[2].decision
        assert (again[1].decision.signal.seq, again[1].decision.signal.epoch) == (3, signal.epoch)
        await journal.close()

    asyncio.run(run())
    digest = "0" * 64
    for number, line in enumerate(lines(tmp_path), start=1):
        record = json.loads(line)
        assert (record["prev"], record["seq"]) == (digest, number)
        digest = hashlib.sha256(line).hexdigest()
    assert [json.loads(line)["kind"] for line in lines(tmp_path)] == ["start", *["decision"] * 3, "start", "decision"]


def test_commits_of_one_turn_of_the_loop_are_one_write(tmp_path):
    async def run():
        bench = Bench(tmp_path)
        await asyncio.gather(*(bench.journal.commit([proposal(n, symbol=f"I{n}.X")]) for n in range(50)))
        assert bench.value("signalyard_journal_commits_total", result="ok") == 1
        assert bench.value("signalyard_journal_records_total") == 51
        await bench.journal.close()

    asyncio.run(run())


def test_a_commit_that_is_alone_waits_for_nothing_but_for_those_that_came_before(tmp_path):
    async def run():
        bench = Bench(tmp_path)
        alone = bench.journal.commit([proposal(1)], alone=True)
        assert alone.done()
        assert [json.loads(line)["kind"] for line in lines(tmp_path)] == ["start", "decision"]
        first = bench.journal.commit([proposal(2, "short")])
        second = bench.journal.commit([proposal(3)], alone=True)
        assert not second.done()
        assert [settled.decision.signal.seq for settled in [*await first, *await second]] == [2, 3]
        assert bench.value("signalyard_journal_commits_total", result="ok") == 2
        await bench.journal.close()

    asyncio.run(run())


def test_the_same_proposal_twice_in_one_batch_is_settled_once(tmp_path):
    async def run():
        bench = Bench(tmp_path)
        first, second = await bench.journal.commit([proposal(1), proposal(1)])
        assert (first.repeated, second.repeated) == (False, True)
        assert first.decision == second.decision
        await bench.journal.close()
        assert len(lines(tmp_path)) == 2

    asyncio.run(run())


def test_a_torn_last_line_is_cut_and_counted(tmp_path):
    async def run():
        bench = Bench(tmp_path)
        await bench.journal.commit([proposal(1)])
        await bench.journal.close()
        whole = (tmp_path / "journal-00000001.jsonl").read_bytes()
        (tmp_path / "journal-00000001.jsonl").write_bytes(whole + b'{"kind":"decision","v":1,"se')
        journal = bench.open()
        assert bench.value("signalyard_journal_cut_bytes_total") == 28
        assert journal.sequence == 3
        await journal.close()
        assert json.loads(lines(tmp_path)[2])["cut_bytes"] == 28

    asyncio.run(run())


def break_line(path, number, change):
    parts = path.read_bytes().splitlines(keepends=True)
    parts[number - 1] = change(parts[number - 1])
    path.write_bytes(b"".join(parts))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda line: line.replace(b'"symbol":"A.X"', b'"symbol":"B.X"'), "line 3: the chain is broken"),
        (lambda line: b"", "line 2: the chain is broken"),
        (lambda line: line + line, "line 3: the chain is broken"),
        (lambda line: b"not json\n", "line 2: the line is not a record"),
        (lambda line: line.replace(b'"v":1', b'"v":9'), "line 2: the record has version 9"),
        (lambda line: line.replace(b'"seq":2', b'"seq":7'), "line 2: the line after 1 must have seq 2, not 7"),
        (lambda line: line.replace(b'"kind":"decision"', b'"kind":"guess"'), "line 2: the line is not a record"),
        (lambda line: b"\n", "line 2: the line is not a record"),
        (lambda line: b"[" * 100_000 + b"\n", "line 2: the line is not a record"),
    ],
)
def test_any_other_break_refuses_to_start_and_names_the_line(tmp_path, change, says):
    async def run():
        bench = Bench(tmp_path)
        await bench.journal.commit([proposal(1), proposal(2)])
        await bench.journal.close()
        before = len(list(tmp_path.iterdir()))
        break_line(tmp_path / "journal-00000001.jsonl", 2, change)
        with pytest.raises(SignalyardError) as refused:
            bench.open()
        assert refused.value.problem is Problem.JOURNAL_CORRUPT
        assert f"journal-00000001.jsonl, {says}" in refused.value.detail
        assert len(list(tmp_path.iterdir())) == before
        with pytest.raises(SignalyardError, match="journal_corrupt"):  # and it did not keep the lock
            bench.open()

    asyncio.run(run())


def test_two_routers_cannot_share_a_journal(tmp_path):
    async def run():
        bench = Bench(tmp_path)
        with pytest.raises(SignalyardError) as refused:
            LocalJournal(ManualWorld(), bench.settings, CollectorRegistry())
        assert refused.value.problem is Problem.JOURNAL_LOCKED
        assert str(tmp_path) in refused.value.detail
        await bench.journal.close()
        other = LocalJournal(ManualWorld(), bench.settings, CollectorRegistry())
        await other.close()

    asyncio.run(run())


@pytest.mark.parametrize("durability", ["os", "fsync"])
@pytest.mark.parametrize("room", [0, 1, 300])
def test_a_full_disk_records_nothing_and_comes_back(tmp_path, durability, room):
    async def run():
        bench = Bench(tmp_path, durability)
        await bench.journal.commit([proposal(1)])
        before = lines(tmp_path)
        bench.disk.room = room
        for _ in range(3):
            with pytest.raises(SignalyardError) as failed:
                await bench.journal.commit([proposal(2, "short"), proposal(3)])
            assert failed.value.problem is Problem.JOURNAL_UNAVAILABLE
            assert not isinstance(failed.value, JournalInDoubt)
            assert not bench.journal.available
            assert bench.journal.settled(f"{2:032x}") is None
            assert bench.journal._gate._instruments["r", "A.X"].held is Direction.LONG
        assert lines(tmp_path) == before
        bench.disk.room = None
        first, second = await bench.journal.commit([proposal(2, "short"), proposal(3)])
        assert (first.decision.signal.seq, second.decision.signal.seq) == (2, 3)
        assert bench.journal.available
        await bench.journal.close()
        assert sum(1 for _ in read(RealDisk(), str(tmp_path), Tail())) == 4

    asyncio.run(run())


@pytest.mark.parametrize("durability", ["os", "fsync"])
@pytest.mark.parametrize(
    "trouble", [{"room": 0}, {"room": 300}, {"room": 5, "fail_truncate": True}, {"fail_sync": True}]
)
def test_it_finds_out_without_a_commit_that_records_can_be_written_again(tmp_path, durability, trouble):
    """A router that is not ready gets no traffic, and so no commit that would tell."""

    async def tried(journal):
        journal.try_again()
        while journal._writing is not None:  # noqa: ASYNC110 -- the journal's own
            await asyncio.sleep(0)
        return journal.available

    async def run():
        bench = Bench(tmp_path, durability)
        await bench.journal.commit([proposal(1)])
        before = lines(tmp_path)
        if "room" in trouble or durability == "fsync":
            bench.disk.__dict__.update(trouble)
            with pytest.raises(SignalyardError):
                await bench.journal.commit([proposal(2, "short")])
            assert not await tried(bench.journal)
            bench.disk.__dict__.update(room=None, fail_truncate=False, fail_sync=False)
        assert await tried(bench.journal)
        assert lines(tmp_path) == before
        bench.journal._set_available(False)
        bench.journal.try_again()
        (settled,) = await bench.journal.commit([proposal(2, "short")])  # which comes while it is tried
        assert settled.decision.signal.seq == 2
        await bench.journal.close()
        assert sum(1 for _ in read(RealDisk(), str(tmp_path), Tail())) == 3

    asyncio.run(run())


@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_a_plan_does_not_begin_where_a_weight_by_hand_was_recorded_just_before(tmp_path, durability):
    async def run():
        journal = Bench(tmp_path, durability).journal
        begun = Progress(plan="p", step=0, state="running", canary=8_000, at=0, why="the plan begins")
        weight = Order(action="weight", by="me", why="x", route="r", canary=30.0)
        lever, taken = await asyncio.gather(journal.pull(weight), journal.step("r", begun, {}))
        assert (taken, journal.plans) == (False, {})
        assert await journal.step("r", begun, {})  # whoever has seen that lever has judged it
        await journal.pull(Order(action="end", by="me", why="x", lever=lever.id))
        assert journal.plans["r"].state == "running"
        await journal.close()

    asyncio.run(run())


def test_after_a_failed_sync_the_segment_is_closed(tmp_path):
    async def run():
        bench = Bench(tmp_path, "fsync")
        await bench.journal.commit([proposal(1)])
        bench.disk.fail_sync = True
        with pytest.raises(SignalyardError, match="journal_unavailable"):
            await bench.journal.commit([proposal(2, "short")])
        bench.disk.fail_sync = False
        (settled,) = await bench.journal.commit([proposal(2, "short")])
        assert settled.decision.signal.seq == 2
        await bench.journal.close()
        assert [path.name for path in sorted(tmp_path.glob("journal-*"))] == [
            "journal-00000001.jsonl",
            "journal-00000002.jsonl",
        ]
        assert b"short" not in (tmp_path / "journal-00000001.jsonl").read_bytes()
        journal = bench.open()
        assert journal._gate._instruments["r", "A.X"].held is Direction.SHORT
        await journal.close()

    asyncio.run(run())


@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_what_cannot_be_cut_off_is_in_doubt_until_it_can(tmp_path, durability):
    async def run():
        bench = Bench(tmp_path, durability)
        bench.disk.room, bench.disk.fail_truncate = 5, True
        with pytest.raises(JournalInDoubt):
            await bench.journal.commit([proposal(1)])
        bench.disk.room = None
        with pytest.raises(SignalyardError) as failed:  # nothing is written behind a torn line
            await bench.journal.commit([proposal(2)])
        assert not isinstance(failed.value, JournalInDoubt)
        bench.disk.fail_truncate = False
        (settled,) = await bench.journal.commit([proposal(2)])
        assert settled.decision.outcome is Outcome.EMITTED
        await bench.journal.close()
        journal = bench.open()
        assert journal.settled(f"{1:032x}") is None
        await journal.close()

    asyncio.run(run())


def test_nothing_is_visible_before_it_is_on_the_medium(tmp_path):
    async def run():
        bench = Bench(tmp_path, "fsync")
        bench.disk.hang = asyncio.Event()
        first = asyncio.ensure_future(bench.journal.commit([proposal(1)]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second = asyncio.ensure_future(bench.journal.commit([proposal(1), proposal(2, "short")]))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not first.done()
        assert bench.journal.settled(f"{1:032x}") is None
        assert bench.journal.opinions() == []
        bench.disk.hang.set()
        (one,) = await first
        again, two = await second
        assert again.repeated
        assert again.decision == one.decision
        assert two.decision.signal.seq == 2
        await bench.journal.close()

    asyncio.run(run())


def test_a_caller_that_gave_up_does_not_undo_its_commit(tmp_path):
    async def run():
        bench = Bench(tmp_path, "fsync")
        bench.disk.hang = asyncio.Event()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await bench.journal.commit([proposal(1)])
        bench.disk.hang.set()
        (settled,) = await bench.journal.commit([proposal(1)])
        assert settled.repeated
        assert settled.decision.outcome is Outcome.EMITTED
        await bench.journal.close()

    asyncio.run(run())


def test_what_reaches_the_gate_too_late_is_refused(tmp_path):
    async def run():
        bench = Bench(tmp_path)
        now = bench.world.clock.monotonic()
        (settled,) = await bench.journal.commit([proposal(1, commit_by=now - 1)])
        assert settled.decision.reason is Reason.PAST_COMMIT_BY
        (settled,) = await bench.journal.commit([proposal(2, commit_by=now)])
        assert settled.decision.outcome is Outcome.EMITTED
        await bench.journal.close()

    asyncio.run(run())


def test_the_journals_time_never_steps_back(tmp_path):
    async def run():
        bench = Bench(tmp_path)
        await bench.journal.commit([proposal(1)])
        bench.world.clock.step_wall(-3600 * SECOND)
        (settled,) = await bench.journal.commit([proposal(2)])
        assert settled.decision.reason is Reason.DUPLICATE
        journal = await bench.crash()
        await journal.commit([proposal(3)])
        await journal.close()
        times = [json.loads(line)["t"] for line in lines(tmp_path)]
        assert times == sorted(times)

    asyncio.run(run())


def test_on_event_time_windows_follow_the_events(tmp_path):
    async def run():
        bench = Bench(tmp_path, clock="event")
        at = [10 * SECOND, 14 * SECOND, 15 * SECOND]
        settled = await bench.journal.commit([proposal(n, ts_event=ts) for n, ts in enumerate(at)])
        assert [s.decision.reason for s in settled] == [None, Reason.DUPLICATE, None]
        assert bench.journal.now == 15 * SECOND
        bench.world.clock.advance(3600 * SECOND)
        assert bench.journal.now == 15 * SECOND
        journal = await bench.crash()
        assert journal.now == 15 * SECOND
        await journal.close()
        bench.settings = JournalSettings(folder=str(tmp_path), clock="wall")
        with pytest.raises(SignalyardError) as refused:
            bench.open()
        assert (refused.value.problem, refused.value.pointer) == (Problem.INVALID_SETTING, "/clock")

    asyncio.run(run())


def test_a_document_is_recorded_once_and_its_changes_are_counted(tmp_path):
    async def run():
        bench = Bench(tmp_path)
        (first,) = await bench.journal.accept([(parse_document(DOCUMENT, "r.yaml"), "r.yaml")])
        assert first.generation == 1
        journal = await bench.crash()
        (same,) = await journal.accept([(parse_document(DOCUMENT, "r.yaml"), "r.yaml")])
        assert same.generation == 1
        changed = json.loads(json.dumps(DOCUMENT))
        changed["spec"]["deadline"] = "90ms"
        (second,) = await journal.accept([(parse_document(changed, "r.yaml"), "r.yaml")])
        assert second.generation == 2
        (late,) = await journal.commit([proposal(1, generation=1)])
        assert late.decision.reason is Reason.SUPERSEDED
        (good,) = await journal.commit([proposal(2, generation=2)])
        assert good.decision.outcome is Outcome.EMITTED
        await journal.close()
        assert [json.loads(line)["kind"] for line in lines(tmp_path)].count("route") == 2

    asyncio.run(run())


def test_a_full_segment_is_followed_by_another(tmp_path):
    async def run():
        bench = Bench(tmp_path, segment_bytes=2_000)
        for number in range(20):
            await bench.journal.commit([proposal(number)])
        await bench.journal.close()
        assert len(list(tmp_path.glob("journal-*.jsonl"))) > 3
        assert bench.open().sequence == 22
        await bench.journal.close()

    asyncio.run(run())


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SignalyardError) as refused:
        LocalJournal(ManualWorld(), JournalSettings(folder=str(tmp_path / "file" / "journal")), CollectorRegistry())
    assert refused.value.problem is Problem.JOURNAL_UNAVAILABLE
    disk = FaultyDisk()
    disk.fail_open = True
    with pytest.raises(SignalyardError, match="journal_unavailable"):
        LocalJournal(ManualWorld(disk), JournalSettings(folder=str(tmp_path / "j")), CollectorRegistry())


def test_a_closed_journal_takes_nothing(tmp_path):
    async def run():
        bench = Bench(tmp_path)
        waiting = asyncio.ensure_future(bench.journal.commit([proposal(1)]))
        await asyncio.sleep(0)
        await bench.journal.close()
        assert (await waiting)[0].decision.outcome is Outcome.EMITTED
        with pytest.raises(SignalyardError, match="journal_unavailable"):
            await bench.journal.commit([proposal(2)])

    asyncio.run(run())


def test_no_power_loss_takes_a_record_from_the_middle_of_the_chain():
    """The start's record is on the medium before the first sync of decisions can fail and close its segment."""
    simulation = Simulation(1)
    disk = simulation.disk()

    async def run():
        node = Node("router")
        settings = JournalSettings(folder="journal", durability="fsync")
        journal = LocalJournal(simulation.world(node, disk), settings, CollectorRegistry(), "test")
        disk.fail_sync = True
        with pytest.raises(SignalyardError):
            await journal.commit([proposal(1)])
        disk.fail_sync = False
        await journal.commit([proposal(2)])
        disk.lose_power()
        again = LocalJournal(simulation.world(node, disk), settings, CollectorRegistry(), "test")
        assert again.settled(f"{2:032x}") is not None

    simulation.run(run)


def test_a_record_that_cannot_be_written_fails_its_commit_and_hangs_nobody(tmp_path):
    async def run():
        bench = Bench(tmp_path)
        good, bad = proposal(1), proposal(2, consumer="\ud800")
        for group in ([good, bad], [bad]):
            with pytest.raises(SignalyardError) as caught:
                await asyncio.wait_for(bench.journal.commit(group), 5)
            assert caught.value.problem is Problem.JOURNAL_UNAVAILABLE
        assert bench.journal.settled(good.proposal_id) is None
        (settled,) = await bench.journal.commit([good])
        assert settled.decision.outcome is Outcome.EMITTED
        assert bench.journal.available
        await bench.journal.close()
        assert len(lines(tmp_path)) == 2

    asyncio.run(run())


@pytest.mark.parametrize("document", [True, [], {"spec": None}, {"spec": [1]}])
def test_a_recorded_document_that_is_none_is_told_when_it_is_asked_for(tmp_path, document):
    async def run():
        bench = Bench(tmp_path)
        await bench.journal.accept([(parse_document(DOCUMENT, "x"), "x")])
        await bench.journal.close()
        (segment,) = tmp_path.glob("journal-*")
        start, record = segment.read_bytes().splitlines()
        changed = json.dumps(json.loads(record) | {"document": document}, separators=(",", ":")).encode()
        segment.write_bytes(start + b"\n" + changed + b"\n")
        reopened = bench.open()
        with pytest.raises(SignalyardError) as caught:
            reopened.documents()
        assert caught.value.problem is Problem.INVALID_DOCUMENT
        await reopened.close()

    asyncio.run(run())


def test_a_carriage_return_in_the_middle_is_damage_and_cuts_nothing_off(tmp_path):
    async def run():
        bench = Bench(tmp_path)
        for number in range(3):
            await bench.journal.commit([proposal(number)])
        await bench.journal.close()
        (segment,) = tmp_path.glob("journal-*")
        damaged = segment.read_bytes().replace(b'"symbol":"A.X"', b'"symbol":"A\rX"', 1)
        segment.write_bytes(damaged)
        with pytest.raises(SignalyardError) as caught:
            bench.open()
        assert caught.value.problem is Problem.JOURNAL_CORRUPT
        assert "line 2" in caught.value.detail
        assert segment.read_bytes() == damaged

    asyncio.run(run())


@pytest.mark.parametrize(
    "damage",
    [(b"A.X", b"A\xff"), (b'"signal_id":"s-', b'"signal_ix":"s-'), (b'"A.X"', b'"A.X","input":{"columns":null,"values":[]}')],
    ids=["no text", "no signal", "no columns"],
)  # fmt: skip
def test_a_line_that_is_no_record_is_named(tmp_path, damage):
    async def run():
        bench = Bench(tmp_path)
        await bench.journal.commit([proposal(1)])
        await bench.journal.close()
        (segment,) = tmp_path.glob("journal-*")
        segment.write_bytes(segment.read_bytes().replace(*damage, 1))
        with pytest.raises(SignalyardError) as caught:
            bench.open()
        assert caught.value.problem is Problem.JOURNAL_CORRUPT
        assert "line 2" in caught.value.detail

    asyncio.run(run())
