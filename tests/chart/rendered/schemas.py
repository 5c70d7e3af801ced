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

_ROOT = Path(__file__).resolve().parents[3]
_SCHEMAS = Path(__file__).resolve().parents[1] / "schemas"
KUBERNETES = "1.34"


def validate(each: Object) -> None:
    """Raises kubernetes_validate.ValidationError or jsonschema.ValidationError."""
    kind = each["kind"]
    if kind == "SignalRoute":
        jsonschema.validate(each, _definition("signalroutes"), cls=jsonschema.Draft202012Validator)
    elif (_SCHEMAS / f"{kind}.json").exists():
        schema: dict[str, Any] = json.loads((_SCHEMAS / f"{kind}.json").read_text())
        jsonschema.validate(each, schema, cls=jsonschema.Draft202012Validator)
        if kind == "InferenceService":
            pod = pod_of(each)
            kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **pod}, KUBERNETES, strict=True)
    else:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)


def _definition(plural: str) -> dict[str, Any]:
    """The schema of our own custom resource, from the definition that is installed."""
    for path in sorted((_ROOT / "manifests" / "crds").glob("*.yaml")):
        for definition in yaml.safe_load_all(path.read_text()):
            if definition["spec"]["names"]["plural"] == plural:
                (version,) = definition["spec"]["versions"]
                schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
                return schema
    raise LookupError(f"no custom resource definition has the plural {plural}")
