"""Several replicas on one log, in virtual time: what one decides binds the others, and after a loss nothing is repeated."""

import asyncio
import os

import msgspec
import pytest
from tests.unit.journal.replicas import SimulatedReplica, document, replicas, run, signal

from signalyard.problems import CallerError, RouterError
from signalyard.words import Direction
from signalyard_router.journal.segments import Tail, read
from signalyard_router.journal.verify import verify
from signalyard_router.ports import JournalInDoubt
from signalyard_router.rules.levers import Order
from signalyard_router.rules.plan import Progress
from signalyard_router.rules.proposal import Answer, Input, columns_json
from signalyard_router.rules.record import DecisionRecord
from signalyard_router.rules.route import GateRules
from signalyard_router.rules.units import MINUTE, SECOND, Rate
from signalyard_router.testing.disk import FaultyDisk
from signalyard_router.testing.shared_log import MemoryServer

RACES = int(os.environ.get("RACES", "3000"))
AT_ONCE = 20

halt = Order(action="halt", by="me", why="because")


def written(replica):
    lines = read(replica.world.disk, replica.settings.folder, Tail())
    return [line.record for line in lines if isinstance(line.record, DecisionRecord)]


def state(replica):
    """What a replica's gate knows; the lines that others' records have in its own segments are its own."""
    found = replica.journal._gate.snapshot()
    return found.keys, found.instruments, found.signals, found.levers, found.throttled, found.plans, found.recent


def test_of_two_replicas_that_race_on_one_key_exactly_one_emits():
    async def scenario(sim):
        server, one, two = await replicas(sim, "one", "two")

        async def commit(replica, number, symbol):
            await asyncio.sleep(sim.rng.choice([0, 0, 0.0001, 0.0003]))
            (decision,) = await replica.commit(signal(number, symbol=symbol))
            return decision

        for first in range(0, RACES, AT_ONCE):
            races = range(first, first + AT_ONCE)
            made = [commit(replica, 2 * n + k, f"I{n}.X") for n in races for k, replica in enumerate((one, two))]
            decisions = await asyncio.gather(*made)
            for left, right in zip(decisions[::2], decisions[1::2], strict=True):
                winner, loser = (left, right) if left.signal else (right, left)
                assert (winner.outcome, loser.outcome) == ("emitted", "suppressed")
                assert (loser.reason, loser.duplicate_of) in (
                    ("duplicate", winner.signal.signal_id),
                    ("out_of_order", None),
                )
        assert len(server.signals) == len({(d.route, d.symbol) for d in one.records if d.signal_id}) == RACES
        conflicts = [replica.value("signalyard_log_conflicts_total") for replica in (one, two)]
        assert min(conflicts) > RACES / AT_ONCE / 10
        while one.journal.place != two.journal.place:  # noqa: ASYNC110 -- the last entries are on their way to one of them
            await asyncio.sleep(0.001)
        assert state(one) == state(two)

    run(scenario)


def test_the_same_proposal_at_two_replicas_is_one_decision():
    async def scenario(sim):
        server, one, two = await replicas(sim, "one", "two")
        left, right = await asyncio.gather(one.commit(signal(1)), two.commit(signal(1)))
        assert left == right
        assert left[0].outcome == "emitted"
        assert two.journal.settled(signal(1).proposal_id) == left[0]
        assert len(server.signals) == 1

    run(scenario)


def test_the_window_the_order_and_the_count_are_everybodys():
    async def scenario(sim):
        _, one, two = await replicas(sim, "one", "two")
        rules = GateRules(window=5 * SECOND, valid_for=SECOND, signals=Rate(3, MINUTE))
        said = []
        for number, (replica, direction) in enumerate(
            [(one, "long"), (two, "long"), (two, "short"), (one, "long"), (two, "short"), (one, "flat")]
        ):
            (decision,) = await replica.commit(signal(number, direction, rules=rules))
            said.append(decision.reason or (decision.signal.seq, decision.signal.prev_seq))
        assert said == [(1, 0), "duplicate", (2, 1), (3, 2), "rate_limited", (4, 3)]
        assert one.journal.latches() == two.journal.latches() == [("r", None)]
        (late,) = await one.commit(signal(99, "long", ts_event=1))
        assert late.reason == "out_of_order"

    run(scenario)


def test_hysteresis_starts_from_what_the_newest_decision_left_wherever_it_was_made():
    from signalyard_router.rules.route import Filters, Mapping

    mapping = Mapping(
        long_enter=0.6, long_exit=0.5, short_enter=0.2, short_exit=0.3, flat_between=False, position_max=None
    )
    filters = Filters(directions=frozenset(Direction), min_confidence=None)
    rules = GateRules(window=0, valid_for=SECOND, mapping=mapping, filters=filters)

    def scored(number, score):
        proposal = signal(number, symbol="rb.X", rules=rules)
        proposal.direction = None
        proposal.answer = Answer(score, 0.75, "m", "7", "sha256:7", "stable", False)
        return proposal

    async def scenario(sim):
        _, one, two = await replicas(sim, "one", "two")
        # 0.55 means long where long is held, and nothing where it is not; both replicas settle at once, so one settles twice.
        for number in range(0, 300, 3):
            score = 0.7 if number % 2 else 0.4
            answers = await asyncio.gather(one.commit(scored(number, score)), two.commit(scored(number + 1, 0.55)))
            assert {decision.outcome for answer in answers for decision in answer} <= {
                "emitted",
                "abstained",
                "suppressed",
            }
        held = None
        for record in written(one):
            assert record.held == held or record.reason == "out_of_order"
            expected = "long" if record.score >= (0.5 if record.held == "long" else 0.6) else None
            assert record.direction == expected
            assert (record.reason == "no_direction") == (expected is None) or record.reason == "out_of_order"
            if record.reason != "out_of_order":
                held = record.direction
        assert one.value("signalyard_log_conflicts_total") + two.value("signalyard_log_conflicts_total") > 10

    run(scenario)


def test_a_halt_at_one_replica_stops_the_others_and_has_one_name():
    async def scenario(sim):
        _, one, two = await replicas(sim, "one", "two")
        heard = []
        two.journal.on_change = heard.append
        lever = await one.journal.pull(halt)
        (decision,) = await two.commit(signal(1))
        assert decision.reason == "halted"
        assert [held.id for held in two.journal.levers] == [lever.id]
        assert heard == [False]
        again = await two.journal.pull(halt)
        assert again.id != lever.id
        await two.journal.pull(Order(action="resume", by="me", why="over", lever=lever.id))
        await two.journal.pull(Order(action="resume", by="me", why="over", lever=again.id))
        (decision,) = await one.commit(signal(2))
        assert decision.outcome == "emitted"

    run(scenario)


def test_a_halt_is_heard_of_without_a_commit_and_without_asking():
    async def scenario(sim):
        _, one, two = await replicas(sim, "one", "two")
        await one.journal.pull(halt)
        await asyncio.sleep(0.001)
        assert [lever.action for lever in two.journal.levers] == ["halt"]

    run(scenario)


def test_documents_that_two_replicas_take_at_once_have_one_generation():
    async def scenario(sim):
        _, one, two = await replicas(sim, "one", "two")
        heard = []
        two.journal.on_change = heard.append
        for revision in range(1, 6):
            pair = (document(deadline=f"{90 + revision}ms"), "r.yaml")
            (left,), (right,) = await asyncio.gather(one.journal.accept([pair]), two.journal.accept([pair]))
            assert (left.generation, right.generation) == (revision, revision)
        assert await one.journal.accept([]) == []
        await asyncio.sleep(0.001)
        assert two.journal.documents() == two.journal.in_force() == []
        assert heard[-1] is True
        await one.journal.accept([(document(), "r.yaml")])
        await asyncio.sleep(0.001)
        (route,) = two.journal.in_force()
        assert (route.name, route.generation) == ("r", 7)
        (old,) = await two.commit(signal(1, generation=6))
        assert old.reason == "superseded"

    run(scenario)


def test_a_step_of_a_plan_is_taken_once():
    async def scenario(sim):
        _, one, two = await replicas(sim, "one", "two")
        step = Progress(plan="p", step=0, state="running", canary=500, at=0, why="begins")
        taken = await asyncio.gather(one.journal.step("r", step, {}), two.journal.step("r", step, {}))
        assert sorted(taken) == [False, True]
        back = Progress(plan="p", step=0, state="back", canary=0, at=0, why="bad")
        on = Progress(plan="p", step=1, state="running", canary=1000, at=0, why="good")
        taken = await asyncio.gather(one.journal.step("r", back, {}), two.journal.step("r", on, {}))
        assert sorted(taken) == [False, True]
        assert one.journal.plans["r"].state == two.journal.plans["r"].state == ("back" if taken[0] else "running")

    run(scenario)


def test_each_has_what_it_decided_whole_and_what_others_decided_without_input():
    async def scenario(sim):
        _, one, two = await replicas(sim, "one", "two")
        await one.commit(signal(1, symbol="A.X"))
        await two.commit(signal(2, symbol="B.X"))
        await asyncio.sleep(0.001)
        for replica in (one, two):
            await replica.close()
            first, second = written(replica)
            assert [record.replica for record in (first, second)] == ["one", "two"]
            assert [record.input is not None for record in (first, second)] == [
                record.replica == replica.name for record in (first, second)
            ]
            (verified,) = await verify(replica.world.disk, "j")
            assert verified.kinds["decision"] == 2

    run(scenario)


def test_a_replica_that_loses_every_race_gets_a_turn():
    async def scenario(sim):
        _, near, far = await replicas(sim, "near", "far")
        far.log._pause = lambda: 0.002  # others append some twenty times while it asks once
        done = asyncio.Event()

        async def hurry():
            number = 10_000
            while not done.is_set():
                number += 1
                await near.commit(signal(number, symbol=f"N{number}.X"))

        hurrying = asyncio.create_task(hurry())
        for number in range(20):
            before = far.log.appends
            (decision,) = await far.commit(signal(number, symbol=f"F{number}.X"))
            assert decision.outcome == "emitted"
            assert far.log.appends - before <= 6
        done.set()
        await hurrying

    run(scenario)


# What goes wrong ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_lost_answer_is_found_out_and_nothing_is_sent_twice(seed):
    async def scenario(sim):
        server, one, two = await replicas(sim, "one", "two")
        one.log.lose_replies = 1
        answers = await asyncio.gather(one.commit(signal(1, symbol="A.X")), two.commit(signal(2, symbol="B.X")))
        assert [decision.outcome for answer in answers for decision in answer] == ["emitted", "emitted"]
        assert len(server.signals) == 2
        (again,) = await one.commit(signal(1, symbol="A.X"))
        assert again == answers[0][0]
        await asyncio.sleep(0.01)
        assert state(one) == state(two)
        await one.close()
        (record,) = [record for record in written(one) if record.symbol == "A.X"]
        assert record.input is not None

    run(scenario, seed)


def test_a_lost_answer_and_then_no_log_is_in_doubt_until_the_log_is_back():
    async def scenario(sim):
        server, one, _ = await replicas(sim, "one", "two")
        one.log.lose_replies = 1
        committing = asyncio.ensure_future(one.commit(signal(1)))
        await asyncio.sleep(0)
        while one.log.lose_replies:  # noqa: ASYNC110 -- a count
            await asyncio.sleep(0.00001)
        server.away = True
        with pytest.raises(JournalInDoubt):
            await committing
        with pytest.raises(RouterError, match="is not reached") as refused:
            await one.commit(signal(2))
        assert not isinstance(refused.value, JournalInDoubt)
        assert not one.journal.available
        server.away = False
        await asyncio.wait_for(one.journal.joined.wait(), 5)
        (decision,) = await one.commit(signal(1))
        assert decision.outcome == "emitted"
        assert len(server.signals) == 1
        assert one.journal.available
        await one.close()
        assert [record.input is not None for record in written(one)] == [True]

    run(scenario)


def test_behind_a_commit_without_an_answer_others_are_refused_for_certain():
    async def scenario(sim):
        server, one = await replicas(sim, "one", patience_seconds=0.02)
        one.log.hang = True
        first = one.journal.commit([signal(1, symbol="A.X")])
        await asyncio.sleep(0.005)
        began = sim.loop.now
        second = one.journal.commit([signal(2, symbol="B.X")])
        with pytest.raises(RouterError, match="does not answer") as refused:
            await second
        assert not isinstance(refused.value, JournalInDoubt)
        assert sim.loop.now - began <= 20_000_000
        with pytest.raises(RouterError, match="does not answer"):
            one.journal.commit([signal(3, symbol="C.X")])
        assert not first.done()
        one.log.hang = False
        server.disconnect()
        assert [settled.decision.outcome for settled in await first] == ["emitted"]
        assert [record.symbol for record in one.records] == ["A.X"]

    run(scenario)


def test_after_an_emptied_server_nothing_leaves_for_the_longest_window_and_halts_hold():
    async def scenario(sim):
        server, one, two = await replicas(sim, "one", "two")
        await one.journal.accept([(document(window="7s"), "r.yaml")])
        await asyncio.sleep(10)
        (before,) = await one.commit(signal(1, symbol="A.X", generation=1))
        await two.journal.pull(Order(action="halt", by="me", why="x", symbol="H.X"))
        epoch = one.journal.epoch
        server.forget()
        with pytest.raises(RouterError):
            await one.commit(signal(2, generation=1))
        await asyncio.gather(*(asyncio.wait_for(each.journal.joined.wait(), 10) for each in (one, two)))
        began = server.held_from
        assert one.journal.epoch == two.journal.epoch > epoch
        (held,) = await two.commit(signal(3, symbol="B.X", generation=1))
        assert (held.outcome, held.reason, held.signal) == ("suppressed", "journal_recovering", None)
        (halted,) = await one.commit(signal(4, symbol="H.X", generation=1))
        assert halted.reason == "halted"
        (stored,) = await two.commit(signal(1, symbol="A.X", generation=1))
        assert stored == before
        await asyncio.sleep((began + 7 * SECOND - one.journal.now) / 1e9 - 0.01)
        (held,) = await one.commit(signal(5, symbol="B.X", generation=1))
        assert held.reason == "journal_recovering"
        await asyncio.sleep(0.01)
        (free,) = await one.commit(signal(6, symbol="B.X", generation=1))
        assert free.signal.epoch == one.journal.epoch
        assert [sum(r.value("signalyard_log_epochs_total", by=by) for r in (one, two)) for by in ("own", "other")] == [
            2,
            1,
        ]
        assert state(one)[:4] == state(two)[:4]

    run(scenario)


def test_who_knew_most_of_a_lost_log_begins_the_new_one():
    async def scenario(sim):
        server, one, two = await replicas(sim, "one", "two")
        await asyncio.sleep(10)
        await one.commit(signal(1, symbol="A.X"))
        two.log._pause = lambda: 0.05  # it hears late
        (emitted,) = await one.commit(signal(2, symbol="B.X"))
        assert two.journal.place.position < one.journal.place.position
        server.lose(1)
        two.log._pause = lambda: 0.0001
        await asyncio.gather(*(asyncio.wait_for(each.journal.joined.wait(), 10) for each in (one, two)))
        assert two.journal.settled(signal(2).proposal_id) == emitted
        assert two.journal.place == one.journal.place
        (again,) = await two.commit(signal(2, symbol="B.X"))
        assert again == emitted

    run(scenario)


def test_a_new_replica_knows_what_the_others_know():
    async def scenario(sim):
        server, one, two = await replicas(sim, "one", "two", snapshot_every=16, remember=40)
        for number in range(100):
            await (one, two)[number % 2].commit(
                signal(number, "long" if number % 3 else "short", symbol=f"I{number % 7}.X")
            )
        await one.journal.pull(halt)
        await asyncio.sleep(0.01)
        assert len(server.log) < 80
        three = await SimulatedReplica(sim, server, "three", remember=40).start()
        assert state(three) == state(one)
        assert three.journal.place == one.journal.place
        (repeated,) = await three.commit(signal(99, "short", symbol="I1.X"))
        assert repeated == one.journal.settled(signal(99).proposal_id)
        assert not three.journal.recovering

    run(scenario)


def test_a_replica_that_was_away_catches_up_and_one_that_starts_again_goes_on():
    async def scenario(sim):
        server, one, two = await replicas(sim, "one", "two")
        for number in range(10):
            await one.commit(signal(number, symbol=f"I{number}.X"))
        await two.close()
        for number in range(10, 20):
            await one.commit(signal(number, symbol=f"I{number}.X"))
        again = await SimulatedReplica(sim, server, "two", disk=two.disk).start()
        assert state(again) == state(one)
        (decision,) = await again.commit(signal(30, symbol="I15.X"))
        assert decision.reason == "duplicate"

    run(scenario)


def test_when_redis_and_every_process_are_gone_the_own_segments_keep_halts_and_signals():
    async def scenario(sim):
        _, one = await replicas(sim, "one")
        await one.journal.accept([(document(), "r.yaml")])
        await asyncio.sleep(10)
        (before,) = await one.commit(signal(1, generation=1))
        lever = await one.journal.pull(halt)
        await one.close()
        again = await SimulatedReplica(sim, MemoryServer(), "one", disk=one.disk).start()
        assert [held.id for held in again.journal.levers] == [lever.id]
        assert again.journal.recovering
        assert [route.name for route in again.journal.in_force()] == ["r"]
        (stored,) = await again.commit(signal(1, generation=1))
        assert stored == before

    run(scenario)


def test_a_folder_that_cannot_be_written_stops_the_replica_and_loses_no_record(tmp_path):
    async def scenario(sim):
        server = MemoryServer()
        disk = FaultyDisk()
        one = SimulatedReplica(sim, server, "one", real=(disk, tmp_path / "one"))
        await one.start()
        two = await SimulatedReplica(sim, server, "two").start()
        await one.commit(signal(1, symbol="A.X"))
        disk.room = 100
        (settled,) = await one.commit(signal(2, symbol="B.X"))
        assert settled.outcome == "emitted"  # it is in the log, and that counts
        with pytest.raises(RouterError, match="records of before wait"):
            await one.commit(signal(3, symbol="C.X"))
        assert not one.journal.available
        await two.commit(signal(4, symbol="D.X"))
        await asyncio.sleep(0.01)
        one.journal.try_again()
        assert not one.journal.available
        disk.room = None
        one.journal.try_again()
        assert one.journal.available
        (settled,) = await one.commit(signal(5, symbol="E.X"))
        assert settled.outcome == "emitted"
        await one.close()
        found = [(record.symbol, record.input is not None) for record in written(one)]
        assert found == [("A.X", True), ("B.X", True), ("D.X", False), ("E.X", True)]
        (verified,) = await verify(disk, str(tmp_path / "one"))
        assert verified.torn_bytes == 0

    run(scenario)


def test_the_other_clock_and_a_durability_of_ones_own_are_refused():
    async def scenario(sim):
        server, _ = await replicas(sim, "one")
        with pytest.raises(CallerError, match="kept by the wall clock") as refused:
            await SimulatedReplica(sim, server, "two", clock="event").start()
        assert refused.value.details.pointer == "/clock"
        with pytest.raises(CallerError, match="appendfsync"):
            SimulatedReplica(sim, server, "three", durability="fsync")

    run(scenario)


def test_without_a_log_a_start_ends_with_the_reason():
    async def scenario(sim):
        server = MemoryServer()
        server.away = True
        with pytest.raises(RouterError, match=r"could not be joined within 3 s.*the log is away"):
            await SimulatedReplica(sim, server, "one", start_seconds=3).start()
        assert sim.loop.now == 3 * SECOND

    run(scenario)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_nothing_that_left_is_repeated_and_all_agree(seed):
    """Faults at random; from outside: what a caller was told stands in the stream of signals, once."""

    async def scenario(sim):
        rng = sim.rng
        server, *desk = await replicas(sim, "one", "two", "three", snapshot_every=8, doubt_seconds=0.3)
        await desk[0].journal.accept([(document(window="5s"), "r.yaml")])
        await asyncio.sleep(6)
        told = {}

        async def ask(replica, number):
            symbol, direction = f"I{rng.randrange(4)}.X", rng.choice(["long", "short", "flat"])
            try:
                (decision,) = await replica.commit(signal(number, direction, symbol=symbol, generation=1))
            except RouterError:
                return
            told[decision.proposal_id] = decision

        number = 0
        for _ in range(60):
            what = rng.random()
            if what < 0.08:
                rng.choice(desk).log.lose_replies += 1
            elif what < 0.12:
                server.disconnect()
            elif what < 0.15:
                server.away = not server.away
            burst = []
            for _ in range(rng.randint(1, 6)):
                number += 1
                burst.append(ask(rng.choice(desk), number))
            await asyncio.gather(*burst)
            await asyncio.sleep(rng.choice([0, 0.001, 0.3, 2]))
        server.away = False
        for replica in desk:
            replica.log.lose_replies = 0
        await asyncio.gather(*(asyncio.wait_for(replica.journal.joined.wait(), 20) for replica in desk))
        await asyncio.sleep(1)
        left = [msgspec.json.decode(each)["signal_id"] for each in server.signals]
        assert len(left) == len(set(left))
        assert {decision.signal.signal_id for decision in told.values() if decision.signal} <= set(left)
        for replica in desk[1:]:
            assert state(replica)[:4] == state(desk[0])[:4]
        # From outside once more: no two signals of one direction on an instrument within the window.
        last = {}
        for each in map(msgspec.json.decode, server.signals):
            before = last.get(each["symbol"])
            if before is not None and before["signal"] == each["signal"]:
                assert each["ts_init"] - before["ts_init"] >= 5 * SECOND
            assert before is None or each["prev_seq"] == before["seq"]
            last[each["symbol"]] = each
        for replica in desk:
            await replica.close()
            await verify(replica.world.disk, "j")

    run(scenario, seed)


def test_an_answer_that_is_read_before_the_loops_next_turn_finds_the_lines_written():
    """A loop looks at its sockets before it comes to what was called soon."""

    async def scenario(sim):
        server, one = await replicas(sim, "one")

        def append(place, entry, signals, *, insist):
            loop = asyncio.get_running_loop()
            answer = loop.create_future()

            def read():
                became = server.append(one.log, place, entry, signals, insist)
                one.journal.took(place.epoch, entry)
                answer.set_result(became)

            loop.call_soon(read)
            return answer

        one.log.append = append
        for number in range(3):
            (decision,) = await one.commit(signal(number, symbol=f"I{number}.X"))
            assert decision.signal
        assert [record.proposal_id for record in written(one)] == [f"{number:032x}" for number in range(3)]
        assert all(record.input is not None for record in written(one))

    run(scenario)


@pytest.mark.parametrize("early", [False, True])
def test_a_record_that_cannot_be_written_whole_is_written_as_the_others_have_it(early, caplog):
    """It is on its way to the log by then, and counts."""

    async def scenario(sim):
        _, one = await replicas(sim, "one")
        if early:
            # the answer is there before the lines are made
            one.journal._prepare, prepare = lambda sent: prepare(sent) if sent.landed else None, one.journal._prepare
        (decision,) = await one.commit(signal(1, input=Input(columns_json(("a",)), (object(),))))
        assert decision.signal
        (record,) = written(one)
        assert (record.proposal_id, record.input) == (decision.proposal_id, None)
        (decision,) = await one.commit(signal(2, symbol="other.X"))
        assert written(one)[1].input is not None

    run(scenario)
    assert "event=record_unwritable" in caplog.text
