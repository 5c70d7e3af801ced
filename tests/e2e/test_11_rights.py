"""A namespace that enforces `restricted` lets every pod of both charts in; the router's account may do what the router does, and nothing
else."""

import json
import re

import pytest
from bundles import MODEL
from cluster.commands import CommandError
from desk import DEADLINE, ROUTER, ROUTER_POD, WINDOW

# All of it. Resource, the names it is bound to, verbs.
ROUTERS = {
    ("signalroutes.signalyard.io", "[]", "[list watch]"),
    ("signalgroups.signalyard.io", "[]", "[list watch]"),
    ("signalroutes.signalyard.io/status", "[]", "[patch]"),
    ("services", "[]", "[list watch]"),
    ("endpointslices.discovery.k8s.io", "[]", "[list watch]"),
    ("pods", "[]", "[get]"),
    ("leases.coordination.k8s.io", f"[{ROUTER}]", "[get update]"),
}


def rights(cluster, namespace, account):
    """What `kubectl auth can-i --list` says that an account may do in a namespace."""
    text = cluster.run("kubectl", "auth", "can-i", "--list", "-n", namespace, "--as", account)
    head, *rows = text.splitlines()
    titles = ("Resources", "Non-Resource URLs", "Resource Names", "Verbs")
    places = [head.index(title) for title in titles]
    cut = [[row[at:end].strip() for at, end in zip(places, [*places[1:], None], strict=True)] for row in rows]
    return {(resource or url, names, verbs) for resource, url, names, verbs in cut}


def tokens(pod):
    """The volumes of a pod that hold a token of its account."""
    sources = [source for volume in pod["spec"]["volumes"] for source in volume.get("projected", {}).get("sources", ())]
    return [source for source in sources if "serviceAccountToken" in source]


def test_11_rights(desk, scenario, cluster):
    version = desk.published.version
    values = desk.model(
        "7",
        tracks={"canary": {**version("8"), "weight": 10}, "shadow": version("9")},
        standbys=[version("6")],
    )
    # Nothing less strict gets in.
    with pytest.raises(CommandError, match="violates PodSecurity"):
        scenario.kubectl("run", "careless", f"--image={desk.router_image}")
    desk.install_router()
    desk.install_model(values)
    desk.await_ready()

    with scenario.load(ROUTER, rate=40, deadline=DEADLINE) as load:
        load.await_more(100)
        for release in (ROUTER, MODEL):
            scenario.helm("test", release)
        pods = {one["metadata"]["name"]: one for one in scenario.get("pods")["items"]}
        # What every account may do, such as asking what it may do.
        anybody = rights(cluster, scenario.namespace, f"system:serviceaccount:{scenario.namespace}:default")
        account = f"system:serviceaccount:{scenario.namespace}:{ROUTER}"
        here = rights(cluster, scenario.namespace, account)
        elsewhere = [rights(cluster, other, account) for other in ("default", "kube-system")]
        models = rights(cluster, scenario.namespace, f"system:serviceaccount:{scenario.namespace}:{MODEL}")
        refused = desk.metric("signalyard_kube_failures_total")
        leads = desk.metric("signalyard_kube_leader")
        load.await_more(100)
    account = scenario.account(load, window=WINDOW, pod=ROUTER_POD)

    assert here - anybody == ROUTERS
    assert anybody <= here
    assert [one - anybody for one in elsewhere] == [set(), set()]
    assert models == anybody
    # It could do all that it tried, and a write of a status is among that.
    assert (refused, leads) == (0, 1)
    tracks = {re.sub(r"-[0-9a-z]+-[0-9a-z]{5}$", "", name) for name in pods}
    assert tracks == {f"{ROUTER}-0", *(f"{MODEL}-{track}" for track in ("stable", "canary", "shadow", "standby-6"))}
    assert [name for name, pod in pods.items() if tokens(pod)] == [f"{ROUTER}-0"], json.dumps(pods, indent=1)
    assert account.failures == account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    assert set(account.versions) == {"7", "8"}
