"""A version that no pod serves: the old one goes on, and why stands where people look."""

import json

from bundles import MODEL

LABELS = f"signalyard.io/model={MODEL},signalyard.io/track=stable"


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


def is_refused(desk, scenario, load, values, *parts):
    """Upgrade to ``values`` and look that stable's new version is not to be had, for a reason with these ``parts``."""
    old = stable_pods(scenario)
    desk.upgrade_model(values)

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
