"""helm uninstall: nothing is left of what the charts made, or the pods did."""

from bundles import MODEL
from desk import DEADLINE, ROUTER, ROUTER_POD, WINDOW

# What every namespace has.
GIVEN = {"serviceaccount/default", "configmap/kube-root-ca.crt"}


def test_12_uninstall(desk, scenario):
    assert _left(scenario) == set()
    version = desk.published.version
    desk.install_router(dashboards={"enabled": True})
    desk.install_model(
        desk.model(
            "7",
            tracks={"canary": {**version("8"), "weight": 10}, "shadow": {**version("9"), "mirror": 100}},
            standbys=[version("6")],
            dashboards={"enabled": True},
            pods={"autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": 2}},
        )
    )
    desk.await_ready()
    made = _left(scenario)
    with scenario.load(ROUTER, rate=30, deadline=DEADLINE) as load:
        load.await_more(150)
    account = scenario.account(load, window=WINDOW, pod=ROUTER_POD)
    assert account.failures == account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost

    for release in (MODEL, ROUTER):
        scenario.helm("uninstall", release, "--wait", "--timeout=120s")
    scenario.until(lambda: _left(scenario) == set(), "nothing is left", timeout=60)
    assert not _cluster_wide(scenario)
    kinds = {name.split("/")[0].split(".")[0] for name in made}
    # There was something to be left.
    assert kinds >= {
        *(
            "pod",
            "deployment",
            "statefulset",
            "service",
            "endpointslice",
            "configmap",
            "serviceaccount",
            "role",
            "rolebinding",
        ),
        *(
            "persistentvolumeclaim",
            "poddisruptionbudget",
            "horizontalpodautoscaler",
            "networkpolicy",
            "lease",
            "signalroute",
        ),
    }


def _left(scenario):
    """Every object of the namespace, whatever its kind, as kind/name."""
    kinds = scenario.kubectl("api-resources", "--verbs=list", "--namespaced", "--output=name").split()
    asked = ",".join(kind for kind in kinds if kind.split(".")[0] != "events" and "metrics.k8s.io" not in kind)
    return set(scenario.kubectl("get", asked, "--output=name", "--ignore-not-found").split()) - GIVEN


def _cluster_wide(scenario):
    """What belongs to no namespace and is a chart's."""
    kinds = "clusterroles,clusterrolebindings,customresourcedefinitions,validatingwebhookconfigurations,priorityclasses"
    charts = "app.kubernetes.io/name in (signalyard-router,signalyard-model)"
    return scenario.cluster.run("kubectl", "get", kinds, "--selector", charts, "--output=name").split()
