"""A canary with a tenth of the instruments and a shadow with a copy of everything: who decides is what the status says, the disagreement
is measured, and the live answers do not know of the shadow."""

from collections import Counter

from bundles import MODEL
from desk import DEADLINE, ROUTER, ROUTER_POD, WINDOW

# Enough that a tenth of them is some.
SYMBOLS = [f"rb{number}.SHFE" for number in range(3000, 3120)]
# Many more trees: its scores are steeper, so that it disagrees now and then.
SHADOW = "90"


def test_02_trial(desk, scenario):
    desk.install_router()
    tracks = {
        "canary": {**desk.published.version("8"), "weight": 10},
        "shadow": {**desk.published.version(SHADOW), "mirror": 100},
    }
    desk.install_model(desk.model("7", tracks=tracks))
    desk.await_ready()
    options = [f"--symbols={','.join(SYMBOLS)}"]
    with scenario.load(ROUTER, rate=60, deadline=DEADLINE, options=options) as load:
        load.await_more(3 * len(SYMBOLS))
        scenario.until(lambda: _compared(desk) > 0, "pairs are compared")
        early = _disagreements(desk)
        load.await_more(2 * len(SYMBOLS))
        scenario.until(lambda: _disagreements(desk) > early, "the disagreements grow")
        # The live path does not need the shadow.
        scenario.kubectl("scale", f"deployment/{MODEL}-shadow", "--replicas=0")
        scenario.until(lambda: _excluded(desk) > 0, "the shadow's silence is counted")
        load.await_more(2 * len(SYMBOLS))
        (status,) = desk.ask("/v1/status")["routes"]
    account = scenario.account(load, window=WINDOW, pod=ROUTER_POD)

    assert account.failures == account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    assert not account.marks
    assert not {"no_answer", "model_timeout"} & set(account.reasons)
    decisions = [record for record in scenario.journal(ROUTER_POD) if record["kind"] == "decision"]
    versions = {"stable": "7", "canary": "8"}
    assert {(one["track"], one["version"]) for one in decisions} == set(versions.items())
    # Who decides is what the status says, in the one place by instrument, in the other counted.
    assert {one["symbol"]: one["track"] for one in decisions} == status["assignment"]
    assert all(one["track"] == status["assignment"][one["symbol"]] for one in decisions)
    counted = dict(Counter(status["assignment"].values()))
    scenario.until(
        lambda: scenario.get("signalroute", MODEL)["status"].get("assignment") == counted, f"status says {counted}"
    )
    assert 0.02 < counted["canary"] / len(SYMBOLS) < 0.25
    # The desk hears of stable and canary alone.
    assert set(account.versions) == {"7", "8"}


def _compared(desk):
    return desk.metric("signalyard_shadow_pairs_total", kind="shadow", name=SHADOW)


def _disagreements(desk):
    sides = ("long", "short", "none")
    return sum(
        desk.metric("signalyard_shadow_pairs_total", kind="shadow", name=SHADOW, live=live, other=other)
        for live in sides
        for other in sides
        if live != other
    )


def _excluded(desk):
    reasons = ("timeout", "failed")
    return sum(desk.metric("signalyard_shadow_excluded_total", name=SHADOW, reason=reason) for reason in reasons)
