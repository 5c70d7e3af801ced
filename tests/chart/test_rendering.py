"""Every way to use the charts: linted, rendered, held against the API server's schemas and the `restricted` level."""

from typing import Any

import helm_python
import pytest
from rendered.charts import HELM, Rendered, render, uses, values_of
from rendered.restricted import house_violations, restricted_violations
from rendered.schemas import validate

every_use = pytest.mark.parametrize(("chart", "use"), uses())


@pytest.fixture(scope="module")
def releases() -> dict[tuple[str, str], Rendered]:
    return {(chart, use): render(chart, values_of(chart, use)) for chart, use in uses()}


def labels_of(each: dict[str, Any]) -> dict[str, str]:
    return each["metadata"].get("labels", {})


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


@every_use
def test_helm_lint_finds_nothing(chart: str, use: str) -> None:
    found = helm_python.lint(str(HELM / chart), values=values_of(chart, use), strict=True)
    assert found["total_charts_linted"] == 1
    assert found["errors"] == []
    assert [each["error"] for each in found["messages"]] == ["icon is recommended"]


@every_use
def test_every_object_is_one_that_the_api_server_takes(
    releases: dict[tuple[str, str], Rendered], chart: str, use: str
) -> None:
    objects = releases[chart, use].objects
    assert objects
    for each in objects:
        validate(each)


@every_use
def test_every_pod_passes_the_restricted_level_and_ours(
    releases: dict[tuple[str, str], Rendered], chart: str, use: str
) -> None:
    pods = dict(releases[chart, use].pods())
    assert pods
    found = {name: restricted_violations(pod["spec"]) + house_violations(pod["spec"]) for name, pod in pods.items()}
    # KServe's container gets its volumes from the runtime; all else is said by the chart.
    assert found == {name: [] for name in pods}


@every_use
def test_names_are_unique_and_everything_is_labelled(
    releases: dict[tuple[str, str], Rendered], chart: str, use: str
) -> None:
    objects = releases[chart, use].objects
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))
    assert all(namespace for _, namespace, _ in names)
    for each in objects:
        assert labels_of(each)["app.kubernetes.io/instance"] == "rel"
        # Labels of other controllers make them think that the object is theirs.
        assert not [key for key in labels_of(each) if "kserve" in key or "knative" in key]


@every_use
def test_every_selector_finds_pods_and_every_port_is_theirs(
    releases: dict[tuple[str, str], Rendered], chart: str, use: str
) -> None:
    release = releases[chart, use]
    pods = [pod for name, pod in release.pods() if not name.startswith("Pod/")]
    services = release.of("Service")
    for service in services.values():
        chosen = [pod for pod in pods if selects(service["spec"]["selector"], labels_of(pod))]
        assert chosen, service["metadata"]["name"]
        for pod in chosen:
            ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
            for port in service["spec"]["ports"]:
                # An InferenceService's ports are the runtime's.
                assert not ports or port["targetPort"] in {
                    each for p in ports for each in (p["name"], p["containerPort"])
                }
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        for each in release.of(kind).values():
            selector = each["spec"].get("selector", each["spec"].get("podSelector"))["matchLabels"]
            assert [pod for pod in pods if selects(selector, labels_of(pod))], each["metadata"]["name"]
    for monitor in release.of("ServiceMonitor").values():
        scraped = [
            service
            for service in services.values()
            if selects(monitor["spec"]["selector"]["matchLabels"], labels_of(service))
        ]
        # One Service a pod, or every series would be there twice.
        found = [[s for s in scraped if selects(s["spec"]["selector"], labels_of(pod))] for pod in pods]
        assert [len(each) for each in found] == [1] * len(pods)
        (endpoint,) = monitor["spec"]["endpoints"]
        assert all(endpoint["port"] in {port["name"] for port in service["spec"]["ports"]} for service in scraped)


@every_use
def test_only_a_router_that_watches_has_a_token(
    releases: dict[tuple[str, str], Rendered], chart: str, use: str
) -> None:
    release = releases[chart, use]
    with_token = [name for name, pod in release.pods() if pod["spec"]["automountServiceAccountToken"]]
    watching = chart == "router" and values_of(chart, use).get("routes", {}).get("from") != "configMap"
    assert len(with_token) == (1 if watching else 0)
    assert bool(release.of("Role")) == watching
    assert not release.of("ClusterRole")
    assert not any(account["automountServiceAccountToken"] for account in release.of("ServiceAccount").values())


def test_the_templates_that_both_charts_have_are_the_same() -> None:
    for name in ("_containers.tpl", "_rules.tpl"):
        model, router = (HELM / chart / "templates" / name for chart in ("model", "router"))
        assert model.read_text() == router.read_text()
