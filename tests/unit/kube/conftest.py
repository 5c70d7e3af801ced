"""A cluster in memory and in virtual time: an API server that can be told to misbehave, and what the router has of it."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from signalyard_router.adapters.kube.access import Access
from signalyard_router.adapters.kube.cluster import Cluster
from signalyard_router.adapters.kube.settings import KubeSettings
from signalyard_router.testing.api_server import SERVICES, SIGNALROUTES, SLICES, ApiServer
from signalyard_router.testing.sim.network import Node
from signalyard_router.testing.sim.world import Simulation, SimWorld

SPEC = """
model: rb-trend
instruments: ["rb*.SHFE"]
tracks:
  - {name: stable, version: "7", weight: 90, endpoint: {service: rb-trend-stable, port: 8080}}
  - {name: canary, version: "8", weight: 10, endpoint: {service: rb-trend-canary, port: 8080}}
mapping: {long: {enter: 0.6}, short: {enter: 0.4}}
"""


def spec(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(SPEC) | changes
    return made


def pod(address: str, name: str = "", **conditions: bool) -> dict[str, Any]:
    told = {"addresses": [address], "conditions": conditions or {"ready": True, "serving": True, "terminating": False}}
    return told | ({"targetRef": {"kind": "Pod", "name": name}} if name else {})


@dataclass
class Scene:
    """The API server, the router's half, and how to wait."""

    sim: Simulation
    server: ApiServer
    registry: CollectorRegistry
    world: SimWorld

    def cluster(self, *namespaces: str, **settings: Any) -> Cluster:
        access = Access(host=self.server.host, port=self.server.port, namespace="trading", tls=False)
        return Cluster(self.world, KubeSettings(namespaces=namespaces, **settings), self.registry, access)

    def route(self, name: str = "rb", namespace: str = "trading", **changes: Any) -> None:
        self.server.put(SIGNALROUTES, namespace, name, spec=spec(**changes))

    def service(self, name: str = "rb-trend-stable", namespace: str = "trading", **more: Any) -> None:
        parts = {"ports": [{"name": "http", "port": 8080}], "ipFamilies": ["IPv4"]} | more
        self.server.put(SERVICES, namespace, name, spec=parts)

    def slice(
        self,
        *pods: dict[str, Any],
        service: str = "rb-trend-stable",
        suffix: str = "a",
        family: str = "IPv4",
        port: int = 9000,
        namespace: str = "trading",
    ) -> None:
        self.server.put(
            SLICES,
            namespace,
            f"{service}-{suffix}",
            metadata={"labels": {"kubernetes.io/service-name": service}},
            addressType=family,
            endpoints=list(pods),
            ports=[{"name": "http", "port": port}],
        )

    def requests(self, plural: str, *, watch: bool | None = None) -> int:
        return sum(
            asked["path"].endswith(plural) and watch in (None, "watch" in asked) and asked["method"] == "GET"
            for asked in self.server.asked
        )

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"signalyard_kube_{name}", labels)

    async def wait(self, seconds: float) -> None:
        """Of virtual time."""
        await asyncio.sleep(seconds)

    async def until(self, condition: Any, seconds: float = 1.0) -> float:
        """Wait for a condition; the answer is how long that took, in seconds of virtual time."""
        began = self.sim.loop.time()
        while not condition():
            if self.sim.loop.time() - began > seconds:
                raise AssertionError(f"not within {seconds:g} s")
            await asyncio.sleep(0.001 if seconds <= 2 else 0.02)
        return self.sim.loop.time() - began


@pytest.fixture
def play():
    """Runs a scenario on a scene of its own."""

    def run(scenario: Any, seed: int = 1) -> None:
        sim = Simulation(seed)

        async def performance() -> None:
            server = ApiServer()
            await server.start(sim.network.of(Node("api")))
            node = Node("router")
            scene = Scene(sim, server, CollectorRegistry(), sim.world(node, sim.disk()))
            await scenario(scene)

        sim.run(performance)
        assert not sim.unhandled, sim.unhandled

    return run
