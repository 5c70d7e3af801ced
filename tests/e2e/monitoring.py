"""Prometheus, Alertmanager and a webhook receiver in a scenario's namespace, as prometheus-operator runs them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from cluster.places import PROJECT
from plain import deployment, probe, service
from scenario import Scenario

_NAME = "watch"
_PORT = 8000
_RECEIVER = Path(__file__).with_name("receiver.py")
_EXAMPLE = PROJECT / "manifests" / "alertmanager.yaml"
# The example's times, in which people are told, made a test's.
_TIMES = {"group_wait: 10s": "group_wait: 1s", "group_interval: 1m": "group_interval: 2s"}
_POD = {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
_SMALL = {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "512Mi"}}


@dataclass(frozen=True)
class Monitoring:
    """Alertmanager has the configuration that we ship, with the receiver in the place of its three and shorter times."""

    scenario: Scenario
    prometheus_image: str
    alertmanager_image: str
    receiver_image: str

    def start(self) -> None:
        """Not waited for: it may come up beside others. Raises CommandError."""
        self.scenario.apply(*self._receiver(), *self._alertmanager(), *self._prometheus())

    def await_ready(self) -> None:
        """Raises CommandError, TimeoutError."""
        self.scenario.await_rollout("deployment/receiver")
        for what in ("alertmanager", "prometheus"):
            name = f"statefulset/{what}-{_NAME}"
            self.scenario.until(lambda name=name: bool(self.scenario.kubectl("get", name, "--ignore-not-found")), name)
            self.scenario.await_rollout(name)

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """What Prometheus makes of it now: labels and value of each series. Raises CommandError."""
        result = self._ask(f"/api/v1/query?query={quote(expression)}")["result"]
        return [(one["metric"], float(one["value"][1])) for one in result]

    def rules(self) -> list[dict[str, Any]]:
        """All that Prometheus has, with their ``health`` and ``lastError``. Raises CommandError."""
        return [rule for group in self._ask("/api/v1/rules")["groups"] for rule in group["rules"]]

    def told(self) -> list[dict[str, Any]]:
        """What the receiver was told, oldest first: ``place`` (``pager``, ``desk``, ``log``), ``status``, ``labels``,
        ``annotations``. Raises CommandError."""
        return [json.loads(line) for line in self.scenario.kubectl("logs", "deployment/receiver").splitlines()]

    def await_told(self, alert: str, status: str, place: str, timeout: float = 120.0, **labels: str) -> dict[str, Any]:
        """The newest message of the alert at the place, once it has this status (``firing``, ``resolved``). Raises TimeoutError."""

        wanted = {"alertname": alert, **labels}

        def newest() -> dict[str, Any]:
            ours = [one for one in self.told() if one["place"] == place and wanted.items() <= one["labels"].items()]
            return ours[-1] if ours else {}

        self.scenario.until(lambda: newest().get("status") == status, f"{place} is told: {alert} {status}", timeout)
        return newest()

    def await_quiet(self, alert: str, timeout: float = 120.0) -> None:
        """Wait until it does not fire, and whoever was told that it did was told that it is over. Raises TimeoutError."""

        def quiet() -> bool:
            ours = [one for one in self.told() if one["labels"]["alertname"] == alert]
            newest = {(one["place"], *sorted(one["labels"].items())): one["status"] for one in ours}
            return "firing" not in newest.values() and not self.query(f'ALERTS{{alertname="{alert}"}}')

        self.scenario.until(quiet, f"{alert} is quiet", timeout)

    def _ask(self, path: str) -> Any:
        through = f"/api/v1/namespaces/{self.scenario.namespace}/services/prometheus-operated:9090/proxy"
        return json.loads(self.scenario.kubectl("get", "--raw", through + path))["data"]

    def _receiver(self) -> list[Mapping[str, Any]]:
        container = {
            "name": "receiver",
            "image": self.receiver_image,
            "command": ["python3", "-c", _RECEIVER.read_text(), str(_PORT)],
            "ports": [{"name": "http", "containerPort": _PORT}],
            "readinessProbe": probe("/"),
        }
        return [deployment("receiver", [container], []), service("receiver", 80)]

    def _alertmanager(self) -> list[Mapping[str, Any]]:
        text = _EXAMPLE.read_text()
        for told, short in _TIMES.items():
            if told not in text:
                raise LookupError(f"{_EXAMPLE} has no {told!r}")
            text = text.replace(told, short)
        configuration = yaml.safe_load(text)
        for receiver in configuration["receivers"]:
            for webhook in receiver["webhook_configs"]:
                webhook["url"] = f"http://receiver.{self.scenario.namespace}.svc/{receiver['name']}"
        secret = {"alertmanager.yaml": yaml.safe_dump(configuration)}
        # The last version of Debian's package that the image may hold.
        spec = {"image": self.alertmanager_image, "version": "v0.25.0", "configSecret": "alertmanager"}
        return [
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "alertmanager"}, "stringData": secret},
            _custom("Alertmanager", spec),
        ]

    def _prometheus(self) -> list[Mapping[str, Any]]:
        read = ["get", "list", "watch"]
        found = [
            {"apiGroups": [""], "resources": ["services", "pods"], "verbs": read},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
        ]
        rbac = "rbac.authorization.k8s.io"
        role = {"apiGroup": rbac, "kind": "Role", "name": "prometheus"}
        account = {"kind": "ServiceAccount", "name": "prometheus", "namespace": self.scenario.namespace}
        named = {"metadata": {"name": "prometheus"}}
        spec = {
            "image": self.prometheus_image,
            "version": "v3.13.2",
            "serviceAccountName": "prometheus",
            "serviceDiscoveryRole": "EndpointSlice",
            "serviceMonitorSelector": {},
            "ruleSelector": {},
            "scrapeInterval": "2s",
            "evaluationInterval": "2s",
            "alerting": {
                "alertmanagers": [
                    {"namespace": self.scenario.namespace, "name": "alertmanager-operated", "port": "web"}
                ]
            },
        }
        return [
            {"apiVersion": "v1", "kind": "ServiceAccount", **named},
            {"apiVersion": f"{rbac}/v1", "kind": "Role", **named, "rules": found},
            {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", **named, "roleRef": role, "subjects": [account]},
            _custom("Prometheus", spec),
        ]


def _custom(kind: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    whole = {"replicas": 1, "imagePullPolicy": "IfNotPresent", "securityContext": _POD, "resources": _SMALL, **spec}
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": {"name": _NAME}, "spec": whole}
