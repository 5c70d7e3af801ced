"""The local journal and replicas on a real server are twins: whatever is asked of them, in whatever order it came to the log, both make
the same of it."""

import asyncio
import itertools
import os
import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from prometheus_client import CollectorRegistry
from tests.parts.redis.replica import RedisReplica

from signalyard.words import Direction, Outcome
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.replicated import ReplicatedJournal
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.rules.documents import parse_document, parse_group
from signalyard_router.rules.levers import Order
from signalyard_router.rules.plan import Progress
from signalyard_router.rules.proposal import Answer, Proposal
from signalyard_router.rules.record import DecisionRecord
from signalyard_router.rules.route import compile_route
from signalyard_router.rules.units import MINUTE, SECOND
from signalyard_router.testing.world import ManualWorld

pytestmark = pytest.mark.parts

_prefixes = itertools.count()

WINDOWS = st.sampled_from([0, 1, SECOND, 2 * SECOND, 5 * SECOND, 30 * SECOND, 61 * MINUTE])
ASKED = st.tuples(
    st.sampled_from(["A.X", "B.X"]),
    st.sampled_from(["r1", "r2"]),
    st.sampled_from([0.05, 0.15, 0.25, 0.5, 0.55, 0.65, 0.9, "flat", "no_answer"]),
    st.sampled_from([0.52, 0.6, 0.9]),
    st.sampled_from([-1, 0, 1, 1, 1]),
    st.sampled_from([False] * 9 + [True]),
    st.integers(0, 2),
)


def route(name, mode, window):
    return parse_document(
        {
            "apiVersion": "signalyard.io/v1alpha1",
            "kind": "SignalRoute",
            "metadata": {"name": name},
            "spec": {
                "model": "m",
                "mode": mode,
                "instruments": ["*"],
                "tracks": [{"name": "stable", "version": "7", "weight": 100, "endpoint": {"service": "a", "port": 1}}],
                "mapping": {
                    "long": {"enter": 0.6, "exit": 0.52},
                    "short": {"enter": 0.2, "exit": 0.3},
                    "position": {"scale": "linear", "max": 1.0},
                },
                "filters": {"minConfidence": 0.55},
                "dedupe": {"window": window},
                "limits": {"signals": "3/min", "flips": "2/min"},
            },
        },
        f"{name}.yaml",
    )


def group(conflict):
    return parse_group(
        {
            "apiVersion": "signalyard.io/v1alpha1",
            "kind": "SignalGroup",
            "metadata": {"name": "g"},
            "spec": {
                "routes": ["r1", "r2"],
                "conflict": conflict,
                "dedupe": {"window": "2s"},
                "limits": {"signals": "7/min"},
            },
        },
        "g.yaml",
    )


class Twins(RuleBasedStateMachine):
    """One local journal, and two replicas. Both replicas are asked at once; the local one afterwards, in the order of the log."""

    url = ""
    kind = ReplicatedJournal

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.number = 0
        self.ts_event = 1_000
        self.names = {}

    def run(self, coroutine):
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 60))

    @initialize()
    def begin(self):
        prefix = f"twins{next(_prefixes)}"
        self.worlds = [ManualWorld() for _ in range(3)]
        self.local = LocalJournal(
            self.worlds[0], JournalSettings(folder=str(self.folder / "local")), CollectorRegistry(), "test"
        )
        self.records = []
        self.local.subscribe(self.records.extend)
        for number, world in enumerate(self.worlds):
            world._drawn = 1_000_000 * number  # what each draws is its own
        self.replicas = [
            RedisReplica(
                self.url,
                name,
                self.folder / name,
                world=world,
                prefix=prefix,
                kind=self.kind,
                election_seconds=0.001,
                look_seconds=5,
            )
            for name, world in zip(("one", "two"), self.worlds[1:], strict=True)
        ]
        for replica in self.replicas:
            self.run(replica.start())
        self.wait(61 * MINUTE)  # whatever the longest window is, it is over
        self.documents = {}
        self.place([("r1", "live", "5s"), ("r2", "live", "1s")], None)

    def wait(self, nanoseconds):
        for world in self.worlds:
            world.clock.advance(nanoseconds)

    @rule(
        routes=st.lists(
            st.tuples(st.sampled_from(["r1", "r2"]), st.sampled_from(["live", "paper"]), st.sampled_from(["1s", "5s"])),
            unique_by=lambda spec: spec[0],
        ),
        conflict=st.sampled_from([None, "priority", "agree", "independent"]),
    )
    def place(self, routes, conflict):
        wanted = [(route(*spec), f"{spec[0]}.yaml") for spec in routes]
        wanted += [(group(conflict), "g.yaml")] if conflict else []
        local = self.run(self.local.accept(wanted))
        at_once = self.run(self._both(lambda replica: replica.journal.accept(wanted)))
        for made in at_once:
            assert [(each.name, each.generation) for each in made] == [(each.name, each.generation) for each in local]
        self.documents = {each.name: each for each in local}

    async def _both(self, ask):
        return await asyncio.gather(*(ask(replica) for replica in self.replicas))

    def proposal(self, asked):
        symbol, name, score, confidence, step, late, _ = asked
        self.number += 1
        self.ts_event += step
        compiled = self.documents.get(name) or compile_route(route(name, "live", "5s"), place="")
        proposal = Proposal(
            proposal_id=f"{self.number:032x}",
            symbol=symbol,
            ts_event=self.ts_event,
            ts_recv=1,
            received=0,
            route=name,
            revision=compiled.revision,
            generation=compiled.generation,
            assigned="7",
            commit_by=0 if late else 2**62,
            rules=msgspec.structs.replace(compiled.gate, flats_per_minute=2),
        )
        if score == "flat":
            proposal.direction, proposal.reduce_only = Direction.FLAT, True
        elif score == "no_answer":
            proposal.abstain = "no_answer"
        else:
            proposal.answer = Answer(score, confidence, "m", "7", "sha256:7", "stable", False)
        return proposal

    @rule(pause=WINDOWS, burst=st.lists(ASKED, min_size=1, max_size=5))
    def commit(self, pause, burst):
        self.wait(pause)
        fresh = [self.proposal(asked) for asked in burst]
        again = {proposal.proposal_id: msgspec.structs.replace(proposal) for proposal in fresh}
        seen, before = len(self.replicas[0].records), len(self.records)

        async def at_once():
            return await asyncio.gather(
                *(
                    self.replicas[place % 2].commit(msgspec.structs.replace(proposal))
                    for proposal, (*_, place) in zip(fresh, burst, strict=True)
                )
            )

        self.run(at_once())
        self.run(self._heard())
        order = [record.proposal_id for record in self.replicas[0].records[seen:]]
        assert sorted(order) == sorted(again)
        for name in order:
            self.run(self._locally(again[name]))
        for ours, theirs in zip(self.records[before:], self.replicas[0].records[seen:], strict=True):
            assert plain(ours) == plain(theirs)

    @rule(name=st.sampled_from(["r1", "r2"]), at=st.integers(0, 1))
    def storm(self, name, at):
        """More signals than a minute may have."""
        for score in (0.9, 0.05, 0.9):
            self.commit(5 * SECOND, [(symbol, name, score, 0.9, 1, False, at) for symbol in ("A.X", "B.X")])

    async def _locally(self, proposal):
        return await self.local.commit([proposal])

    async def _heard(self):
        """Both replicas have all of the log."""
        while self.replicas[0].journal.place != self.replicas[1].journal.place:  # noqa: ASYNC110 -- two places
            await asyncio.sleep(0.001)

    @rule(
        action=st.sampled_from(["halt", "pause", "weight"]),
        place=st.sampled_from([None, "r1", "r2"]),
        symbol=st.sampled_from([None, "A.X"]),
        at=st.integers(0, 1),
    )
    def pull(self, action, place, symbol, at):
        more = {"canary": 5.0, "route": place or "r1"} if action == "weight" else {"route": place, "symbol": symbol}
        self.order(Order(action=action, by="me", why="because", **more), at)

    @precondition(lambda self: self.names)
    @rule(at=st.integers(0, 1), which=st.integers(0, 5))
    def resume(self, at, which):
        ours = sorted(self.names)[which % len(self.names)]
        theirs = self.names.pop(ours)
        self.order(Order(action="resume", by="me", why="over", lever=ours), at, theirs)

    @rule(latch=st.sampled_from(["throttle", "flips"]), place=st.sampled_from(["r1", "r2"]), at=st.integers(0, 1))
    def reset(self, latch, place, at):
        symbol = "A.X" if latch == "flips" else None
        self.order(Order(action="reset", by="me", why="seen", route=place, latch=latch, symbol=symbol), at)

    @rule(state=st.sampled_from(["running", "back"]), step=st.integers(0, 2), at=st.integers(0, 1))
    def step(self, state, step, at):
        progress = Progress(plan="p", step=step, state=state, canary=500, at=0, why="enough")
        local = self.run(self.local.step("r1", progress, {}))
        self.run(self._heard())  # a step is taken from where the plan stood as this replica knew it
        assert self.run(self.replicas[at].journal.step("r1", progress, {})) == local

    def order(self, order, at, theirs=None):
        ours = self.run(self.local.pull(order))
        their = msgspec.structs.replace(order, lever=theirs) if theirs else order
        made = self.run(self.replicas[at].journal.pull(their))
        if order.action in ("halt", "pause"):
            self.names[ours.id] = made.id

    def teardown(self):
        try:
            self.agree()
        finally:
            for replica in getattr(self, "replicas", []):
                self.run(replica.close())
            if hasattr(self, "local"):
                self.run(self.local.close())
            self.loop.close()
            shutil.rmtree(self.folder)

    def agree(self):
        """What can be asked of the three at the end."""
        if not hasattr(self, "replicas"):
            return
        self.run(self._heard())
        for replica in self.replicas:
            journal = replica.journal
            assert journal.latches() == self.local.latches()
            assert journal.groups() == self.local.groups()
            assert journal.documents() == self.local.documents()
            assert [(each.action, each.route, each.symbol, each.at) for each in journal.levers] == [
                (each.action, each.route, each.symbol, each.at) for each in self.local.levers
            ]
            steps = [
                {name: (p.step, p.state, p.canary, p.at) for name, p in each.plans.items()}
                for each in (journal, self.local)
            ]
            assert steps[0] == steps[1]
            told = [
                [msgspec.structs.replace(opinion, epoch=0) for opinion in each.opinions()]
                for each in (journal, self.local)
            ]
            assert told[0] == told[1]


def plain(record):
    """A record without what is each journal's own."""
    return msgspec.structs.replace(
        record, seq=0, prev="", epoch=0, replica="", elapsed_us=0, input=None, steps=(), generation=0
    )


def test_both_journals_make_the_same_of_everything(redis_server):
    Twins.url = redis_server.url
    redis_server.ask("CONFIG", "SET", "appendfsync", "no")
    run_state_machine_as_test(
        Twins,
        settings=settings(
            max_examples=int(os.environ.get("TWINS", "25")),
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


class Broken(ReplicatedJournal):
    """A journal that folds what another replica appended in a way of its own."""

    foreign = False

    def took(self, epoch, entry):
        self.foreign = not self.doubts(entry.token)
        try:
            super().took(epoch, entry)
        finally:
            self.foreign = False

    def _apply(self, record, *decision):
        return self.fold(record) if self.foreign else super()._apply(record, *decision)

    def fold(self, record):
        return super()._apply(record)


class Twice(Broken):
    """An entry is folded twice."""

    def fold(self, record):
        super().fold(record)
        return super().fold(record)


class Unlatched(Broken):
    """That a limit latched is forgotten."""

    def fold(self, record):
        throttled = self._gate._throttled
        undo = super().fold(record)
        if isinstance(record, DecisionRecord):
            self._gate._throttled = throttled
        return undo


class Event(Broken):
    """Windows are counted from the time of the snapshot, not from that of the decision."""

    def fold(self, record):
        emitted = isinstance(record, DecisionRecord) and record.outcome is Outcome.EMITTED
        return super().fold(msgspec.structs.replace(record, t=record.ts_event) if emitted else record)


@pytest.mark.parametrize("kind", [Twice, Unlatched, Event])
def test_a_journal_that_folds_wrongly_is_found_out(redis_server, kind):
    redis_server.ask("CONFIG", "SET", "appendfsync", "no")
    broken = type("BrokenTwins", (Twins,), {"url": redis_server.url, "kind": kind})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            broken,
            settings=settings(
                max_examples=100,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                print_blob=False,
            ),
        )
