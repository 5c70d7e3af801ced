"""Levers, documents that change, and who decides for an instrument meanwhile: rules 12 and 14."""

import asyncio
import json
from contextlib import asynccontextmanager

import msgspec
import pytest
import yaml
from prometheus_client import CollectorRegistry

from signalyard import Outcome, Problem, Reason, SignalyardError, Snapshot, Track
from signalyard.profile import Feature, FeatureSchema
from signalyard_router.adapters.files.store import FileRouteStore
from signalyard_router.control.board import Board
from signalyard_router.control.delivery import Delivery
from signalyard_router.control.documents import Documents
from signalyard_router.control.rounds import Rounds
from signalyard_router.control.standing import StandingCollector
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.router import Router
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.levers import Lever, Order, base, lapsed
from signalyard_router.rules.route import compile_route
from signalyard_router.rules.units import MILLISECOND, MINUTE
from signalyard_router.settings import RouterSettings
from signalyard_router.testing.disk import FaultyDisk
from signalyard_router.testing.upstream import FakeUpstream
from signalyard_router.testing.world import ManualWorld

NAME = "rb2410.SHFE"
TEXT = """
apiVersion: signalyard.io/v1alpha1
kind: SignalRoute
metadata: {name: rb}
spec:
  model: rb
  instruments: ["rb*.SHFE"]
  tracks:
    - {name: stable,  version: "7", weight: 100, endpoint: {service: a, port: 1}}
    - {name: canary,  version: "8", weight: 0, endpoint: {service: b, port: 1}}
    - {name: standby, version: "6", endpoint: {service: c, port: 1}}
  mapping: {long: {enter: 0.6}, short: {enter: 0.4}, otherwise: flat}
  dedupe: {window: 1ms}
"""


class Desk:
    def __init__(self, folder, text=TEXT):
        self.folder = folder
        self.routes = folder / "routes"
        self.routes.mkdir(exist_ok=True)
        self.write(text)
        self.disk = FaultyDisk()
        self.world = ManualWorld(self.disk)
        self.upstream = FakeUpstream(FeatureSchema((Feature(name="p"),)), lambda row: row["p"])
        self.retargeted = 0
        self.upstream.retarget = self._retarget

    def _retarget(self, targets):
        self.retargeted += 1

    def write(self, text, name="rb.yaml"):
        (self.routes / name).write_text(text)

    async def open(self):
        self.registry = CollectorRegistry()
        self.journal = LocalJournal(self.world, JournalSettings(folder=str(self.folder / "journal")), self.registry)
        try:
            self.store = FileRouteStore(self.routes)
            self.documents = Documents(self.store, self.journal, self.registry)
            routes = await self.documents.first()
        except BaseException:
            await self.journal.close()
            raise
        self.router = Router(self.world, RouterSettings(), routes, self.journal, self.upstream, self.registry)
        self.registry.register(StandingCollector(self.router, self.journal))
        self.router.asked()
        self.board = Board(self.router, self.journal, self.upstream, self.documents)
        self.delivery = Delivery(self.router, self.journal, self.registry)
        self.journal.subscribe(self.delivery.observe)
        self.rounds = Rounds(self.store, self.documents, self.router, self.upstream, self.delivery)

    async def restart(self):
        await self.journal.close()
        await self.open()

    async def ask(self, p, symbol=NAME):
        self.world.clock.advance(10 * MILLISECOND)
        (decision,) = await self.router.predict(
            Snapshot(symbol=symbol, ts_event=self.world.clock.wall(), features={"p": p})
        )
        return decision

    async def pull(self, action, **more):
        return await self.board.pull(Order(action=action, by="ann", why="a test", **more))

    def records(self, kind):
        lines = [
            line
            for path in sorted((self.folder / "journal").glob("journal-*"))
            for line in path.read_text().splitlines()
        ]
        return [record for line in lines if (record := json.loads(line))["kind"] == kind]


@asynccontextmanager
async def desk(folder, text=TEXT):
    made = Desk(folder, text)
    await made.open()
    try:
        yield made
    finally:
        await made.journal.close()


def run(scenario, *args):
    async def main():
        async with desk(*args) as made:
            await scenario(made)

    asyncio.run(main())


def test_a_halt_is_recorded_binds_at_once_and_outlives_a_restart(tmp_path):
    async def scenario(desk):
        assert (await desk.ask(0.7)).outcome is Outcome.EMITTED
        halt = await desk.pull("halt", route="rb")
        assert (await desk.ask(0.3)).reason is Reason.HALTED
        assert (await desk.ask(0.5)).reason is Reason.HALTED  # exits, too
        await desk.restart()
        assert (await desk.ask(0.3)).reason is Reason.HALTED
        assert [lever.id for lever in desk.board.levers()] == [halt.id]
        desk.write(TEXT.replace("window: 1ms", "window: 2ms"))
        await desk.rounds.look()
        assert (await desk.ask(0.3)).reason is Reason.HALTED
        await desk.pull("resume", lever=halt.id)
        assert (await desk.ask(0.3)).outcome is Outcome.EMITTED
        assert [(r["action"], r["by"], r["why"]) for r in desk.records("lever")] == [
            ("halt", "ann", "a test"),
            ("resume", "ann", "a test"),
        ]

    run(scenario, tmp_path)


def test_a_request_under_way_is_bound_by_a_halt_pulled_before_its_commit(tmp_path):
    async def scenario(desk):
        desk.upstream.fail["7"] = "hang"
        asked = asyncio.ensure_future(desk.ask(0.7))
        await asyncio.sleep(0)
        await desk.pull("halt")
        desk.upstream.release()
        assert (await asked).reason is Reason.HALTED

    run(scenario, tmp_path)


def test_a_lever_that_cannot_be_recorded_is_not_in_force(tmp_path):
    async def scenario(desk):
        desk.disk.room = 0
        with pytest.raises(SignalyardError) as failed:
            await desk.pull("halt")
        assert failed.value.problem is Problem.JOURNAL_UNAVAILABLE
        assert desk.board.levers() == []
        desk.disk.room = None
        assert (await desk.ask(0.7)).outcome is Outcome.EMITTED

    run(scenario, tmp_path)


def test_a_weight_moves_instruments_when_they_are_flat(tmp_path):
    async def scenario(desk):
        assert (await desk.ask(0.7)).signal.version == "7"
        await desk.pull("weight", route="rb", canary=100.0)
        kept = (await desk.ask(0.3)).signal
        assert (kept.version, kept.handover) == ("7", False)  # its position is version 7's to close
        assert (await desk.ask(0.7, "rb9.SHFE")).signal.version == "8"  # flat from the beginning
        assert desk.router.status().routes[0].assignment == {NAME: Track.STABLE, "rb9.SHFE": Track.CANARY}
        assert (await desk.ask(0.5)).signal.version == "7"
        assert (await desk.ask(0.7)).signal.version == "8"
        await desk.restart()
        assert (await desk.ask(0.3)).signal.version == "8"

    run(scenario, tmp_path)


def test_with_handover_now_a_position_passes_at_once_and_says_so(tmp_path):
    async def scenario(desk):
        await desk.ask(0.7)
        await desk.pull("weight", route="rb", canary=100.0)
        signal = (await desk.ask(0.3)).signal
        assert (signal.version, signal.handover) == ("8", True)

    run(scenario, tmp_path, TEXT.replace("  model: rb\n", "  model: rb\n  handover: now\n"))


def test_a_failover_does_not_change_hands(tmp_path):
    async def scenario(desk):
        desk.upstream.fail["7"] = Problem.MODEL_TIMEOUT
        assert (await desk.ask(0.7)).signal.version == "6"
        desk.upstream.fail = {}
        signal = (await desk.ask(0.3)).signal
        assert (signal.version, signal.handover) == ("7", False)

    run(scenario, tmp_path)


def test_a_rollback_names_its_version_and_acts_now(tmp_path):
    async def scenario(desk):
        await desk.ask(0.7)
        with pytest.raises(SignalyardError) as refused:
            await desk.pull("rollback", route="rb", version="5")
        assert refused.value.pointer == "/version"
        lever = await desk.pull("rollback", route="rb", version="6")
        signal = (await desk.ask(0.3)).signal
        assert (signal.version, signal.track, signal.failover, signal.handover) == ("6", Track.STANDBY, False, True)
        assert desk.router.status().routes[0].rolled_back == "6"
        await desk.pull("end", lever=lever.id)
        assert desk.router.status().routes[0].override == ""

    run(scenario, tmp_path)


def test_a_rollback_to_a_version_that_never_answered_is_refused(tmp_path):
    async def scenario(desk):
        desk.upstream.unknown = {"6"}
        with pytest.raises(SignalyardError, match="has never answered"):
            await desk.pull("rollback", route="rb", version="6")

    run(scenario, tmp_path)


def test_a_weight_lever_ends_when_the_documents_weights_change(tmp_path):
    async def scenario(desk):
        await desk.pull("weight", route="rb", canary=100.0)
        desk.write(TEXT.replace("window: 1ms", "window: 2ms"))
        await desk.rounds.look()
        assert (await desk.ask(0.7)).signal.version == "8"  # another change leaves it alone
        desk.write(TEXT.replace("weight: 100", "weight: 90").replace("weight: 0", "weight: 10"))
        await desk.rounds.look()
        assert desk.router.status().routes[0].override == ""
        assert desk.router.table.routes["rb"].weights == {Track.STABLE: 9_000, Track.CANARY: 1_000}

    run(scenario, tmp_path)


def test_a_weight_may_end_by_itself(tmp_path):
    async def scenario(desk):
        await desk.pull("weight", route="rb", canary=100.0, expires_in=MINUTE)
        assert (await desk.ask(0.7, "rb1.SHFE")).signal.version == "8"
        desk.world.clock.advance(MINUTE)
        await desk.rounds.look()
        assert (await desk.ask(0.7, "rb2.SHFE")).signal.version == "7"

    run(scenario, tmp_path)


def test_a_promotion_takes_its_steps_in_order(tmp_path):
    async def scenario(desk):
        async def promote(version="8"):
            return await desk.board.promote("rb", version, "ann", "it is good")

        for version in ("6", "9"):
            with pytest.raises(SignalyardError) as refused:
                await promote(version)
            assert refused.value.problem is Problem.STEP_SKIPPED
        first = await promote()
        assert (first.done, first.next) == (["weight"], "standby")
        with pytest.raises(SignalyardError, match="must be ready as a standby"):
            await promote()
        desk.write(TEXT.replace('version: "6"', 'version: "7"'))
        await desk.rounds.look()
        # Another standby is what was asked for: the weight stays where it is.
        assert desk.router.table.routes["rb"].weights[Track.CANARY] == 10_000
        second = await promote()
        assert (second.done, second.next) == (["weight", "standby"], "stable")
        desk.write(
            TEXT.replace('version: "7"', 'version: "8"')
            .replace('version: "6"', 'version: "7"')
            .replace('    - {name: canary,  version: "8", weight: 0, endpoint: {service: b, port: 1}}\n', "")
        )
        await desk.rounds.look()
        assert (await promote()).next is None

    run(scenario, tmp_path)


def test_a_rollback_ends_where_its_version_goes_and_not_where_another_standby_comes(tmp_path):
    async def scenario(desk):
        await desk.pull("rollback", route="rb", version="6")
        more = '    - {name: standby, version: "5", endpoint: {service: d, port: 1}}\n  mapping'
        desk.write(TEXT.replace("  mapping", more))
        await desk.rounds.look()
        assert desk.router.table.routes["rb"].rolled_back.target.version == "6"
        desk.write(TEXT.replace('version: "6"', 'version: "5"'))
        await desk.rounds.look()
        assert desk.router.table.routes["rb"].rolled_back is None

    run(scenario, tmp_path)


def test_what_an_older_journal_says_a_weight_stands_against_still_holds():
    route = compile_route(parse_document(yaml.safe_load(TEXT), "test"))
    lever = Lever(id="l-1", action="weight", by="ann", why="x", at=1, route="rb", canary=5.0)
    before = "canary:8=0 stable:7=10000"
    assert base(route) == before
    for text, ended in (
        (before, False),
        (f"{before} standby:6", False),
        (f"{before} standby:5", False),
        ("stable:7=10000", True),
    ):
        assert lapsed(msgspec.structs.replace(lever, base=text), route, 2) is ended


@pytest.mark.parametrize(
    ("order", "pointer"),
    [
        ({"action": "halt", "route": "nope"}, "/route"),
        ({"action": "halt", "expires_in": 1}, "/expires_in"),
        ({"action": "halt", "canary": 5.0}, "/canary"),
        ({"action": "weight", "canary": 5.0}, "/route"),
        ({"action": "weight", "route": "rb"}, "/canary"),
        ({"action": "weight", "route": "rb", "canary": 101.0}, "/canary"),
        ({"action": "weight", "route": "rb", "canary": 0.001}, "/canary"),
        ({"action": "resume", "lever": "l-1"}, "/lever"),
        ({"action": "resume"}, "/lever"),
        ({"action": "end", "lever": "l-1"}, "/lever"),
        ({"action": "reset", "route": "rb"}, "/latch"),
        ({"action": "reset", "route": "rb", "latch": "flips"}, "/symbol"),
        ({"action": "reset", "route": "rb", "latch": "throttle", "symbol": NAME}, "/symbol"),
        ({"action": "pause", "expires_in": -1}, "/expires_in"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_by_its_field(tmp_path, order, pointer):
    async def scenario(desk):
        with pytest.raises(SignalyardError) as refused:
            await desk.pull(**order)
        assert refused.value.pointer == pointer
        assert desk.records("lever") == []

    run(scenario, tmp_path)


def test_documents_change_under_the_router_without_a_failed_request(tmp_path):
    async def scenario(desk):
        assert (await desk.ask(0.55)).outcome is Outcome.EMITTED  # flat
        desk.write(TEXT.replace("enter: 0.6", "enter: 0.55"))
        await desk.rounds.look()
        taken = desk.retargeted
        assert (await desk.ask(0.55)).signal.signal == "long"
        assert [record["generation"] for record in desk.records("route")] == [1, 2]
        await desk.rounds.look()
        assert desk.retargeted == taken

    run(scenario, tmp_path)


def test_the_servers_of_a_changed_route_are_known_before_it_is_in_force(tmp_path):
    async def scenario(desk):
        asked = []

        async def meet(targets):
            asked.append([target.version for target in targets])
            # As long as they are asked, the old route decides, and nothing that it decides is superseded.
            assert (await desk.ask(0.7)).signal.version == "7"
            assert len(desk.records("route")) == 1

        desk.upstream.asked = meet
        desk.write(TEXT.replace('version: "7"', 'version: "9"'))
        await desk.rounds.look()
        assert asked == [["9", "8", "6"]]
        assert (await desk.ask(0.2)).signal.version == "9"

    run(scenario, tmp_path)


def test_a_server_that_does_not_answer_holds_no_route_up(tmp_path, monkeypatch):
    monkeypatch.setattr("signalyard_router.control.rounds._MEETING_SECONDS", 0.01)

    async def scenario(desk):
        desk.upstream.asked = lambda targets: asyncio.Event().wait()
        desk.write(TEXT.replace('version: "7"', 'version: "9"'))
        await desk.rounds.look()
        assert (await desk.ask(0.2)).signal.version == "9"

    run(scenario, tmp_path)


def test_a_request_under_way_when_its_route_changes_is_superseded(tmp_path):
    async def scenario(desk):
        desk.upstream.fail["7"] = "hang"
        asked = asyncio.ensure_future(desk.ask(0.7))
        await asyncio.sleep(0)
        desk.write(TEXT.replace("enter: 0.6", "enter: 0.65"))
        await desk.rounds.look()
        desk.upstream.release()
        assert (await asked).reason is Reason.SUPERSEDED

    run(scenario, tmp_path)


@pytest.mark.parametrize("bad", ["spec: [", TEXT.replace("weight: 100", "weight: 90")])
def test_a_bad_document_keeps_the_last_good_one_also_across_a_restart(tmp_path, bad):
    async def scenario(desk):
        desk.write(bad)
        await desk.rounds.look()
        assert "rb.yaml" in desk.board.show()["documents_problem"]
        assert desk.registry.get_sample_value("signalyard_documents_current") == 0
        assert (await desk.ask(0.7)).outcome is Outcome.EMITTED
        await desk.restart()
        assert "rb.yaml" in desk.board.show()["documents_problem"]
        assert (await desk.ask(0.3)).outcome is Outcome.EMITTED
        desk.write(TEXT)
        await desk.rounds.look()
        assert desk.board.show()["documents_problem"] == ""
        assert desk.registry.get_sample_value("signalyard_documents_current") == 1

    run(scenario, tmp_path)


def test_a_route_comes_and_goes(tmp_path):
    async def scenario(desk):
        second = yaml.safe_load(TEXT)
        second["metadata"]["name"], second["spec"]["instruments"] = "cu", ["cu*.SHFE"]
        desk.write(yaml.safe_dump(second), "cu.yaml")
        await desk.rounds.look()
        assert (await desk.ask(0.7, "cu1.SHFE")).outcome is Outcome.EMITTED
        (desk.routes / "cu.yaml").unlink()
        await desk.rounds.look()
        assert (await desk.ask(0.7, "cu1.SHFE")).problem.code is Problem.NO_ROUTE
        assert [d.metadata.name for d, _ in desk.journal.documents()] == ["rb"]

    run(scenario, tmp_path)


def test_a_journal_that_is_away_is_asked_again_for_the_same_documents(tmp_path):
    async def scenario(desk):
        desk.write(TEXT.replace("window: 1ms", "window: 2ms"))
        desk.disk.room = 0
        await desk.rounds.look()
        assert "journal_unavailable" in desk.board.show()["documents_problem"]
        desk.disk.room = None
        await desk.rounds.look()
        assert desk.board.show()["documents_problem"] == ""
        assert desk.router.routes["rb"].generation == 2

    run(scenario, tmp_path)


PLANNED = (
    TEXT
    + """\
  plan:
    steps: [{canary: 10, hold: 1m}, {canary: 50, hold: 1m}, {canary: 100, hold: 1m}]
    checks: {decisions: 5, errors: 20%, degraded: 20%}
"""
)
CANARIES = [f"rb{number}.SHFE" for number in range(400)]


async def trade(desk, decisions=5):
    """Let the canary decide as often as a check asks for."""
    made = 0
    for symbol in CANARIES:
        decision = await desk.ask(0.7, symbol)
        record = desk.records("decision")[-1]
        made += record["assigned"] == "8"
        if made == decisions:
            return decision
    raise AssertionError("the canary has no instruments")


def test_a_plan_grows_by_itself_survives_restarts_and_ends(tmp_path):
    async def scenario(desk):
        await desk.rounds.look()
        assert [(r["step"], r["state"], r["canary"]) for r in desk.records("plan")] == [(0, "running", 1_000)]
        assert desk.router.table.routes["rb"].weights[Track.CANARY] == 1_000
        await trade(desk)
        await desk.rounds.look()
        assert len(desk.records("plan")) == 1  # held for a minute
        desk.world.clock.advance(MINUTE)
        await desk.rounds.look()
        assert desk.router.table.routes["rb"].weights[Track.CANARY] == 5_000
        await desk.restart()
        assert desk.router.table.routes["rb"].weights[Track.CANARY] == 5_000
        for _ in range(2):
            await trade(desk)
            desk.world.clock.advance(MINUTE)
            await desk.rounds.look()
        assert [(r["step"], r["state"]) for r in desk.records("plan")] == [
            (0, "running"),
            (1, "running"),
            (2, "running"),
            (2, "done"),
        ]
        assert desk.records("plan")[1]["evidence"]["decisions"] == 5
        assert desk.router.table.routes["rb"].weights[Track.CANARY] == 10_000

    run(scenario, tmp_path, PLANNED)


def test_a_plan_steps_back_by_itself_and_begins_anew_only_when_somebody_says_so(tmp_path):
    async def scenario(desk):
        await desk.rounds.look()
        desk.upstream.fail["8"] = Problem.MODEL_TIMEOUT
        await trade(desk)
        await desk.rounds.look()
        back = desk.records("plan")[-1]
        assert (back["state"], back["canary"]) == ("back", 0)
        assert "errors are 5 of 5" in back["why"]
        assert desk.registry.get_sample_value("signalyard_plan_stepped_back", {"route": "rb"}) == 1
        assert desk.router.table.routes["rb"].weights == {Track.STABLE: 10_000, Track.CANARY: 0}
        assert desk.router.table.routes["rb"].handover_now
        await desk.restart()
        await desk.rounds.look()
        assert desk.records("plan")[-1]["state"] == "back"
        assert desk.registry.get_sample_value("signalyard_plan_stepped_back", {"route": "rb"}) == 1
        await desk.pull("replan", route="rb")
        await desk.rounds.look()
        assert desk.records("plan")[-1]["state"] == "running"
        assert desk.registry.get_sample_value("signalyard_plan_stepped_back", {"route": "rb"}) == 0

    run(scenario, tmp_path, PLANNED)


def test_a_weight_by_hand_interrupts_a_plan_for_good(tmp_path):
    async def scenario(desk):
        await desk.rounds.look()
        lever = await desk.pull("weight", route="rb", canary=20.0)
        for _ in range(2):
            await desk.rounds.look()
            plan = desk.journal.plans["rb"]
            assert (plan.state, plan.why) == ("interrupted", f"weight {lever.id} was pulled by hand")
            interrupted = {"route": "rb", "state": "interrupted"}
            assert desk.registry.get_sample_value("signalyard_plan_steps_total", interrupted) == 1
        assert desk.router.table.routes["rb"].weights[Track.CANARY] == 2_000
        await desk.pull("end", lever=lever.id)
        await desk.rounds.look()
        assert desk.router.table.routes["rb"].weights[Track.CANARY] == 0  # the document's

    run(scenario, tmp_path, PLANNED)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_weight_interrupts_a_plan_even_where_it_ended_before_anybody_looked(tmp_path, restarts):
    async def scenario(desk):
        await desk.rounds.look()
        await desk.pull("rollback", route="rb", version="7", expires_in=MINUTE)
        desk.world.clock.advance(2 * MINUTE)
        if restarts:
            await desk.restart()
        await desk.rounds.look()
        assert desk.journal.plans["rb"].state == "interrupted"
        assert len(desk.records("plan")) == 1
        assert desk.router.table.routes["rb"].weights[Track.CANARY] == 0  # the document's

    run(scenario, tmp_path, PLANNED)


def test_a_step_that_was_decided_before_a_weight_by_hand_is_not_recorded_after_it(tmp_path):
    async def scenario(desk):
        await desk.rounds.look()
        await trade(desk)
        desk.world.clock.advance(MINUTE)
        # both wait for the same write
        await asyncio.gather(desk.pull("weight", route="rb", canary=20.0), desk.rounds.look())
        assert desk.journal.plans["rb"].state == "interrupted"
        assert [record["step"] for record in desk.records("plan")] == [0]

    run(scenario, tmp_path, PLANNED)


def test_a_plan_waits_for_a_journal_that_is_away(tmp_path):
    async def scenario(desk):
        desk.disk.room = 0
        await desk.rounds.look()
        assert desk.records("plan") == []
        assert desk.router.table.routes["rb"].weights[Track.CANARY] == 0
        desk.disk.room = None
        await desk.rounds.look()
        assert desk.router.table.routes["rb"].weights[Track.CANARY] == 1_000

    run(scenario, tmp_path, PLANNED)


@pytest.mark.parametrize(
    ("old", "new", "pointer"),
    [
        ("canary: 50", "canary: 5", "/spec/plan/steps"),
        ("errors: 20%", "errors: 0.2", "/spec/plan/checks/errors"),
        ("errors: 20%", "errors: lots", "/spec/plan/checks/errors"),
        ("decisions: 5", "decisions: 0", "/spec/plan/checks/decisions"),
        ("decisions: 5", "decisions: 5, disagreement: 5%", "/spec/plan/checks/disagreement"),
        ('    - {name: canary,  version: "8", weight: 0, endpoint: {service: b, port: 1}}\n', "", "/spec/plan"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(tmp_path, old, new, pointer):
    (tmp_path / "rb.yaml").write_text(PLANNED.replace(old, new))
    with pytest.raises(SignalyardError) as refused:
        asyncio.run(FileRouteStore(tmp_path).load())
    assert refused.value.pointer == pointer


def test_a_plan_may_ask_a_shadow_of_the_canarys_version(tmp_path):
    shadow = '    - {name: shadow, version: "8", endpoint: {service: d, port: 1}}\n'
    text = PLANNED.replace("decisions: 5", "decisions: 5, disagreement: 10%").replace(
        "  mapping:", shadow + "  mapping:"
    )
    disagreement: list[float | None] = [None]

    async def scenario(desk):
        desk.delivery._disagreement = lambda route, version: disagreement[0]
        await desk.rounds.look()
        await trade(desk)
        desk.world.clock.advance(MINUTE)
        await desk.rounds.look()
        assert len(desk.records("plan")) == 1  # the shadow has compared too little
        disagreement[0] = 0.2
        await desk.rounds.look()
        assert desk.records("plan")[-1]["state"] == "back"
        assert "the shadow disagrees on 20.00%" in desk.records("plan")[-1]["why"]

    run(scenario, tmp_path, text)


def test_what_stands_is_in_the_metrics_also_after_a_restart(tmp_path):
    def levers(desk):
        return {
            (sample.labels["action"], sample.labels["scope"]): sample.value
            for metric in desk.registry.collect()
            for sample in metric.samples
            if sample.name == "signalyard_levers"
        }

    nothing = {
        ("halt", "route"): 0,
        ("halt", "instrument"): 0,
        ("pause", "route"): 0,
        ("pause", "instrument"): 0,
        ("weight", "route"): 0,
        ("rollback", "route"): 0,
    }

    async def scenario(desk):
        assert levers(desk) == nothing
        everywhere = await desk.pull("halt")
        await desk.pull("halt", route="rb", symbol=NAME)
        await desk.pull("pause", route="rb", expires_in=MINUTE)
        await desk.pull("weight", route="rb", canary=10.0)
        stands = nothing | {
            ("halt", "route"): 1,
            ("halt", "instrument"): 1,
            ("pause", "route"): 1,
            ("weight", "route"): 1,
        }
        assert levers(desk) == stands
        await desk.restart()
        assert levers(desk) == stands
        desk.world.clock.advance(MINUTE)
        assert levers(desk)["pause", "route"] == 0
        await desk.pull("resume", lever=everywhere.id)
        assert levers(desk)["halt", "route"] == 0

    run(scenario, tmp_path)


def test_tracks_are_in_the_metrics_as_they_are_in_force(tmp_path):
    async def scenario(desk):
        def value(name, track, version, **more):
            labels = {"route": "rb", "track": track, "version": version} | more
            return desk.registry.get_sample_value(name, labels)

        assert value("signalyard_track_weight", "canary", "8") == 0
        assert value("signalyard_track_weight", "standby", "6") is None
        assert value("signalyard_track_endpoints_ready", "standby", "6") == 1
        desk.upstream.unknown.add("6")
        desk.upstream.drift["8"] = "7"
        await desk.pull("weight", route="rb", canary=10.0)
        assert value("signalyard_track_weight", "canary", "8") == 0.1
        assert value("signalyard_track_weight", "stable", "7") == 0.9
        assert value("signalyard_track_endpoints_ready", "standby", "6") == 0
        digest = f"sha256:{'7':0>64}"
        assert value("signalyard_track_info", "canary", "8", model="rb", serving="7", digest=digest) == 1

    run(scenario, tmp_path)
