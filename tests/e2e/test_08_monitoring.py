"""prometheus-operator, Prometheus, Alertmanager: what is scraped, and three troubles that reach a webhook receiver and are over again."""

import json
from pathlib import Path

from bundles import MODEL
from cluster.commands import run
from desk import DEADLINE, ROUTE, ROUTER, ROUTER_POD, WINDOW

REPLAY = "replay"
"""A router on event time: what a surge is compared with takes three days, which pass at once there."""
SURGING = "hc2501.SHFE"
DAYS = Path(__file__).with_name("traffic") / "days.py"
SILENCE = "6s"
DAY = 86_400
TEN_O_CLOCK = 1_767_607_200  # of 5 January 2026, UTC
STABLE = f"deployment/{MODEL}-stable"
WATCHED = {
    "serviceMonitor": {"enabled": True, "interval": "1s"},
    "rules": {"enabled": True, "interval": "1s"},
}


def watched(**change):
    return {**WATCHED, "rules": {**WATCHED["rules"], "change": change}}


def replay(scenario, cluster, starts, snapshots):
    """What the replaying router decides about these days."""
    listed = [",".join(map(str, numbers)) for numbers in (starts, snapshots)]
    options = [
        f"--url={scenario.url(REPLAY)}",
        f"--symbol={SURGING}",
        f"--starts={listed[0]}",
        f"--snapshots={listed[1]}",
    ]
    said = run(cluster.script(DAYS, *options), timeout=60, env=cluster.environment())
    return [decision for line in said.splitlines() for decision in json.loads(line)["decisions"]]


def test_08_monitoring(desk, scenario, cluster, monitoring, summary):
    monitoring.start()
    desk.install_router(**watched(SignalyardVersionDrift={"for": "2s"}))
    desk.install_model({**desk.model("7"), **watched()})
    track = {"name": "stable", "version": "7", "weight": 100, "endpoint": {"service": f"{MODEL}-stable", "port": 8080}}
    document = {"model": MODEL, **ROUTE, "instruments": ["hc*.SHFE"], "tracks": [track]}
    desk.install_router(
        REPLAY,
        routes={"from": "configMap", "documents": {"replayed": document}},
        env=[{"name": "SIGNALYARD_CLOCK", "value": "event"}],
        **watched(),
    )
    monitoring.await_ready()
    desk.await_ready()

    load = scenario.load(ROUTER, rate=50, deadline=DEADLINE)
    with load:
        # Every pod is scraped, under the names that the rules count on.
        everything = {(ROUTER, ""): 1.0, (REPLAY, ""): 1.0, (MODEL, "stable"): 1.0}
        scenario.until(
            lambda: {(one["job"], one.get("track", "")): up for one, up in monitoring.query("up")} == everything,
            "all ServiceMonitors are scraped",
        )
        # The rules of all three releases are there, and each can be evaluated.
        scenario.until(lambda: len({rule["name"] for rule in monitoring.rules()}) > 40, "the rules are loaded")
        scenario.until(
            lambda: all(rule["health"] == "ok" for rule in monitoring.rules()),
            "every rule was evaluated without an error",
        )
        rate = "sum(rate(signalyard_decisions_total[10s]))"
        scenario.until(lambda: any(value > 10 for _, value in monitoring.query(rate)), "the decisions are counted")

        # Three ordinary days, and one with ten times as many signals.
        days = [TEN_O_CLOCK + DAY * number for number in range(4)]
        replayed = replay(scenario, cluster, days, [2, 2, 2, 20])
        assert [one["outcome"] for one in replayed] == ["emitted"] * 26
        surge = monitoring.await_told("SignalyardSignalSurge", "firing", "pager", symbol=SURGING)
        assert surge["labels"]["route"] == "replayed"
        monitoring.await_told("SignalyardSignalSurge", "firing", "desk", symbol=SURGING)
        # The next part of the session is as quiet as ever.
        replayed += replay(scenario, cluster, [days[-1] + 3600], [1])
        monitoring.await_told("SignalyardSignalSurge", "resolved", "pager", symbol=SURGING)

        # Version 8 is the document's; an undo brings 7 back behind its back.
        desk.upgrade_model({**desk.model("8", route={"alerts": {"noSignal": SILENCE}}), **watched()})
        scenario.await_rollout(STABLE)
        desk.await_condition("VersionDrift", "False")
        # With so short a time, the upgrade itself may have looked like drift while its pod started.
        monitoring.await_quiet("SignalyardVersionDrift")
        scenario.kubectl("rollout", "undo", STABLE)
        scenario.await_rollout(STABLE)
        drift = monitoring.await_told("SignalyardVersionDrift", "firing", "log", track="stable")
        assert (drift["labels"]["route"], drift["labels"]["version"]) == (MODEL, "8")
        load.await_more(50)
        # The cure that needs no pod: the values say what runs.
        desk.upgrade_model({**desk.model("7", route={"alerts": {"noSignal": SILENCE}}), **watched()})
        monitoring.await_told("SignalyardVersionDrift", "resolved", "log", track="stable")

    # The strategy goes away, and comes back.
    silent = monitoring.await_told("SignalyardNoSignalFeedSilent", "firing", "pager", route=MODEL)
    assert "runbooks/SignalyardNoSignalFeedSilent" in silent["annotations"]["runbook_url"]
    monitoring.await_told("SignalyardNoSignalFeedSilent", "firing", "desk", route=MODEL)
    with load:
        monitoring.await_told("SignalyardNoSignalFeedSilent", "resolved", "pager", route=MODEL)
        monitoring.await_told("SignalyardNoSignalFeedSilent", "resolved", "desk", route=MODEL)
        load.await_more(100)
        # What docs/sizing.md tells.
        summary.notes["MiB in use"] = scenario.memory()
    account = scenario.account(load, window=WINDOW, pod=ROUTER_POD)

    assert account.failures == account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    # Only what 7 said in 8's place was marked.
    assert set(account.versions) == {"7", "8"}
    assert set(account.marks) == {"drift"}
    told = {one["labels"]["alertname"] for one in monitoring.told()}
    assert told == {"SignalyardSignalSurge", "SignalyardVersionDrift", "SignalyardNoSignalFeedSilent"}
