"""Renders a chart by helm's own engine, in this process."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python
import yaml

HELM = Path(__file__).resolve().parents[3] / "helm"
CHARTS = ("model", "router")
RELEASE = "rel"
NAMESPACE = "trading"

Object = dict[str, Any]

_POD_TEMPLATES = ("Deployment", "StatefulSet")


@dataclass(frozen=True)
class Rendered:
    """The objects of a release, in the order in which the chart renders them, and the notes that helm prints."""

    objects: tuple[Object, ...]
    notes: str

    def of(self, kind: str) -> dict[str, Object]:
        """The objects of one kind by name."""
        return {each["metadata"]["name"]: each for each in self.objects if each["kind"] == kind}

    def pods(self) -> Iterator[tuple[str, Object]]:
        """The pods that the objects ask for, as {metadata, spec}, each with the name of its object."""
        for each in self.objects:
            name = f"{each['kind']}/{each['metadata']['name']}"
            if each["kind"] in _POD_TEMPLATES:
                yield name, each["spec"]["template"]
            elif each["kind"] == "Pod":
                yield name, each
            elif each["kind"] == "InferenceService":
                yield name, pod_of(each)


def pod_of(service: Object) -> Object:
    """The pod that KServe's controller makes of an InferenceService, as far as the service says: not what the ServingRuntime adds."""
    predictor = copy.deepcopy(service["spec"]["predictor"])
    model = predictor.pop("model")
    metadata = {key: predictor.pop(key) for key in ("labels", "annotations")}
    for field in ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "deploymentStrategy"):
        predictor.pop(field, None)
    for field in ("modelFormat", "protocolVersion", "runtime", "storageUri"):
        model.pop(field)
    return {"metadata": metadata, "spec": {**predictor, "containers": [{"name": "kserve-container", **model}]}}


def values_of(chart: str, use: str) -> dict[str, Any]:
    """The values of a way to use the chart, such as ``01-defaults``."""
    values: dict[str, Any] = yaml.safe_load((HELM / chart / "ci" / f"{use}-values.yaml").read_text())
    return values


def uses() -> list[tuple[str, str]]:
    """Every chart with every way to use it."""
    return [
        (chart, path.name.removesuffix("-values.yaml"))
        for chart in CHARTS
        for path in sorted((HELM / chart / "ci").glob("*-values.yaml"))
    ]


def render(chart: str | Path, values: dict[str, Any]) -> Rendered:
    """What ``helm template`` would print. Raises helm_python.HelmError where the chart refuses the values."""
    with helm_python.Chart.load(str(HELM / chart)) as loaded:
        files = loaded.render(values, name=RELEASE, namespace=NAMESPACE)
    notes = next((text for path, text in files.items() if path.endswith("NOTES.txt")), "")
    texts = [text for path, text in sorted(files.items()) if not path.endswith("NOTES.txt")]
    objects = tuple(each for text in texts for each in yaml.safe_load_all(text) if each is not None)
    return Rendered(objects, notes)


def changed(values: dict[str, Any], **paths: Any) -> dict[str, Any]:
    """``values`` with some of them changed: ``tracks__stable__version="8"`` for tracks.stable.version."""
    result = copy.deepcopy(values)
    for path, value in paths.items():
        *above, last = path.split("__")
        place = result
        for key in above:
            place = place.setdefault(key, {})
        place[last] = value
    return result
