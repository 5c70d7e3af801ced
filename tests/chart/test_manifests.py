"""The manifests that are applied as they are."""

from typing import Any

import kubernetes_validate
import yaml
from rendered.charts import HELM, render, values_of
from rendered.restricted import house_violations, restricted_violations
from rendered.schemas import KUBERNETES, validate

MANIFESTS = HELM.parent / "manifests"


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((MANIFESTS / path).read_text()))


def test_the_example_is_one_that_the_api_server_takes_in_a_restricted_namespace() -> None:
    deployment, service, route = documents("examples/rb-trend.yaml")
    for each in (deployment, service, route):
        validate(each)
    pod = deployment["spec"]["template"]["spec"]
    assert restricted_violations(pod) == []
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert route["spec"]["tracks"][0]["endpoint"] == {"service": service["metadata"]["name"], "port": 8080}


def test_the_namespace_enforces_the_restricted_level() -> None:
    (namespace,) = documents("namespace.yaml")
    validate(namespace)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def kserve_pod() -> dict[str, Any]:
    """The pod that KServe makes of our InferenceService, ServingRuntime and ClusterStorageContainer, put together as it does."""
    release = render("model", values_of("model", "04-kserve"))
    pod = dict(release.pods())["InferenceService/rb-trend-7"]["spec"]
    (runtime,), (storage,) = documents("kserve/servingruntime.yaml"), documents("kserve/clusterstoragecontainer.yaml")
    (ours,), (theirs,) = pod["containers"], runtime["spec"]["containers"]
    ours["env"] = [*theirs["env"], *ours["env"]]
    uri = release.of("InferenceService")["rb-trend-7"]["spec"]["predictor"]["model"]["storageUri"]
    puller = {**storage["spec"]["container"], "args": [uri, "/mnt/models"]}
    return {
        **pod,
        "containers": [{**theirs, **ours}],
        "initContainers": [puller],
        "volumes": runtime["spec"]["volumes"],
    }


def test_what_kserve_makes_of_ours_passes_the_restricted_level() -> None:
    pod = kserve_pod()
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}, KUBERNETES, strict=True
    )
    assert restricted_violations(pod) + house_violations(pod) == []


def test_kserve_serves_the_folder_that_it_fills_and_knows_our_prefix() -> None:
    pod = kserve_pod()
    (server,), (puller,) = pod["containers"], pod["initContainers"]
    assert server["args"][:3] == ["serve", "--models", puller["args"][1]]
    (storage,) = documents("kserve/clusterstoragecontainer.yaml")
    (form,) = storage["spec"]["supportedUriFormats"]
    assert puller["args"][0].startswith(form["prefix"])
    # One that KServe knows by itself would be fetched by whoever comes first.
    assert not form["prefix"].startswith(("s3", "gs", "http", "oci"))


def test_the_chart_asks_for_the_runtime_and_the_format_that_there_are() -> None:
    (runtime,) = documents("kserve/servingruntime.yaml")
    (service, *_) = render("model", values_of("model", "04-kserve")).of("InferenceService").values()
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] == runtime["spec"]["supportedModelFormats"][0]["name"]
    ports = {port["name"]: port["containerPort"] for port in runtime["spec"]["containers"][0]["ports"]}
    (ours, *_) = render("model", values_of("model", "04-kserve")).of("Service").values()
    assert ports == {port["name"]: port["targetPort"] for port in ours["spec"]["ports"]}
