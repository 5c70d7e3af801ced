"""The schemas of what the charts render: Kubernetes' own, and for custom resources those of this folder.

The latter hold the fields that the charts use, typed as the custom resource definitions of prometheus-operator 0.85 and KServe 0.20
have them, and refuse every other: what is misspelt here would be dropped there in silence.
"""

import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from rendered.charts import Object, pod_of
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.route import compile_route

_ROUTES = Path(__file__).resolve().parents[3] / "manifests" / "crds" / "signalroutes.signalyard.io.yaml"
_SCHEMAS = Path(__file__).resolve().parents[1] / "schemas"
KUBERNETES = "1.34"


def validate(each: Object) -> None:
    """Raises kubernetes_validate.ValidationError, jsonschema.ValidationError or, for a route, what the router says against it."""
    kind = each["kind"]
    if kind == "SignalRoute":
        jsonschema.validate(each, _route_schema(), cls=jsonschema.Draft4Validator)
        # The definition cannot say everything, and its server drops in silence what it does not know.
        compile_route(parse_document({**each, "metadata": {"name": each["metadata"]["name"]}}, kind))
    elif (_SCHEMAS / f"{kind}.json").exists():
        schema: dict[str, Any] = json.loads((_SCHEMAS / f"{kind}.json").read_text())
        jsonschema.validate(each, schema, cls=jsonschema.Draft202012Validator)
        if kind == "InferenceService":
            pod = pod_of(each)
            kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **pod}, KUBERNETES, strict=True)
    else:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)


def _route_schema() -> dict[str, Any]:
    (version,) = yaml.safe_load(_ROUTES.read_text())["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema
