"""A bundle with a wrong digest, or one that lacks a file: no pod of it becomes ready, the old version keeps serving, and why stands in
the pod's termination message and the route's status."""

import json

from bundles import MODEL
from desk import DEADLINE, ROUTER, ROUTER_POD, WINDOW

LABELS = f"signalyard.io/model={MODEL},signalyard.io/track=stable"
OTHER = f"sha256:{'5e' * 32}"
MISSING = "golden.json"


def stable_pods(scenario):
    """By name."""
    items = json.loads(scenario.kubectl("get", "pods", "-l", LABELS, "-o", "json"))["items"]
    return {pod["metadata"]["name"]: pod for pod in items}


def ready(pod):
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True"


def endings(pod):
    """What the containers of a pod left as the reason of their end."""
    status = pod["status"]
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    ends = [one.get(when, {}).get("terminated") or {} for one in containers for when in ("state", "lastState")]
    return [end["message"] for end in ends if end.get("message")]


def is_refused(desk, scenario, load, version, *parts):
    """Upgrade stable to ``version`` and look that it is not to be had, for a reason with these ``parts``."""
    old = stable_pods(scenario)
    desk.upgrade_model(desk.model("7", tracks={"stable": version}))

    def new():
        return {name: pod for name, pod in stable_pods(scenario).items() if name not in old}

    scenario.until(lambda: any(map(endings, new().values())), "a pod of the new version ended")
    (reason,) = {why.strip() for pod in new().values() for why in endings(pod)}
    assert all(part in reason for part in parts), reason
    scenario.until(lambda: reason in desk.condition("VersionDrift").get("message", ""), "the route's status says why")
    # It goes on trying, and the old version deciding.
    load.await_more(150)
    assert not any(map(ready, new().values()))
    assert all(ready(pod) for name, pod in stable_pods(scenario).items() if name in old)
    assert desk.condition("VersionDrift")["status"] == "True"
    assert desk.condition("TracksReady")["status"] == "True"
    assert desk.condition("Accepted")["status"] == "True"


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
        is_refused(desk, scenario, load, {**good, "digest": OTHER}, "bundle_file_changed", OTHER, good["digest"])
        is_refused(desk, scenario, load, lacking, "bundle_file_missing", MISSING)
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
