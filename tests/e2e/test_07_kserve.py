"""KServe: the same model as InferenceServices under KServe's own controller; canary, shadow and a version change through the router."""

from collections import Counter

import pytest
import yaml
from bundles import MODEL
from cluster.places import PROJECT
from desk import DEADLINE, ROUTER, ROUTER_POD, WINDOW
from published import PLAIN_HTTP

MANIFESTS = PROJECT / "manifests" / "kserve"
WEIGHT = 50
BY = ("--by", "e2e", "--why", "a test")


def manifest(name, image):
    """Ours as it ships, with the image that is here."""
    one = yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text())
    spec = one["spec"]
    for container in [spec["container"]] if "container" in spec else spec["containers"]:
        container["image"] = image
    return one


@pytest.fixture
def puller(scenario, published, runtimes_image, kserve):
    """Who brings the bundles; there is one for the whole cluster."""
    one = manifest("clusterstoragecontainer", runtimes_image)
    one["spec"]["container"]["env"].append({"name": PLAIN_HTTP, "value": published.registry})
    scenario.apply(one)
    yield
    scenario.kubectl("delete", "clusterstoragecontainer", one["metadata"]["name"])


def pods(scenario):
    """Those that KServe's controller runs, by version."""
    found = scenario.get("pods")["items"]
    ours = [one for one in found if "serving.kserve.io/inferenceservice" in one["metadata"]["labels"]]
    return {one["metadata"]["annotations"]["signalyard.io/version"]: one["metadata"]["uid"] for one in ours}


def versions(lines):
    return Counter(one["version"] for line in lines for one in line["decisions"] if one["outcome"] == "emitted")


def test_07_kserve(desk, scenario, puller, runtimes_image):
    def values(stable, **more):
        # The client's instruments are never flat, so they would wait for ever.
        route = {"handover": "now"}
        return desk.model(stable, pods={"workload": "InferenceService", "pull": {}}, route=route, **more)

    version = desk.published.version
    scenario.apply(manifest("servingruntime", runtimes_image))
    desk.install_router()
    desk.install_model(values("7"))
    desk.await_ready()
    (owner,) = scenario.get("deployment", f"{MODEL}-7-predictor")["metadata"]["ownerReferences"]
    assert owner["kind"] == "InferenceService"
    first = pods(scenario)
    assert set(first) == {"7"}

    with scenario.load(ROUTER, rate=50, deadline=DEADLINE) as load:
        load.await_more(100)

        # A canary and a shadow: two more InferenceServices, and the split is the router's.
        trial = {"canary": {**version("8"), "weight": 0}, "shadow": {**version("9"), "mirror": 100}}
        desk.upgrade_model(values("7", tracks=trial))
        for name in ("8", "9"):
            what = f"inferenceservice/{MODEL}-{name}"
            scenario.kubectl("wait", "--for=condition=Ready", what, "--timeout=120s", timeout=130)
            scenario.until(
                lambda name=name: desk.metric("signalyard_track_endpoints_ready", version=name) == 1,
                f"the router knows the server of version {name}",
            )
        trial["canary"]["weight"] = WEIGHT
        desk.upgrade_model(values("7", tracks=trial))
        load.await_lines(lambda lines: versions(lines[-100:])["8"] > 0)
        scenario.until(lambda: desk.metric("signalyard_shadow_pairs_total", name="9") > 50, "the shadow is compared")
        desk.await_ready()
        begin = len(load.lines())
        load.await_more(200)
        tracks = {
            line["symbol"]: one["track"] for line in load.lines()[begin:] for one in line["decisions"] if "track" in one
        }
        scenario.until(
            lambda: scenario.get("signalroute", MODEL)["status"].get("assignment") == dict(Counter(tracks.values())),
            f"the status shows the assignment that the signals show: {Counter(tracks.values())}",
        )
        running = pods(scenario)
        assert running["7"] == first["7"]

        # The version is changed: 8 is stable, 7 stands by. Both run already, so no pod starts.
        desk.upgrade_model(values("8", standbys=[version("7")]))
        load.await_lines(lambda lines: set(versions(lines[-100:])) == {"8"})
        desk.await_ready()
        scenario.until(lambda: set(pods(scenario)) == {"7", "8"}, "the shadow's pod is gone")
        assert pods(scenario) == {name: running[name] for name in ("7", "8")}
        load.await_more(100)

        # And the way back.
        desk.signalyard("route", "rollback", MODEL, "--to", "7", *BY)
        load.await_lines(lambda lines: set(versions(lines[-50:])) == {"7"})
        assert pods(scenario) == {name: running[name] for name in ("7", "8")}
        load.await_more(100)
    account = scenario.account(load, window=WINDOW, pod=ROUTER_POD)

    assert account.failures == account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    assert set(account.versions) == {"7", "8"}
    assert not account.marks
    # Whatever was changed, a model answered, and the one that the route meant.
    assert "no_answer" not in account.reasons
    digests = {(one["version"], one["digest"]) for line in load.lines() for one in line["decisions"] if "digest" in one}
    assert digests == {(name, version(name)["digest"]) for name in ("7", "8")}
