"""A bundle with a wrong digest, or one that lacks a file: no pod of it becomes ready, the old version keeps serving, and why stands in
the pod's termination message and the route's status."""

from bundles import MODEL
from desk import DEADLINE, ROUTER, ROUTER_POD, WINDOW
from refused import is_refused

OTHER = f"sha256:{'5e' * 32}"
MISSING = "golden.json"


def test_10_bundles(desk, scenario):
    desk.install_router()
    desk.install_model(desk.model("7"))
    desk.await_ready()
    good = desk.published.version("8")
    damaged = desk.published.bundles.version("9")
    lacking = {
        "version": "9",
        "digest": damaged.manifest.digest,
        "uri": desk.published.push_without(MISSING, damaged, f"damaged/{MODEL}:9"),
    }

    with scenario.load(ROUTER, rate=40, deadline=DEADLINE) as load:
        load.await_more(50)
        other = desk.model("7", tracks={"stable": {**good, "digest": OTHER}})
        is_refused(desk, scenario, load, other, "bundle_file_changed", OTHER, good["digest"])
        less = desk.model("7", tracks={"stable": lacking})
        is_refused(desk, scenario, load, less, "bundle_file_missing", MISSING)
        # The way out is as ever: a bundle that is what its digest says.
        desk.upgrade_model(desk.model("8"))
        scenario.await_rollout(f"deployment/{MODEL}-stable")
        desk.await_condition("VersionDrift", "False")
        load.await_lines(lambda lines: {one.get("version") for one in lines[-1]["decisions"]} == {"8"})
        load.await_more(50)
    account = scenario.account(load, window=WINDOW, pod=ROUTER_POD)

    assert account.failures == account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    assert set(account.versions) == {"7", "8"}
    signals = [one for line in load.lines() for one in line["decisions"] if one["outcome"] == "emitted"]
    digests = {"7": desk.published.version("7")["digest"], "8": good["digest"]}
    assert all(one["digest"] == digests[one["version"]] for one in signals)
    # What the route did not name is marked.
    assert account.marks["drift"] > 0
    assert set(account.marks) == {"drift"}
