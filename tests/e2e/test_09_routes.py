"""A wrong SignalRoute: what the API server can judge it refuses; what only the router can judge leaves the last good one in force, also
across a restart of the router, and the status says so."""

import json

import pytest
from bundles import MODEL
from cluster.commands import CommandError
from desk import DEADLINE, ROUTER, ROUTER_POD, WINDOW
from traffic.account import longest_silence

MARS = {"timezone": "Mars/Olympus", "hours": ["09:00-10:00"]}
WRONG = {
    "weights": (
        {"tracks": [{"name": "stable", "version": "7", "weight": 90, "endpoint": {"service": "x", "port": 8080}}]},
        "100",
    ),
    "deadline": ({"deadline": "soon"}, "spec.deadline"),
    "a rung behind skip": ({"ladder": [{"skip": {}}, {"flat": {"after": "30s"}}]}, "skip"),
}


def in_force(desk):
    """The revision that the router decides by, and the one that the route's status names."""
    (route,) = desk.ask("/v1/status")["routes"]
    return route["revision"], desk.scenario.get("signalroute", MODEL)["status"]["revision"]


def is_kept(desk, good):
    """The newest spec is not taken, and says why; ``good`` decides."""
    desk.await_condition("Accepted", "False", "Invalid")
    accepted = desk.condition("Accepted")
    assert accepted["message"].startswith("spec.sessions.timezone: ")
    assert accepted["message"].endswith(f"revision {good} stays in force")
    assert accepted["observedGeneration"] == desk.scenario.get("signalroute", MODEL)["metadata"]["generation"]
    assert in_force(desk) == (good, good)


def test_09_routes(desk, scenario, summary):
    desk.install_router()
    desk.install_model(desk.model("7"))
    desk.await_ready()
    good, _ = in_force(desk)

    with scenario.load(ROUTER, rate=40, deadline=DEADLINE, options=("--patience=60",)) as load:
        load.await_more(50)
        for changes, reason in WRONG.values():
            spec = json.dumps({"spec": changes})
            with pytest.raises(CommandError, match=reason):
                scenario.kubectl("patch", "signalroute", MODEL, "--type=merge", "--patch", spec)
        # helm, which sends all that belongs to a release, is told the same.
        with pytest.raises(CommandError, match="skip"):
            desk.upgrade_model(desk.model("7", route=WRONG["a rung behind skip"][0]))
        assert in_force(desk) == (good, good)
        assert desk.condition("Accepted")["status"] == "True"

        desk.upgrade_model(desk.model("7", route={"sessions": MARS, "deadline": "900ms"}))
        is_kept(desk, good)
        load.await_more(100)

        began = len(load.lines())
        scenario.kubectl("delete", "pod", f"{ROUTER}-0", timeout=90)
        scenario.await_rollout(ROUTER_POD)
        is_kept(desk, good)
        load.await_more(100)
        gap = longest_silence(load.lines()[began:])
        summary.notes["the gap of a router whose pod was deleted"] = f"{gap:.1f} s"

        desk.upgrade_model(desk.model("7", route={"deadline": "900ms"}))
        desk.await_condition("Accepted", "True", "InForce")
        better, told = in_force(desk)
        assert better == told != good
        load.await_more(50)
    account = scenario.account(load, window=WINDOW, pod=ROUTER_POD)

    # Calls fail while there is no router; each snapshot got its one decision all the same.
    assert account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    assert set(account.versions) == {"7"}
    assert not account.marks
