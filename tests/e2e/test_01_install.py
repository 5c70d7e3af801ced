"""helm install of router and model: ready, a prediction through the Service, its signal at a subscriber."""

from bundles import MODEL
from desk import DEADLINE, ROUTER, ROUTER_POD, WINDOW
from traffic.subscriber import Subscriber


def test_01_install(desk, scenario, cluster):
    desk.install_router()
    desk.install_model(desk.model("7"))
    desk.await_ready()
    for release in (ROUTER, MODEL):
        scenario.helm("test", release)

    follow = ["kubectl", "-n", scenario.namespace, "exec", ROUTER_POD, "--", "signalyard", "journal", "tail"]
    tail = cluster.client([*follow, "--lines=1", "--follow", "--json"])
    with Subscriber(tail, scenario.folder / "subscriber.jsonl", cluster.environment()) as subscriber:
        scenario.until(subscriber.follows, "the subscriber follows")
        with scenario.load(ROUTER, rate=50, deadline=DEADLINE) as load:
            load.await_more(300)
        signals = [one for line in load.lines() for one in line["decisions"] if one["outcome"] == "emitted"]
        subscriber.await_signals({one["signal_id"] for one in signals})
        received = [one["signal_id"] for one in subscriber.signals()]
    opinions = desk.ask("/v1/state")["opinions"]
    account = scenario.account(load, window=WINDOW, pod=ROUTER_POD)

    assert account.requests >= 300
    assert account.failures == account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    assert set(account.versions) == {"7"}
    assert not account.marks
    assert {one["digest"] for one in signals} == {desk.published.version("7")["digest"]}
    assert {one["direction"] for one in signals} == {"long", "short"}
    # Each signal that the strategy was answered came to the subscriber, once, and no other.
    assert sorted(received) == sorted(one["signal_id"] for one in signals)
    # What a strategy that connects now is told is what was said last of each instrument.
    last = {
        line["symbol"]: one["signal_id"] for line in load.lines() for one in line["decisions"] if "signal_id" in one
    }
    assert {one["symbol"]: one["signal_id"] for one in opinions} == last
    assert [desk.condition(kind)["status"] for kind in ("VersionDrift", "Overridden", "Halted")] == ["False"] * 3
