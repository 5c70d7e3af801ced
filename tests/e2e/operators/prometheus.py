"""prometheus-operator: once a cluster, for every namespace."""

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml
from cluster import programs
from cluster.contract import Cluster
from cluster.definitions import define

NAMESPACE = "prometheus-operator"
_MODULE = "github.com/prometheus-operator/prometheus-operator"
_NAME = "prometheus-operator"


@dataclass(frozen=True)
class PrometheusOperator:
    """Its objects outside ``NAMESPACE`` are custom resource definitions and rights."""

    cluster: Cluster

    def install(self) -> None:
        """Back when it is at work. Raises CommandError."""
        examples = programs.source(_NAME, _MODULE) / "example"
        define(partial(self.cluster.run, "kubectl"), "-f", examples / "prometheus-operator-crd")
        files = sorted((examples / "rbac" / "prometheus-operator").glob("*.yaml"))
        objects = [one for file in files for one in yaml.safe_load_all(file.read_text())]
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        whole = [namespace, *(self._ours(one) for one in objects if one["kind"] != "ServiceMonitor")]
        self.cluster.run(
            "kubectl", "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": whole})
        )
        self.cluster.run(
            "kubectl", "-n", NAMESPACE, "rollout", "status", f"deployment/{_NAME}", "--timeout=120s", timeout=130
        )

    def _ours(self, one: dict[str, Any]) -> dict[str, Any]:
        """The example's object in our namespace, with images that are here."""
        if "namespace" in one["metadata"]:
            one["metadata"]["namespace"] = NAMESPACE
        for subject in one.get("subjects", ()):
            subject["namespace"] = NAMESPACE
        if one["kind"] == "Deployment":
            (container,) = one["spec"]["template"]["spec"]["containers"]
            container["image"] = self.cluster.program_image(_NAME)
            reloader = self.cluster.program_image("prometheus-config-reloader")
            # A tenth of a processor for the reloaders would make them late on a test's machine.
            container["args"] = [
                f"--prometheus-config-reloader={reloader}",
                "--config-reloader-cpu-limit=0",
                "--config-reloader-cpu-request=0",
            ]
            container["resources"] = {"requests": {"cpu": "10m", "memory": "64Mi"}}
        return one
