"""Paper mode: everything but release."""

import msgspec
import pytest

from signalyard import Decision, Outcome, Reason, SignalyardError
from signalyard.words import Direction
from signalyard_router.journal.explain import explain
from signalyard_router.journal.query import find
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.levers import Order
from signalyard_router.rules.units import SECOND
from signalyard_router.world.real import RealDisk

NAME = "rb2410.SHFE"


def test_a_paper_decision_is_no_signal_to_act_on(play, doc):
    async def scenario(desk):
        decision = await desk.ask(0.7)
        assert (decision.outcome, decision.signal) == (Outcome.PAPER, None)
        paper = decision.paper
        assert (paper.signal, paper.paper, paper.seq, paper.prev_seq) == (Direction.LONG, True, 1, 0)
        assert paper.signal_id.startswith("p-")
        wire = msgspec.json.encode(decision)
        assert b'"emitted"' not in wire
        assert b'"signal":{' not in wire
        assert msgspec.json.decode(wire, type=Decision) == decision
        state = desk.router.state()
        assert state.opinions == []
        assert [(opinion.signal, opinion.paper) for opinion in state.paper] == [(Direction.LONG, True)]
        (record,) = desk.records()
        assert (record["outcome"], record["paper"]) == ("paper", True)
        labels = {"route": "rb-trend", "outcome": "paper", "reason": "long"}
        assert desk.registry.get_sample_value("signalyard_decisions_total", labels) == 1
        assert desk.router.status().routes[0].mode == "paper"
        found = find(RealDisk(), str(desk.folder), paper.signal_id)
        assert any("would have been emitted, on paper" in line for line in explain(found, None))

    play(scenario, doc(mode="paper", shadows=()))


def test_windows_limits_and_sequences_run_as_if_live(play, doc):
    async def scenario(desk):
        outcomes = [(await desk.ask(p)).outcome for p in (0.7, 0.3)]
        assert outcomes == ["paper", "paper"]
        repeated = await desk.ask(0.3)
        assert (repeated.reason, repeated.duplicate_of[:2]) == (Reason.DUPLICATE, "p-")
        assert (await desk.ask(0.7)).reason is Reason.FLIP_LATCHED
        assert (await desk.ask(0.7, symbol="rb2.SHFE")).reason is Reason.RATE_LIMITED

    play(scenario, doc(mode="paper", shadows=(), limits={"signals": "2/min", "flips": "1/min"}))


def test_paper_signals_hold_back_no_live_ones(play, doc):
    async def scenario(desk):
        assert (await desk.ask(0.7)).outcome is Outcome.PAPER
        await desk.restart(doc(mode="live", shadows=()))
        decision = await desk.ask(0.7)  # within the window of the paper long
        assert (decision.outcome, decision.signal.seq, decision.signal.prev_seq) == (Outcome.EMITTED, 1, 0)

    play(scenario, doc(mode="paper", shadows=()))


def test_live_goes_on_from_what_the_desk_was_last_told(play, doc):
    async def scenario(desk):
        first = await desk.ask(0.7)
        await desk.restart(doc(mode="paper", shadows=()))
        assert [(await desk.ask(p)).paper.seq for p in (0.3, 0.7, 0.3)] == [1, 2, 3]
        assert [opinion.signal for opinion in desk.router.state().opinions] == [Direction.LONG]
        await desk.restart(doc(mode="live", shadows=()))
        duplicate = await desk.ask(0.7)  # the window of its own signal still holds
        assert (duplicate.reason, duplicate.duplicate_of) == (Reason.DUPLICATE, first.signal.signal_id)
        short = await desk.ask(0.3)
        assert (short.outcome, short.signal.seq, short.signal.prev_seq) == (Outcome.EMITTED, 2, 1)

    play(scenario, doc(shadows=()))


def test_a_direction_from_before_the_paper_days_is_entered_anew(play, doc):
    async def scenario(desk):
        await desk.ask(0.7)
        await desk.restart(doc(mode="paper", shadows=()))
        assert (await desk.ask(0.55)).reason is Reason.NO_DIRECTION  # paper begins clean as well
        await desk.restart(doc(mode="live", shadows=()))
        desk.world.clock.advance(60 * SECOND)
        assert (await desk.ask(0.55)).reason is Reason.NO_DIRECTION  # a long that was held would have lasted
        assert (await desk.ask(0.7)).outcome is Outcome.EMITTED

    play(scenario, doc(shadows=()))


def test_each_time_on_paper_begins_clean(play, doc):
    async def scenario(desk):
        paper, live = doc(mode="paper", shadows=()), doc(shadows=())
        assert (await desk.ask(0.7)).paper.seq == 1
        await desk.restart(live)
        await desk.restart(paper)
        assert (await desk.ask(0.7)).paper.seq == 1  # not a duplicate of the one before
        await desk.restart(paper)  # the same document: nothing changes
        assert (await desk.ask(0.7)).reason is Reason.DUPLICATE

    play(scenario, doc(mode="paper", shadows=()))


def test_a_snapshot_sent_again_after_the_change_gets_its_paper_decision(play, doc):
    async def scenario(desk):
        snapshot = desk.snapshot(0.7)
        (first,) = await desk.router.predict(snapshot)
        await desk.restart(doc(shadows=()))
        (again,) = await desk.router.predict(snapshot)
        assert (again.outcome, again.paper) == (Outcome.PAPER, first.paper)

    play(scenario, doc(mode="paper", shadows=()))


def test_a_change_of_mode_that_could_not_be_recorded_changes_nothing(play, doc):
    async def scenario(desk):
        await desk.ask(0.7)

        async def accept(data):
            await desk.journal.accept([(parse_document(data, "test"), "test")])

        await accept(doc(mode="paper", shadows=()))
        gate = desk.journal._gate
        before = (dict(gate._instruments), gate._signals.copy(), gate._throttled)
        desk.disk.room = 0
        with pytest.raises(SignalyardError, match="journal_unavailable"):
            await accept(doc(shadows=()))
        assert (gate._instruments, gate._signals, gate._throttled) == before
        assert gate._instruments["rb-trend", NAME].held is Direction.LONG  # it would have been let go
        desk.disk.room = None
        await accept(doc(shadows=()))
        assert gate._instruments["rb-trend", NAME].held is None

    play(scenario, doc(shadows=()))


def test_latches_are_those_of_the_mode_in_force(play, doc):
    limits = {"signals": "1/min"}

    async def scenario(desk):
        await desk.ask(0.7)
        assert (await desk.ask(0.3)).reason is Reason.RATE_LIMITED
        assert desk.journal.latches() == [("rb-trend", None)]
        await desk.restart(doc(shadows=(), limits=limits))
        assert desk.journal.latches() == []  # the paper one holds no live signal back
        assert (await desk.ask(0.7)).outcome is Outcome.EMITTED
        await desk.restart(doc(mode="paper", shadows=(), limits=limits))
        assert (await desk.ask(0.7)).outcome is Outcome.PAPER
        assert (await desk.ask(0.3)).reason is Reason.RATE_LIMITED
        await desk.journal.pull(Order(action="reset", by="me", why="seen", route="rb-trend", latch="throttle"))
        assert desk.journal.latches() == []

    play(scenario, doc(mode="paper", shadows=(), limits=limits))
