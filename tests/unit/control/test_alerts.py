"""The router's own alerts, in a world whose time is moved by hand: cause, then at most five seconds, then the status."""

import asyncio
import hashlib
import json
import logging
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.journal.conftest import until

from signalyard import Problem, Snapshot
from signalyard.profile import Feature, FeatureSchema
from signalyard_router.control.alerts import EVERY, Alerts
from signalyard_router.control.metrics import AlertMetrics, Seen
from signalyard_router.journal.checkpoint import checkpoint_name, load
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.segments import segment_number
from signalyard_router.journal.settings import JournalSettings, UpkeepSettings
from signalyard_router.journal.upkeep import Upkeep
from signalyard_router.router import Router
from signalyard_router.rules.activity import Activity
from signalyard_router.rules.alarm import AlertKind, SilenceCause
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.levers import Order
from signalyard_router.rules.route import compile_route
from signalyard_router.rules.surge import Surge
from signalyard_router.rules.units import MINUTE, SECOND
from signalyard_router.settings import RouterSettings
from signalyard_router.testing.disk import FaultyDisk
from signalyard_router.testing.upstream import FakeUpstream
from signalyard_router.testing.world import ManualClock, ManualWorld

SCHEMA = FeatureSchema((Feature(name="p", minimum=0.0, maximum=1.0),))
NAME = "rb2410.SHFE"
# Friday, 21 June 2024: 14:30 in Shanghai.
FRIDAY = int(datetime(2024, 6, 21, 6, 30, tzinfo=UTC).timestamp()) * SECOND
SESSIONS = {"timezone": "Asia/Shanghai", "hours": ["09:00-10:15", "10:30-11:30", "13:30-15:00", "21:00-23:00"]}


def document(**more):
    endpoint = {"service": "x", "port": 1}
    return {
        "apiVersion": "signalyard.io/v1alpha1",
        "kind": "SignalRoute",
        "metadata": {"name": "rb"},
        "spec": {
            "model": "rb",
            "instruments": ["rb*.SHFE"],
            "tracks": [
                {"name": "stable", "version": "7", "weight": 100, "endpoint": endpoint},
                {"name": "standby", "version": "6", "endpoint": endpoint},
            ],
            "mapping": {"long": {"enter": 0.6}, "short": {"enter": 0.4}},
            "dedupe": {"window": "1ms"},
            "sessions": SESSIONS,
        }
        | more,
    }


class Desk:
    def __init__(self, folder, data=None, start=FRIDAY, segment_bytes=1 << 28):
        self.disk = FaultyDisk()
        self.world = ManualWorld(self.disk)
        self.world.clock = ManualClock(start)
        self.registry = CollectorRegistry()
        documents = [(parse_document(data or document(), "test"), "test")]
        self.alerts = Alerts(self.registry)
        settings = JournalSettings(folder=str(folder), segment_bytes=segment_bytes)
        self.journal = LocalJournal(self.world, settings, self.registry, memory=self.alerts)
        self.upkeep = Upkeep(self.world, settings, UpkeepSettings(), self.journal, self.registry)
        self.journal.subscribe(self.alerts.observe)
        self.documents = documents
        self.upstream = FakeUpstream(SCHEMA, lambda row: row["p"])
        self.alerts.attach(self.journal, self.upstream)

    async def open(self):
        routes = await self.journal.accept(self.documents)
        self.router = Router(
            self.world, RouterSettings(), routes, self.journal, self.upstream, self.registry, self.alerts
        )
        self.router.asked()
        self.look()

    def pass_time(self, seconds):
        self.world.clock.advance(round(seconds * SECOND))

    def look(self):
        """What the task does each second."""
        self.alerts.alerts(self.journal.now)

    async def ask(self, p, symbol=NAME, count=1):
        """Snapshots 2 ms apart."""
        decisions = []
        for _ in range(count):
            self.pass_time(0.002)
            snapshot = Snapshot(symbol=symbol, ts_event=self.world.clock.wall(), features={"p": p})
            decisions += await self.router.predict(snapshot)
        return decisions

    def alert(self, kind):
        (found,) = [alert for alert in self.router.status().alerts if alert.alert == kind]
        firing = self.registry.get_sample_value("signalyard_alert", {"route": "rb", "alert": kind})
        assert firing == (found.state == "firing")
        return found

    def causes(self):
        """Those that the metric says."""
        return [str(cause) for cause in SilenceCause if self.value("signalyard_silence", cause=cause)]

    def surging(self):
        return {
            sample.labels["symbol"]: sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == "signalyard_surge_signals"
        }

    def value(self, name, **labels):
        return self.registry.get_sample_value(name, {"route": "rb"} | labels)


def run(scenario, *args, **more):
    async def main():
        desk = Desk(*args, **more)
        await desk.open()
        try:
            await scenario(desk)
        finally:
            desk.disk.room = None
            await desk.upkeep.close()
            await desk.journal.close()

    asyncio.run(main())


async def silent_feed(desk):
    desk.pass_time(10 * 60)
    return "feed_silent", "the feed is silent, the last came 10 min ago"


async def silent_model(desk):
    desk.upstream.fail = {"7": Problem.MODEL_UNREACHABLE, "6": Problem.MODEL_UNREACHABLE}
    for _ in range(20):
        desk.pass_time(30)
        await desk.ask(0.7)
    return "model_silent", "most often no_answer"


async def all_filtered(desk):
    for _ in range(20):
        desk.pass_time(30)
        await desk.ask(0.5)
    return "all_filtered", "most often no_direction"


async def bad_input(desk):
    for _ in range(20):
        desk.pass_time(30)
        await desk.ask(7.0)
    return "rejected", "most often feature_out_of_range"


async def journal_away(desk):
    desk.disk.room = 0
    for _ in range(20):
        desk.pass_time(30)
        await desk.ask(0.7)
    return "journal_away", "the journal takes no decisions"


@pytest.mark.parametrize("silenced", [silent_feed, silent_model, all_filtered, bad_input, journal_away])
def test_no_signal_and_why(tmp_path, silenced, caplog):
    async def scenario(desk):
        await desk.ask(0.7)
        assert desk.alert("no_signal").state == "ok"
        cause, says = await silenced(desk)
        found = desk.alert("no_signal")
        assert (found.state, found.cause, found.threshold) == ("firing", cause, 600.0)
        assert says in found.message
        assert found.value == pytest.approx(600, abs=1)
        assert found.since == desk.journal.now
        assert desk.causes() == [cause]
        desk.disk.room = None
        desk.upstream.fail = {}
        desk.pass_time(30)
        await desk.ask(0.7)
        assert desk.alert("no_signal").state == "ok"
        assert desk.causes() == []

    with caplog.at_level(logging.INFO, "signalyard.router.alerts"):
        run(scenario, tmp_path)
    told = [record.getMessage() for record in caplog.records if "alert=no_signal" in record.getMessage()]
    assert ["state=firing" in line for line in told] == [True, False]


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"action": "halt"}, "the route is halted by ann: maintenance"),
        ({"action": "halt", "route": "rb"}, "the route is halted by ann: maintenance"),
        ({"action": "pause", "route": "rb", "expires_in": 3600 * SECOND}, "the route is paused by ann: maintenance"),
        ({"action": "pause", "route": "rb", "expires_in": 300 * SECOND}, None),
        ({"action": "halt", "route": "rb", "symbol": NAME}, None),
    ],
)
def test_a_halt_is_told_apart(tmp_path, order, says):
    async def scenario(desk):
        await desk.ask(0.7)
        await desk.journal.pull(Order(by="ann", why="maintenance", **order))
        for _ in range(20):
            desk.pass_time(30)
            await desk.ask(0.5)
        found = desk.alert("no_signal")
        assert (found.state, found.cause) == ("firing", "halted" if says else "all_filtered")
        assert (says or "no answer becomes a signal") in found.message

    run(scenario, tmp_path)


def test_drift(tmp_path):
    async def scenario(desk):
        assert desk.alert("drift").state == "ok"
        desk.upstream.drift = {"7": "6"}
        found = desk.alert("drift")
        assert (found.state, found.message) == ("firing", "stable serves 6 instead of 7")
        desk.upstream.drift = {}
        assert desk.alert("drift").state == "ok"

    run(scenario, tmp_path)


def test_only_open_session_counts(tmp_path):
    async def scenario(desk):
        desk.pass_time(25 * 60)
        await desk.ask(0.7)  # 14:55
        assert desk.value("signalyard_session_open") == 1
        desk.pass_time(5 * 60)  # 15:00
        found = desk.alert("no_signal")
        assert (found.state, found.message) == ("ok", "the session is closed")
        assert desk.value("signalyard_session_open") == 0
        status = desk.router.status().routes[0].session
        assert (status.open, status.trading_day) == (False, None)
        assert status.until - desk.journal.now == pytest.approx(6 * 3600 * SECOND, rel=1e-3)
        desk.pass_time(6 * 3600 + 299)  # 21:04:59, Friday's night
        found = desk.alert("no_signal")
        assert (found.state, found.cause) == ("pending", "feed_silent")
        assert found.value == pytest.approx(599, abs=0.1)
        desk.pass_time(2)
        assert desk.alert("no_signal").state == "firing"
        assert str(desk.router.status().routes[0].session.trading_day) == "2024-06-24"

    run(scenario, tmp_path)


def test_low_confidence_is_seen_before_the_filters(tmp_path):
    async def scenario(desk):
        desk.upstream.confidence = lambda score: 0.9
        await desk.ask(0.5, count=10)
        desk.upstream.confidence = lambda score: 0.3
        await desk.ask(0.5, count=20)  # no direction at all
        found = desk.alert("low_confidence")
        assert found.state == "ok"
        assert found.value == pytest.approx(0.5)
        await desk.ask(0.7)
        assert desk.alert("low_confidence").state == "firing"
        assert desk.alert("low_confidence").threshold == 0.5
        desk.upstream.confidence = lambda score: 0.9
        await desk.ask(0.7, count=20)
        found = desk.alert("low_confidence")
        assert (found.state, found.value > 0.5) == ("firing", True)  # it must have been clear for ten seconds
        desk.pass_time(9)
        assert desk.alert("low_confidence").state == "firing"
        desk.pass_time(1)
        assert desk.alert("low_confidence").state == "ok"

    run(scenario, tmp_path)


def test_degraded_and_late(tmp_path):
    async def scenario(desk):
        await desk.ask(0.7, count=18)
        desk.upstream.fail = {"7": Problem.MODEL_TIMEOUT}
        await desk.ask(0.7)
        assert desk.alert("degraded").state == "pending"
        await desk.ask(0.7)
        assert (desk.alert("degraded").state, desk.alert("degraded").value) == ("firing", 0.1)
        desk.upstream.fail = {}
        assert desk.alert("late").state == "ok"
        snapshot = Snapshot(symbol=NAME, ts_event=desk.world.clock.wall() + 1, features={"p": 0.7})
        waiting = asyncio.ensure_future(desk.router.predict(snapshot))
        await asyncio.sleep(0)
        desk.pass_time(0.2)
        (decision,) = await waiting
        assert decision.reason in ("past_commit_by", "unconfirmed")
        assert desk.alert("late").state == "firing"

    run(scenario, tmp_path)


def test_a_surge_and_a_restart_that_forgets_nothing(tmp_path):
    day = 24 * 3600

    async def earlier(desk):
        for _ in range(4):
            await desk.ask(0.7, count=3)
            desk.pass_time(day)

    async def today(desk):
        assert desk.router.status().alerts[0].state == "ok"
        await desk.ask(0.7, count=12)
        assert desk.alert("surge").state == "ok"
        await desk.ask(0.7)
        found = desk.alert("surge")
        assert (found.state, found.value, found.threshold) == ("firing", 13.0, 12.0)
        assert "rb2410.SHFE gave 13 signals" in found.message
        assert desk.surging() == {NAME: 13}
        assert desk.value("signalyard_alert_value", alert="surge") == 13
        await desk.ask(0.7, "rb2501.SHFE", count=30)
        assert "rb2501" not in desk.alert("surge").message  # nothing earlier to compare it with
        desk.pass_time(15 * 60)
        assert desk.alert("surge").state == "ok"
        assert desk.surging() == {}

    # 18 to 21 June 2024 are a Tuesday to a Friday; the alert is looked for on Monday the 24th at the same time
    run(earlier, tmp_path, start=FRIDAY - 3 * day * SECOND)
    run(today, tmp_path, start=FRIDAY + 3 * day * SECOND)

    async def remembered(desk):
        assert desk.value("signalyard_last_signal_timestamp_seconds") == pytest.approx(FRIDAY / SECOND + 3 * day, abs=1)
        assert desk.value("signalyard_signals_total", symbol=NAME, direction="long") is None  # this process sent none
        found = desk.alert("surge")
        assert (found.state, found.value) == ("firing", 13.0)
        assert desk.alert("no_signal").state == "ok"  # the process has only begun to watch

    # also where the document has since changed, but not what a part of a session is
    run(remembered, tmp_path, start=FRIDAY + 3 * day * SECOND + MINUTE)
    other = document(deadline="50ms")
    run(remembered, tmp_path, other, start=FRIDAY + 3 * day * SECOND + MINUTE)

    async def forgotten(desk):
        assert desk.alert("surge").state == "ok"

    other = document(sessions=SESSIONS | {"timezone": "Asia/Tokyo"})
    run(forgotten, tmp_path, other, start=FRIDAY + 3 * day * SECOND + MINUTE)


@pytest.mark.parametrize("written", ["now", "by software that did not know surges"])
def test_a_surge_is_remembered_beyond_the_newest_checkpoint(tmp_path, written):
    day = 24 * 3600

    async def earlier(desk):
        desk.upkeep.start()
        for _ in range(4):
            await desk.ask(0.7, count=3)
            desk.pass_time(day)
        desk.pass_time(2 * day)  # to Monday, at the same time
        await desk.ask(0.7, count=12)
        newest = checkpoint_name(segment_number(desk.journal.segment) - 1)
        await until(lambda: newest in desk.upkeep._checkpoints)
        found = load(desk.world.disk, str(tmp_path), newest)
        ((key, contract),) = found.contracts
        assert key == ("rb", NAME)
        # with what was confirmed and not yet counted, and nothing newer than the record that it stands at
        assert (contract.count, [len(packed) // 2 for _, packed in contract.earlier]) == (12, [4])

    run(earlier, tmp_path, start=FRIDAY - 3 * day * SECOND, segment_bytes=1)
    newest = max(tmp_path.glob("checkpoint-*"))
    for segment in tmp_path.glob("journal-*"):
        if segment.name[8:16] < newest.name[11:19]:
            segment.unlink()
    if written != "now":
        lines = [json.loads(line) for line in newest.read_bytes().splitlines()]
        old = b"".join(
            json.dumps({name: value for name, value in line.items() if name != "contracts"}).encode() + b"\n"
            for line in lines[:-1]
        )
        end = {"part": "end", "sha256": hashlib.sha256(old).hexdigest()}
        newest.write_bytes(old + json.dumps(end).encode() + b"\n")

    async def today(desk):
        await desk.ask(0.7)
        found = desk.alert("surge")
        assert (found.state, found.value) == (("firing", 13.0) if written == "now" else ("ok", None))

    run(today, tmp_path, start=FRIDAY + 3 * day * SECOND + MINUTE)


def test_metrics_of_the_present(tmp_path):
    async def scenario(desk):
        await desk.ask(0.7, count=2)
        await desk.ask(0.3)
        await desk.ask(0.5)
        desk.look()
        assert desk.value("signalyard_signals_total", symbol=NAME, direction="long") == 2
        assert desk.value("signalyard_signals_total", symbol=NAME, direction="short") == 1
        now = desk.journal.now / 1e9
        assert desk.value("signalyard_last_snapshot_timestamp_seconds") == now
        assert desk.value("signalyard_last_answer_timestamp_seconds") == now
        assert desk.value("signalyard_last_signal_timestamp_seconds") == pytest.approx(now - 0.002)
        assert desk.value("signalyard_confidence_count") == 4

    run(scenario, tmp_path)


def test_symbols_beyond_the_cap_are_counted_together():
    registry = CollectorRegistry()
    metrics = AlertMetrics(registry, symbols=2)
    for symbol in ("a.X", "b.X", "c.X", "d.X", "a.X"):
        metrics.signal("rb", symbol, "long")
    counts = {
        sample.labels["symbol"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "signalyard_signals_total"
    }
    assert counts == {"a.X": 2, "b.X": 1, "other": 2}


def test_only_the_worst_surges_have_a_series():
    registry = CollectorRegistry()
    seen = Seen("rb", [AlertKind.SURGE], Activity(MINUTE))
    AlertMetrics(registry, lambda: [seen])

    def series():
        return {
            sample.labels["symbol"]
            for metric in registry.collect()
            for sample in metric.samples
            if sample.name == "signalyard_surge_signals"
        }

    seen.surging = [Surge(f"rb{number:02}.SHFE", 100 - number, 1.0, 5) for number in range(30)]
    assert series() == {f"rb{number:02}.SHFE" for number in range(10)}
    seen.surging = []
    assert series() == set()


def test_alerts_that_are_off(tmp_path):
    off = dict.fromkeys(("noSignal", "minConfidence", "surge", "degraded", "late", "drift"), "off")

    async def scenario(desk):
        await desk.ask(0.7, count=3)
        desk.pass_time(3600)
        assert desk.router.status().alerts == []

    run(scenario, tmp_path, document(alerts=off))


def test_a_route_that_changes_keeps_what_still_means_the_same(tmp_path):
    async def scenario(desk):
        await desk.ask(0.7, count=15)
        desk.pass_time(10 * 60)
        assert desk.alert("no_signal").state == "firing"
        since = desk.alert("no_signal").since
        changed = compile_route(parse_document(document(alerts={"surge": False, "window": "1m"}), "test"))
        desk.router.take([changed])
        desk.pass_time(1)
        kinds = {alert.alert: alert for alert in desk.router.status().alerts}
        assert "surge" not in kinds
        assert (kinds["no_signal"].state, kinds["no_signal"].since) == ("firing", since)
        assert desk.value("signalyard_alert", alert="surge") is None
        assert desk.value("signalyard_last_signal_timestamp_seconds") > 0
        desk.router.take([])
        assert desk.router.status().alerts == []
        assert desk.value("signalyard_alert", alert="no_signal") is None
        assert desk.causes() == []
        assert desk.value("signalyard_session_open") is None

    run(scenario, tmp_path)


def test_the_task_looks_each_second_and_survives_what_goes_wrong(tmp_path, monkeypatch, caplog):
    slept = []

    async def scenario(desk):
        async def sleep(seconds):
            slept.append(seconds)
            desk.pass_time(seconds)
            if len([second for second in slept if second]) > 5:
                raise asyncio.CancelledError

        monkeypatch.setattr("signalyard_router.control.alerts.asyncio.sleep", sleep)
        await desk.ask(0.7)
        before = desk.journal.now
        desk.alerts._halted = lambda *_: 1 / 0
        desk.pass_time(600 - 3)
        with pytest.raises(asyncio.CancelledError):
            await desk.alerts.run()
        assert "event=alerts_failed" in caplog.text
        desk.alerts._halted = lambda *_: None
        slept.clear()
        with pytest.raises(asyncio.CancelledError):
            await desk.alerts.run()
        found = desk.alerts._watched["rb"].alerts[next(iter(desk.alerts._watched["rb"].alerts))]
        assert (found.alert, found.state) == ("no_signal", "firing")
        assert found.since - (before + 600 * SECOND) <= 5 * SECOND
        assert {second for second in slept if second} == {EVERY}
        assert desk.registry.get_sample_value("signalyard_watch_looks_total") == 6  # those that failed do not count

    run(scenario, tmp_path)


def test_what_waits_to_be_counted_is_bounded(tmp_path):
    async def scenario(desk):
        most = 0
        for _ in range(100):
            await desk.ask(0.7)
            most = max(most, len(desk.alerts._waiting))
        assert most <= 33
        desk.look()
        assert desk.value("signalyard_signals_total", symbol=NAME, direction="long") == 100

    run(scenario, tmp_path)


def test_on_event_time_the_snapshots_drive_the_alerts(tmp_path):
    async def main():
        registry = CollectorRegistry()
        documents = [(parse_document(document(maxAge="24h"), "test"), "test")]
        alerts = Alerts(registry)
        world = ManualWorld()
        journal = LocalJournal(world, JournalSettings(folder=str(tmp_path), clock="event"), registry)
        journal.subscribe(alerts.observe)
        upstream = FakeUpstream(SCHEMA, lambda row: row["p"])
        alerts.attach(journal, upstream)
        router = Router(world, RouterSettings(), await journal.accept(documents), journal, upstream, registry, alerts)
        assert router.status().alerts == []  # nothing has happened yet, not even time

        async def at(seconds, p):
            await router.predict(Snapshot(symbol=NAME, ts_event=FRIDAY + round(seconds * SECOND), features={"p": p}))
            return next(alert for alert in router.status().alerts if alert.alert == "no_signal")

        assert (await at(0, 0.7)).state == "ok"
        assert (await at(301, 0.5)).state == "pending"
        found = await at(600, 0.5)
        assert (found.state, found.cause, found.since) == ("firing", "all_filtered", FRIDAY + 600 * SECOND)
        assert (await at(601, 0.7)).state == "ok"
        await journal.close()

    asyncio.run(main())
