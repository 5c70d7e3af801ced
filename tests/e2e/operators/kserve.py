"""KServe's controller in Standard mode: once a cluster, for every namespace."""

import base64
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from cluster import programs
from cluster.commands import CommandError, run
from cluster.contract import Cluster
from cluster.definitions import define

NAMESPACE = "kserve"
_MODULE = "github.com/kserve/kserve"
_WEBHOOKS = "kserve-webhook-server-service"
_CERTIFICATE = "kserve-webhook-server-cert"
_MANAGER = "kserve-controller-manager"
# Without Knative, and without an ingress, which the router makes needless.
_SETTINGS = {
    "deploy": {"defaultDeploymentMode": "Standard"},
    "ingress": {"disableIngressCreation": True},
}
# What the webhooks are asked about, to see whether they answer.
_PROBE = {
    "apiVersion": "serving.kserve.io/v1alpha1",
    "kind": "ServingRuntime",
    "metadata": {"name": "probe", "namespace": NAMESPACE},
    "spec": {
        "supportedModelFormats": [{"name": "probe", "version": "1"}],
        "containers": [{"name": "kserve-container", "image": "probe"}],
    },
}
_ATTEMPTS = 60
# There is no cert-manager here: the certificate is made by openssl.
_LEFT_OUT = ("Certificate", "Issuer")


@dataclass(frozen=True)
class KServe:
    """Its manifests need cert-manager and images from a registry; here they get a certificate and an image of our own."""

    cluster: Cluster

    def install(self) -> None:
        """Back when it is at work. Raises CommandError."""
        charts = programs.source("kserve", _MODULE) / "charts"
        definitions = self.cluster.run("helm", "template", "kserve-crd", charts / "kserve-crd")
        define(partial(self.cluster.run, "kubectl"), "-f", "-", stdin=definitions)
        files = charts / "kserve-resources" / "files"
        # A controller that runs takes up another certificate only after a while, so one that is there stays.
        kept = self.cluster.run(
            "kubectl", "-n", NAMESPACE, "get", "secret", _CERTIFICATE, "--ignore-not-found", "-o", "json"
        )
        data = json.loads(kept)["data"] if kept else _certificate(f"{_WEBHOOKS}.{NAMESPACE}.svc")
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": _CERTIFICATE, "namespace": NAMESPACE},
            "data": data,
        }
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        theirs = (self._ours(one, data["tls.crt"]) for one in _objects(files / "kserve" / "resources.yaml"))
        configuration = map(_settled, _objects(files / "common" / "configmap.yaml"))
        whole = {"apiVersion": "v1", "kind": "List", "items": [namespace, secret, *configuration, *theirs]}
        self.cluster.run("kubectl", "apply", "--server-side", "-f", "-", stdin=json.dumps(whole))
        self.cluster.run(
            "kubectl", "-n", NAMESPACE, "rollout", "status", f"deployment/{_MANAGER}", "--timeout=120s", timeout=130
        )
        self._await_webhooks()

    def _await_webhooks(self) -> None:
        """A pod that is ready is not yet behind its Service's address, which is all that the API server knows of it."""
        for attempt in range(_ATTEMPTS):
            try:
                self.cluster.run("kubectl", "apply", "--dry-run=server", "-f", "-", stdin=json.dumps(_PROBE))
            except CommandError as exc:
                if "failed calling webhook" not in str(exc) or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(1.0)
            else:
                return

    def _ours(self, one: dict[str, Any], certificate: str) -> dict[str, Any]:
        for webhook in one.get("webhooks", ()):
            webhook["clientConfig"]["caBundle"] = certificate
        if one["kind"] == "Deployment":
            pod = one["spec"]["template"]["spec"]
            # The other container guards metrics that nobody asks for.
            (manager,) = (container for container in pod["containers"] if container["name"] == "manager")
            pod["containers"] = [manager]
            del manager["command"]
            manager |= {
                "image": self.cluster.program_image("kserve-controller"),
                "imagePullPolicy": "IfNotPresent",
                "resources": {"requests": {"cpu": "10m", "memory": "128Mi"}},
            }
            for probe in (manager["readinessProbe"], manager["livenessProbe"]):
                probe |= {"initialDelaySeconds": 1, "periodSeconds": 1, "failureThreshold": 60}
        return one


def _objects(file: Path) -> Iterator[dict[str, Any]]:
    for one in yaml.safe_load_all(file.read_text()):
        if one and one["kind"] not in _LEFT_OUT:
            one["metadata"].pop("creationTimestamp", None)
            yield one


def _settled(configuration: dict[str, Any]) -> dict[str, Any]:
    """The ConfigMap that the controller reads, with our settings over the shipped ones."""
    configuration["metadata"]["namespace"] = NAMESPACE
    for part, settings in _SETTINGS.items():
        shipped = json.loads(configuration["data"][part])
        configuration["data"][part] = json.dumps(shipped | settings)
    return configuration


def _certificate(name: str) -> dict[str, str]:
    """A certificate for ``name`` that vouches for itself, and its key, in base64. Raises CommandError."""
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder) / "tls.crt", Path(folder) / "tls.key"
        run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}"),
                *("-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", certificate),
            ],
            timeout=60,
        )
        return {file.name: base64.b64encode(file.read_bytes()).decode() for file in (certificate, key)}
