"""The replay against a router of a few lines: each snapshot ends with one decision, whatever happens on the way."""

from collections.abc import Sequence

import pytest

from signalyard.problems import Problem, error
from signalyard.wire import Decision, Snapshot
from signalyard.words import Outcome, Reason
from signalyard_demo.replay import KILLED, Plan, Replay, ReplayError, Tally


class World:
    """Settles each snapshot once; can be killed, and then comes back with what it had settled."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.settled: dict[str, Decision] = {}
        self.alive = True
        self.die_at_next_call = False
        self.forgets = False
        self.unknown_once: set[str] = set()
        self.calls: list[int] = []

    def freeze(self) -> None:
        self.log.append("freeze")

    def thaw(self) -> None:
        self.log.append("thaw")

    def kill_soon(self) -> None:
        self.log.append("kill")
        self.die_at_next_call = True

    def restart(self) -> None:
        self.log.append("restart")
        self.alive, self.die_at_next_call = True, False
        if self.forgets:
            self.settled.clear()

    def call(self, rows: Sequence[Snapshot]) -> list[Decision]:
        if not self.alive:
            raise error(Problem.ROUTER_UNREACHABLE, "gone")
        self.calls.append(len(rows))
        answers = [self._decide(index, row) for index, row in enumerate(rows)]
        if self.die_at_next_call:
            self.alive = False
            raise error(Problem.ROUTER_UNREACHABLE, "reset in mid-flight")  # settled, and the answer is lost
        return answers

    def _decide(self, index: int, row: Snapshot) -> Decision:
        place = f"{row.symbol} {row.ts_event}"
        if place in self.unknown_once:
            self.unknown_once.discard(place)
            return Decision(
                outcome=Outcome.UNKNOWN, reason=Reason.UNCONFIRMED, row=index, symbol=row.symbol, ts_event=row.ts_event
            )
        proposal = f"p{len(self.settled)}"
        decision = self.settled.setdefault(
            place,
            Decision(
                outcome=Outcome.ABSTAINED,
                reason=Reason.NO_DIRECTION,
                symbol=row.symbol,
                ts_event=row.ts_event,
                proposal_id=proposal,
            ),
        )
        return Decision(
            outcome=decision.outcome,
            reason=decision.reason,
            row=index,
            symbol=row.symbol,
            ts_event=row.ts_event,
            proposal_id=decision.proposal_id,
        )


def rows(count: int) -> list[Snapshot]:
    return [Snapshot(symbol=f"X{index % 7}.Y", ts_event=index, features={"a": 1.0}) for index in range(count)]


def replay(world: World, count: int = 150) -> tuple[Tally, set[str]]:
    phases: set[str] = set()

    def progress(tally: Tally) -> None:
        phases.add(tally.phase)

    plan = Plan(rate=1e6, frozen_seconds=0.0)
    return Replay(world.call, rows(count), world, plan, progress).run(), phases


def test_every_snapshot_gets_one_decision_through_both_faults() -> None:
    world = World()
    tally, phases = replay(world)
    assert world.log == ["freeze", "thaw", "kill", "restart"]
    assert len(tally.answers) == len({(item.symbol, item.ts_event) for item in tally.answers}) == 150
    assert len({item.proposal_id for item in tally.answers}) == 150
    assert tally.failed_calls == 1
    assert tally.asked_again > 1
    assert (tally.repeated, tally.repeated_equal) == (20, 20)
    assert KILLED in phases
    assert max(world.calls) == 20


def test_a_router_that_forgets_is_found_out() -> None:
    world = World()
    world.forgets = True
    tally, _ = replay(world)
    assert tally.repeated_equal < tally.repeated == 20


def test_what_is_unknown_is_asked_again() -> None:
    world = World()
    world.unknown_once = {"X3.Y 10"}
    tally, _ = replay(world)
    assert len(tally.answers) == 150
    assert tally.outcomes == {"abstained": 150}


def test_an_answer_too_few_ends_the_run() -> None:
    world = World()
    with pytest.raises(ReplayError, match="each is owed exactly one"):
        Replay(lambda batch: [], rows(10), world, Plan(1e6, 0.0), lambda tally: None).run()


def test_an_answer_to_another_snapshot_ends_the_run() -> None:
    def crossed(batch: Sequence[Snapshot]) -> list[Decision]:
        return [Decision(outcome=Outcome.EMITTED, row=0, symbol="Z.Y", ts_event=0)]

    with pytest.raises(ReplayError, match="was answered as"):
        Replay(crossed, rows(1), World(), Plan(1e6, 0.0), lambda tally: None).run()


def test_a_caller_s_error_is_not_tried_again() -> None:
    def refuse(batch: Sequence[Snapshot]) -> list[Decision]:
        raise error(Problem.MALFORMED_BODY, "no")

    with pytest.raises(Exception, match="malformed_body"):
        Replay(refuse, rows(1), World(), Plan(1e6, 0.0), lambda tally: None).run()
