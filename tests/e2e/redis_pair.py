"""Two Redis servers in a scenario's namespace, the second one a replica of the first; a Service leads to one of them."""

import json
from dataclasses import dataclass, field
from typing import Any

from desk import ROUTER
from plain import SECURE
from scenario import Scenario

SERVICE = "redis"
_PASSWORD = "told-to-routers"
_PORT = 6379
PODS = (f"{ROUTER}-0", f"{ROUTER}-1")
"""The routers' that share their journal on it."""
SHARED = {
    "replicas": len(PODS),
    "journal": {"redis": {"urlSecret": {"name": SERVICE, "key": "url"}}},
    "networkPolicy": {
        "egress": [
            {
                "to": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "redis"}}}],
                "ports": [{"port": _PORT, "protocol": "TCP"}],
            }
        ]
    },
}
"""Their values."""


@dataclass
class RedisPair:
    """``image`` starts redis-server. ``serving`` is the pod that the Service leads to."""

    scenario: Scenario
    image: str
    serving: str = field(default="redis-a", init=False)

    def start(self) -> None:
        """Back when both are there and the second one has what the first has. Raises CommandError, TimeoutError."""
        url = f"redis://:{_PASSWORD}@{SERVICE}:{_PORT}/0"
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SERVICE}, "stringData": {"url": url}}
        spec = {"selector": {"server": self.serving}, "ports": [{"port": _PORT}]}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE}, "spec": spec}
        self.scenario.apply(secret, service, self._pod("redis-a"), self._pod("redis-b", "--replicaof", SERVICE, _PORT))
        self.scenario.kubectl(
            "wait", "--for=condition=Ready", "pod/redis-a", "pod/redis-b", "--timeout=60s", timeout=70
        )
        self.await_copy("redis-b")

    def ask(self, pod: str, *words: object) -> str:
        """One server's answer to a command. Raises CommandError."""
        return self.scenario.kubectl("exec", pod, "--", "redis-cli", "--raw", *words).strip()

    def await_copy(self, pod: str) -> None:
        """Until it is connected to the server that it copies. Raises TimeoutError."""
        self.scenario.until(
            lambda: "master_link_status:up" in self.ask(pod, "INFO", "replication"), f"{pod} is a replica"
        )

    def fail_over(self, pod: str) -> None:
        """Make ``pod``, a replica, the server, and lead the Service there. Raises CommandError."""
        self.ask(pod, "REPLICAOF", "NO", "ONE")
        selector = json.dumps({"spec": {"selector": {"server": pod}}})
        self.scenario.kubectl("patch", "service", SERVICE, "--patch", selector)
        self.serving = pod

    def signals(self) -> list[dict[str, Any]]:
        """Those that stand in the stream of the shared log, on the server in service. Raises CommandError."""
        key = f"{{{self.scenario.namespace}.{ROUTER}}}:signals"
        entries = self.ask(self.serving, "XRANGE", key, "-", "+").splitlines()
        return [json.loads(line) for line in entries if line.startswith("{")]

    def _pod(self, name: str, *options: object) -> dict[str, Any]:
        settings = ["--dir", "/data", "--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction"]
        settings += ["--requirepass", _PASSWORD, "--masterauth", _PASSWORD, "--repl-diskless-sync-delay", "0"]
        container = {
            "name": "redis",
            "image": self.image,
            "args": [*settings, *map(str, options)],
            "env": [{"name": "REDISCLI_AUTH", "value": _PASSWORD}],
            "ports": [{"containerPort": _PORT}],
            "readinessProbe": {"tcpSocket": {"port": _PORT}, "periodSeconds": 1},
            "securityContext": SECURE,
            "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }
        spec = {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": True, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [{"name": "data", "emptyDir": {}}],
        }
        labels = {"app.kubernetes.io/name": "redis", "server": name}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
