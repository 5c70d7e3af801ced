"""SignalRoutes on a real API server: what it refuses, what the router makes of the rest, and what happens while it is away.

It needs no node: etcd and an API server, and the router in this process under an account that may do what the page on Kubernetes says and
nothing else.
"""

import asyncio
import json
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.api import Api as ApiServer
from cluster.definitions import define
from cluster.places import Places
from prometheus_client import CollectorRegistry
from tests.unit.kube import wrong_groups
from tests.unit.kube.wrong_routes import GOOD, WRONG

from signalyard.profile import Feature, FeatureSchema, ModelCard
from signalyard.wire import Snapshot
from signalyard_router.adapters.kube.access import from_kubeconfig
from signalyard_router.adapters.kube.api import Api
from signalyard_router.adapters.kube.errors import StatusError
from signalyard_router.adapters.kube.settings import KubeSettings
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.main import ProcessSettings, running
from signalyard_router.rules.levers import Order
from signalyard_router.testing.model_server import ModelServer, ServedModel
from signalyard_router.world.real import RealNetwork, RealWorld

ROOT = Path(__file__).parents[2]
GROUP = "/apis/signalyard.io/v1alpha1"
ROUTES = f"{GROUP}/namespaces/trading/signalroutes"
GROUPS = f"{GROUP}/namespaces/trading/signalgroups"
PAGE = ROOT / "docs/kubernetes.md"
MARS = {"timezone": "Mars/Olympus", "hours": ["09:00-10:00"]}


@pytest.fixture(scope="module")
def server(places: Places, tmp_path_factory: pytest.TempPathFactory):
    with ApiServer.start(places, tmp_path_factory.mktemp("api")) as api:
        define(api.kubectl, "-f", ROOT / "manifests/crds")
        api.kubectl("create", "namespace", "trading")
        yield api


@pytest.fixture(scope="module")
def account(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kubeconfig of an account with exactly the rights that the page lists."""
    (listed,) = [part for part in PAGE.read_text().split("```") if part.startswith("yaml\n# rights")]
    server.kubectl("apply", "-f", "-", stdin=listed.removeprefix("yaml\n"))
    server.kubectl("create", "serviceaccount", "router", "-n", "trading")
    for role in ("signalyard-router", "signalyard-router-lease"):
        server.kubectl(
            "create", "rolebinding", role, f"--role={role}", "--serviceaccount=trading:router", "-n", "trading"
        )
    token = server.kubectl("create", "token", "router", "-n", "trading").strip()
    config = yaml.safe_load(server.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    for context in config["contexts"]:
        context["context"]["namespace"] = "trading"
    path = tmp_path_factory.mktemp("account") / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def clean(server: ApiServer):
    yield
    for every in (ROUTES, GROUPS):
        server.kubectl("delete", "--raw", every)  # all at once; by name kubectl takes a fifth of a second for each
    for kind in ("services", "endpointslices"):
        server.kubectl("delete", kind, "--all", "-n", "trading", "--wait=true")


def document(name: str, spec: dict[str, Any], kind: str = "SignalRoute") -> dict[str, Any]:
    return {
        "apiVersion": "signalyard.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "trading"},
        "spec": spec,
    }


def route(name: str, port: int, **changes: Any) -> dict[str, Any]:
    spec = {
        "model": "rb-trend",
        "instruments": [f"{name}*.SHFE"],
        "deadline": "2s",
        "tracks": [{"name": "stable", "version": "7", "weight": 100, "endpoint": {"service": "models", "port": port}}],
        "mapping": {"long": {"enter": 0.6}, "short": {"enter": 0.4}},
    }
    return document(name, spec | changes)


def apply(server: ApiServer, *documents: dict[str, Any]) -> None:
    server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))


def condition(server: ApiServer, name: str, kind: str) -> tuple[str, str, str]:
    item = json.loads(server.kubectl("get", "signalroute", name, "-n", "trading", "-o", "json"))
    for one in item.get("status", {}).get("conditions", ()):
        if one["type"] == kind:
            assert one["observedGeneration"] <= item["metadata"]["generation"]
            return one["status"], one["reason"], one["message"]
    return "", "", ""


async def refusal(call: Awaitable[Any]) -> str:
    try:
        await call
    except StatusError as exc:
        return str(exc)
    return "it was taken"


class Desk:
    """A router and a model server in this process, before a real API server."""

    def __init__(self, server: ApiServer, account: Path, folder: Path) -> None:
        self.server = server
        self.account = account
        self.folder = folder
        self.model = ModelServer(
            [
                ServedModel(
                    card=ModelCard(
                        model="rb-trend",
                        version="7",
                        digest=f"sha256:{7:064}",
                        calibrated=False,
                        schema=FeatureSchema((Feature(name="p"),)),
                    ),
                    score=lambda rows: [row[0] for row in rows],
                )
            ]
        )
        self.number = 0

    async def serve(self) -> int:
        """The model's port; the Service ``models`` leads there."""
        await self.model.start(RealNetwork(), "localhost")
        assert self.model._listener is not None
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "models", "namespace": "trading"},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }
        await asyncio.to_thread(apply, self.server, service)
        return self.model._listener.port

    @asynccontextmanager
    async def router(self):
        settings = ProcessSettings(
            routes_from="kubernetes",
            journal=JournalSettings(folder=str(self.folder / "journal")),
            kube=KubeSettings(kubeconfig=self.account, start_seconds=3.0),
        )
        self.registry = CollectorRegistry()
        async with running(settings, world=RealWorld(), registry=self.registry) as up:
            yield up.router, up.board

    async def decide(self, router: Any, name: str) -> str:
        """One decision; the score changes sides each time, so that each is a signal of its own."""
        self.number += 1
        p = 0.9 if self.number % 2 else 0.1
        snapshot = Snapshot(symbol=f"{name}1.SHFE", ts_event=time.time_ns(), features={"p": p})
        (decision,) = await router.predict([snapshot])
        return str(decision.outcome)

    async def until(self, condition: Callable[[], Any], seconds: float = 30.0) -> float:
        """How long it took; conditions that ask the API server run on a thread."""
        began = time.monotonic()
        while not await asyncio.to_thread(condition):
            assert time.monotonic() - began < seconds, "not in time"
            await asyncio.sleep(0.02)
        return time.monotonic() - began


def play(server: ApiServer, account: Path, folder: Path, scenario: Callable[[Desk], Awaitable[None]]) -> None:
    async def performance() -> None:
        desk = Desk(server, account, folder)
        try:
            await scenario(desk)
        finally:
            desk.model.stop()

    asyncio.run(performance())


KINDS = {"SignalRoute": (ROUTES, GOOD, WRONG), "SignalGroup": (GROUPS, wrong_groups.GOOD, wrong_groups.WRONG)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_api_server_takes_a_good_one_as_it_is_and_refuses_each_wrong_one_with_its_reason(server, clean, kind):
    path, good, wrong = KINDS[kind]

    async def scenario() -> None:
        api = Api(RealNetwork(), from_kubeconfig(server.kubeconfig), KubeSettings(call_seconds=30.0))

        async def create(name: str, spec: dict[str, Any], **query: str) -> dict[str, Any]:
            body = json.dumps(document(name, spec, kind)).encode()
            made: dict[str, Any] = json.loads(await api.call("POST", path, query, body))
            return made

        assert (await create("good", good))["spec"] == good, "nothing is filled in, and nothing is pruned"
        missed: list[str] = []
        for name, (spec, reason) in wrong.items():
            answer = await refusal(create("wrong", spec, dryRun="All"))
            if not answer.startswith("status 422: ") or reason not in answer:
                missed.append(f"{name}: {reason!r} is not in {answer}")
        assert not missed, "\n".join(missed)
        with pytest.raises(StatusError, match="at most 63 characters"):
            await create("a" * 64, good)
        api.close()

    asyncio.run(scenario())


def test_words_that_yaml_takes_for_booleans_are_taken(server, clean):
    text = (
        yaml.safe_dump(document("words", GOOD))
        .replace("noSignal: 'off'", "noSignal: off")
        .replace("drift: 'on'", "drift: on")
    )
    assert "noSignal: off" in text
    assert "drift: on" in text
    server.kubectl("apply", "-f", "-", stdin=text)


def test_a_route_is_in_force_at_once_and_says_so(server, account, clean, tmp_path):
    async def scenario(desk: Desk) -> None:
        port = await desk.serve()
        async with desk.router() as (router, board):
            assert router.unready() == []
            await asyncio.to_thread(apply, server, route("rb", port))
            began = time.monotonic()
            while "rb" not in router.routes:
                await asyncio.sleep(0.005)
                assert time.monotonic() - began < 10
            print(f"seconds_to_effect={round(time.monotonic() - began, 3)}")
            await desk.until(lambda: condition(server, "rb", "TracksReady")[:2] == ("True", "Ready"))
            assert await desk.decide(router, "rb") == "emitted"
            assert condition(server, "rb", "Accepted")[:2] == ("True", "InForce")
            assert condition(server, "rb", "VersionDrift")[:2] == ("False", "AsPinned")
            columns = server.kubectl("get", "sr", "-n", "trading").splitlines()
            assert columns[0].split() == ["NAME", "MODEL", "MODE", "ACCEPTED", "READY", "WEIGHTS", "AGE"]
            assert columns[1].split()[:7] == ["rb", "rb-trend", "live", "True", "True", "stable", "100"]
            halt = await board.pull(Order(action="halt", by="op", why="news"))
            await desk.until(lambda: condition(server, "rb", "Halted")[:2] == ("True", "Halted"))
            assert await desk.decide(router, "rb") == "suppressed"
            await board.pull(Order(action="resume", lever=halt.id, by="op", why="over"))
            await desk.until(lambda: condition(server, "rb", "Halted")[:2] == ("False", "NotHalted"))
            await asyncio.to_thread(server.kubectl, "delete", "signalroute", "rb", "-n", "trading")
            await desk.until(lambda: "rb" not in router.routes)

    play(server, account, tmp_path, scenario)


def test_what_only_the_router_can_judge_keeps_the_last_good_one_also_across_a_restart(server, account, clean, tmp_path):
    async def scenario(desk: Desk) -> None:
        port = await desk.serve()
        apply(server, route("rb", port), route("cu", port))
        async with desk.router() as (router, _):
            good = router.routes["rb"].revision
            await asyncio.to_thread(
                apply, server, route("rb", port, sessions=MARS), route("cu", port, deadline="1500ms")
            )
            await desk.until(lambda: router.routes["cu"].deadline == 1_500_000_000)
            await desk.until(lambda: condition(server, "rb", "Accepted")[:2] == ("False", "Invalid"))
            assert condition(server, "rb", "Accepted")[2].startswith("spec.sessions.timezone: ")
            assert router.routes["rb"].revision == good
            assert await desk.decide(router, "rb") == "emitted"
        async with desk.router() as (router, _):
            assert router.routes["rb"].revision == good
            assert await desk.decide(router, "rb") == "emitted"
            assert condition(server, "rb", "Accepted")[:2] == ("False", "Invalid")

    play(server, account, tmp_path, scenario)


def test_pods_are_found_by_their_slices(server, account, clean, tmp_path):
    async def scenario(desk: Desk) -> None:
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "models", "namespace": "trading"},
            "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 8080, "targetPort": "http"}]},
        }

        def pods(*ready: bool) -> dict[str, Any]:
            return {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": "models-a",
                    "namespace": "trading",
                    "labels": {"kubernetes.io/service-name": "models"},
                },
                "addressType": "IPv4",
                "endpoints": [
                    {"addresses": [f"192.0.2.{number}"], "conditions": {"ready": one}}
                    for number, one in enumerate(ready, start=1)
                ],
                "ports": [{"name": "http", "port": 9000}],
            }

        apply(server, service, pods(True, False), route("rb", 8080))
        async with desk.router() as (router, _):

            def asked() -> list[str]:
                return [one.endpoint for one in router.tracks(router.table.routes["rb"])[0].endpoints]

            assert asked() == ["192.0.2.1:9000"]
            await asyncio.to_thread(apply, server, pods(False, True))
            await desk.until(lambda: asked() == ["192.0.2.2:9000"])
            await desk.until(lambda: condition(server, "rb", "TracksReady")[1] == "NotAnswering")
            await asyncio.to_thread(server.kubectl, "delete", "endpointslice", "models-a", "-n", "trading")
            await desk.until(lambda: asked() == [])
            await desk.until(lambda: condition(server, "rb", "TracksReady")[1] == "NoEndpoints")

    play(server, account, tmp_path, scenario)


def test_without_the_api_server_decisions_levers_and_restarts_go_on(server, account, clean, tmp_path):
    async def scenario(desk: Desk) -> None:
        port = await desk.serve()
        apply(
            server,
            route(
                "rb",
                port,
                tracks=[
                    {
                        "name": "stable",
                        "version": "7",
                        "weight": 100,
                        "endpoint": {"service": "127.0.0.1", "port": port},
                    }
                ],
            ),
        )
        async with desk.router() as (router, board):
            assert await desk.decide(router, "rb") == "emitted"
            await asyncio.to_thread(server.kill, "kube-apiserver")
            for _ in range(20):
                assert await desk.decide(router, "rb") == "emitted"
                await asyncio.sleep(0.02)
            current = {"resource": "signalroutes", "namespace": "trading"}
            await desk.until(lambda: desk.registry.get_sample_value("signalyard_kube_current", current) == 0)
            halt = await board.pull(Order(action="halt", by="op", why="blind"))
            assert await desk.decide(router, "rb") == "suppressed"
        async with desk.router() as (router, board):
            assert router.unready() == []
            assert await desk.decide(router, "rb") == "suppressed", "a halt outlives a restart without an API server"
            server.run(server.plane.api_server())
            await desk.until(lambda: desk.registry.get_sample_value("signalyard_kube_current", current) == 1, 90)
            await desk.until(lambda: condition(server, "rb", "Halted")[:2] == ("True", "Halted"))
            assert f"{halt.id}: halt" in condition(server, "rb", "Halted")[2]
            await board.pull(Order(action="resume", lever=halt.id, by="op", why="back"))
            assert await desk.decide(router, "rb") == "emitted"

    play(server, account, tmp_path, scenario)


def test_hundreds_of_routes_are_in_force_and_told_once_each(server, account, clean, tmp_path):
    count = 300

    async def scenario(desk: Desk) -> None:
        port = await desk.serve()
        api = Api(RealNetwork(), from_kubeconfig(server.kubeconfig), KubeSettings(call_seconds=30.0))
        for number in range(count):
            await api.call("POST", ROUTES, body=json.dumps(route(f"r{number}x", port)).encode())
        began = time.monotonic()
        async with desk.router() as (router, _):
            assert len(router.routes) == count
            print(f"seconds_to_start={round(time.monotonic() - began, 2)}")

            def written() -> float | None:
                return desk.registry.get_sample_value("signalyard_kube_status_writes_total", {"result": "ok"})

            def ready() -> int:
                columns = server.kubectl("get", "sr", "-n", "trading", "--no-headers", "--chunk-size=0").splitlines()
                return sum(column.split()[3:5] == ["True", "True"] for column in columns)

            await desk.until(lambda: ready() == count, 120)
            print(f"seconds_to_all_told={round(time.monotonic() - began, 2)}")
            total = written()
            await asyncio.sleep(8)
            assert written() == total, "nothing changed, nothing is written"
            assert total is not None
            assert total <= 2 * count
            assert await desk.decide(router, f"r{count - 1}x") == "emitted"
        api.close()

    play(server, account, tmp_path, scenario)


def test_the_command_follows_the_cluster(server, account, clean, tmp_path):
    program = ROOT / ".venv/dev/bin/signalyard"
    command = [program, "router", "--routes-from", "kubernetes", "--kubeconfig", account, "--namespace", "trading"]
    command += ["--journal", tmp_path / "journal", "--port", "0", "--admin-port", "0"]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "event=ready" in line:
                assert "routes=0" in line
                break
        apply(server, route("rb", 1))
        for line in process.stderr:
            if "event=documents_taken" in line:
                assert "routes=1" in line
                break
        else:
            raise AssertionError("it ended")
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_the_account_may_do_what_it_must_and_no_more(server, account):
    listed = server.kubectl("auth", "can-i", "--list", "-n", "trading", f"--kubeconfig={account}")
    rights = {
        tuple(line.split())
        for line in listed.splitlines()
        if "signalyard" in line or "endpointslices" in line or line.startswith("services ")
    }
    shown = {line[0]: line[-1] for line in rights}
    assert set(shown) == {
        "signalroutes.signalyard.io",
        "signalgroups.signalyard.io",
        "signalroutes.signalyard.io/status",
        "endpointslices.discovery.k8s.io",
        "services",
        "leases.coordination.k8s.io",
    }, listed
    for question in ("delete signalroutes", "update signalroutes", "list secrets", "list pods", "create signalroutes"):
        with pytest.raises(Exception, match="no"):
            server.kubectl("auth", "can-i", *question.split(), "-n", "trading", f"--kubeconfig={account}")
