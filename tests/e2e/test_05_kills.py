"""A model pod, the router's, the API server, the node's kubelet killed, one at a time: no signal twice, no acknowledged decision lost,
every answer inside the deadline; what degraded is marked."""

import json

import pytest
from bundles import MODEL
from desk import DEADLINE, ROUTER, ROUTER_POD, WINDOW
from traffic.account import longest_silence

STANDBY = "6"
STABLE_POD = f"signalyard.io/model={MODEL},signalyard.io/track=stable"
ROUTERS_POD = "app.kubernetes.io/name=signalyard-router"


def failures(lines):
    return [attempt for line in lines for attempt in line["tries"] if "problem" in attempt]


def signals(lines):
    return [one for line in lines for one in line["decisions"] if one["outcome"] == "emitted"]


def versions(lines):
    return {one["version"] for one in signals(lines)}


def crash(cluster, scenario, label, container):
    """Kill a container of the one pod with that label; gives a condition: there is another one, and it is ready."""

    def one():
        (pod,) = json.loads(scenario.kubectl("get", "pods", "-l", label, "-o", "json"))["items"]
        (status,) = [each for each in pod["status"]["containerStatuses"] if each["name"] == container]
        return pod["metadata"]["name"], (pod["metadata"]["uid"], status["restartCount"]), status["ready"]

    name, before, _ = one()
    cluster.crash(scenario.namespace, name, container)

    def is_back():
        _, now, ready = one()
        return ready and now != before

    return is_back


@pytest.mark.kills
def test_05_kills(desk, scenario, cluster, summary):
    desk.install_router()
    desk.install_model(desk.model("7", standbys=[desk.published.version(STANDBY)]))
    desk.await_ready()

    with scenario.load(ROUTER, rate=80, deadline=DEADLINE, options=("--patience=60",)) as load:
        load.await_more(100)

        began = len(load.lines())
        is_back = crash(cluster, scenario, STABLE_POD, "server")
        load.await_lines(lambda lines: STANDBY in versions(lines[began:]))
        scenario.until(is_back, "the model server was started again")
        load.await_lines(lambda lines: versions(lines[-20:]) == {"7"}, timeout=90)
        assert not failures(load.lines())

        began = len(load.lines())
        is_back = crash(cluster, scenario, ROUTERS_POD, "router")
        load.await_lines(lambda lines: bool(failures(lines[began:])), timeout=90)
        scenario.until(is_back, "the router was started again")
        desk.await_ready()
        load.await_more(100)
        ended = len(load.lines())
        gap = longest_silence(load.lines()[began:ended])
        summary.notes["the gap of a router that was killed"] = f"{gap:.1f} s"

        cluster.kill("kube-apiserver")
        load.await_more(200)
        cluster.start("kube-apiserver")
        cluster.await_api()
        # Routes, groups, Services, EndpointSlices.
        scenario.until(lambda: desk.metric("signalyard_kube_current") == 4, "the router follows the API server again")
        desk.await_ready()

        cluster.kill("kubelet")
        load.await_more(200)
        cluster.start("kubelet")
        cluster.await_node()
        load.await_more(100)
        assert not failures(load.lines()[ended:])
        lines = load.lines()
    account = scenario.account(load, window=WINDOW, pod=ROUTER_POD)

    assert account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    assert set(account.versions) == {"7", STANDBY}
    # What the standby said is marked, and nothing else.
    assert set(account.marks) == {"failover"}
    assert all(one["failover"] == (one["version"] == STANDBY) for one in signals(lines))
