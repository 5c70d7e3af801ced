"""A router and a model in a scenario's namespace, installed and changed by helm as a platform team does it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bundles import MODEL
from cluster.places import PROJECT
from published import PLAIN_HTTP, Published
from scenario import Scenario

ROUTER = "router"
ROUTER_POD = f"statefulset/{ROUTER}"
WINDOW = 0.5
"""The route's ``dedupe.window``, seconds."""
DEADLINE = 0.25
"""The route's, seconds. The product's own default is 0.1; two processors on which pods start beside all the others hold this one."""
ROUTE = {
    "instruments": ["rb*.SHFE"],
    "deadline": f"{DEADLINE * 1000:.0f}ms",
    "maxAge": "30s",
    "mapping": {
        "long": {"enter": 0.6, "exit": 0.52},
        "short": {"enter": 0.4, "exit": 0.48},
        "otherwise": "abstain",
    },
    "dedupe": {"window": f"{WINDOW * 1000:.0f}ms"},
}
_ROUTER = {"requests": {"cpu": "200m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}}
_SMALL = {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}}
_CHARTS = PROJECT / "helm"


@dataclass(frozen=True)
class Desk:
    """The releases are ``ROUTER`` and ``MODEL``. Images are names with their tags."""

    scenario: Scenario
    published: Published
    router_image: str
    runtimes_image: str

    def install_router(self, release: str = ROUTER, **values: Any) -> None:
        """Not waited for: it comes up beside the model. Raises CommandError."""
        given = self._values(release, self.router(values))
        self.scenario.helm("install", release, _CHARTS / "router", *given)

    def install_model(self, values: Mapping[str, Any], *options: str) -> None:
        """``values`` go over :meth:`model`'s. Back when its pods are ready. Raises CommandError."""
        self.scenario.helm(
            "install", MODEL, _CHARTS / "model", "--wait", "--timeout=180s", *self._values(MODEL, values), *options
        )

    def upgrade_router(self, **values: Any) -> None:
        """Raises CommandError."""
        self.scenario.helm("upgrade", ROUTER, _CHARTS / "router", *self._values(ROUTER, self.router(values)))

    def upgrade_model(self, values: Mapping[str, Any], *options: str) -> None:
        """Raises CommandError."""
        self.scenario.helm("upgrade", MODEL, _CHARTS / "model", *self._values(MODEL, values), *options)

    def history(self, release: str) -> list[dict[str, Any]]:
        """Its revisions, oldest first. Raises CommandError."""
        revisions: list[dict[str, Any]] = json.loads(self.scenario.helm("history", release, "--output", "json"))
        return revisions

    def router(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The router's values: small, its journal going with it."""
        return {
            "image": _image(self.router_image),
            "resources": _ROUTER,
            "persistence": {"keep": False, "size": "1Gi"},
            "probes": {"readiness": {"periodSeconds": 1}},
            **values,
        }

    def model(self, stable: str, *, replicas: int = 1, **values: Any) -> dict[str, Any]:
        """The model's values with version ``stable``, pulled from the registry; ``tracks`` in ``values`` are merged in."""
        registry = self.published.registry
        tracks = {"stable": self.published.version(stable), **values.pop("tracks", {})}
        pods = {
            "image": _image(self.runtimes_image),
            "replicas": replicas,
            "resources": _SMALL,
            "warmup": 20,
            "pull": {"env": [{"name": PLAIN_HTTP, "value": registry}], "resources": _SMALL},
            "probes": {"startup": {"periodSeconds": 1}, "readiness": {"periodSeconds": 1, "failureThreshold": 5}},
        }
        return {
            "model": MODEL,
            "keep": {"fewer": "a test"},
            "tracks": tracks,
            "pods": {**pods, **values.pop("pods", {})},
            "route": {"spec": {**ROUTE, **values.pop("route", {})}},
            "networkPolicy": {"egress": [{"ports": [{"port": int(registry.rpartition(":")[2]), "protocol": "TCP"}]}]},
            **values,
        }

    def signalyard(self, *arguments: object, timeout: float = 60.0) -> str:
        """Our command inside the router's pod: ``signalyard("route", "halt", ...)``. Raises CommandError."""
        return self.scenario.kubectl("exec", ROUTER_POD, "--", "signalyard", *arguments, timeout=timeout)

    def ask(self, path: str) -> Any:
        """The router's JSON at ``path``, through its Service. Raises CommandError."""
        return json.loads(self.page(path))

    def page(self, path: str) -> str:
        """The router's answer at ``path``, through its Service. Raises CommandError."""
        service = f"/api/v1/namespaces/{self.scenario.namespace}/services/{ROUTER}:8090/proxy"
        return self.scenario.kubectl("get", "--raw", service + path)

    def metric(self, name: str, /, **labels: str) -> float:
        """The sum of a metric's samples that bear these labels."""
        total = 0.0
        for line in self.page("/metrics").splitlines():
            head, _, value = line.rpartition(" ")
            bare, _, told = head.partition("{")
            if bare == name and all(f'{label}="{one}"' in told for label, one in labels.items()):
                total += float(value)
        return total

    def condition(self, kind: str, route: str = MODEL) -> dict[str, Any]:
        """Of the SignalRoute; empty as long as there is none."""
        status = self.scenario.get("signalroute", route).get("status", {})
        return next((one for one in status.get("conditions", ()) if one["type"] == kind), {})

    def await_condition(self, kind: str, status: str, reason: str = "", timeout: float = 60.0) -> None:
        """Raises TimeoutError."""

        def holds() -> bool:
            one = self.condition(kind)
            return one.get("status") == status and reason in ("", one.get("reason"))

        self.scenario.until(holds, f"{kind} {status} {reason}", timeout)

    def await_ready(self, router: str = ROUTER) -> None:
        """Until the router answers, and says that the route is in force and its models answer. Raises CommandError, TimeoutError."""
        self.scenario.await_rollout(f"statefulset/{router}")
        self.scenario.await_reached(router, "/readyz")
        self.await_condition("Accepted", "True")
        self.await_condition("TracksReady", "True")

    def _values(self, release: str, values: Mapping[str, Any]) -> tuple[str, str]:
        path = self.scenario.folder / f"{release}-values.json"  # YAML is a superset
        path.write_text(json.dumps(values, indent=2))
        return "--values", str(path)


def _image(name: str) -> dict[str, str]:
    repository, _, tag = name.rpartition(":")
    return {"repository": repository, "tag": tag}
