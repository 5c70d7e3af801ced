"""Worlds of inference calls that are passed through, while model servers go wrong; and what must be true of every answer.

They are apart from the worlds of snapshots, whose seeds stay what they are. Judged from outside: by what the client got and when, and by
what lay on the disk at that moment.
"""

import asyncio
import random
from dataclasses import dataclass, field
from hashlib import sha256
from struct import pack
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from signalyard_router.adapters.http.app import App
from signalyard_router.adapters.http.inference import InferencePaths
from signalyard_router.adapters.http.server import HttpServer
from signalyard_router.adapters.http.settings import HttpSettings
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.main import ProcessSettings, running
from signalyard_router.rules.documents import Document, parse_any
from signalyard_router.testing.model_server import Behaviour, ModelServer
from signalyard_router.testing.sim.network import Node, Weather
from signalyard_router.testing.sim.world import Simulation
from simulated.clients import HttpClient
from simulated.models import digest_of, score_of, server

_MARKS = {"stable": 1, "canary": 2, "standby": 3}
_VERSIONS = {"7": 1, "8": 2, "6": 3}
_FOLDER = "journal"
_CALLS = 40
_LASTS = 2.0
_LATENCY = 0.005
"""Seconds that the wire between client and router may take, there and back."""
_NO_FAULTS = (Behaviour.GOOD, Behaviour.BAD_INPUT, Behaviour.NULL, Behaviour.WRONG_SHAPE)
"""To a call that is passed through, a null or fewer rows are an answer like another, and bad input is its caller's own."""
_ALLOWED = ("model_", "deadline_exceeded")
"""Why a good call may have no answer."""


@dataclass
class Asked:
    """A call: what was sent, and what came of it. Times are the loop's seconds; ``within`` is what it had."""

    tag: int
    p: float
    client_id: str
    version: str
    within: float
    began: float = 0.0
    ended: float = 0.0
    answer: tuple[int, bytes] | None = None
    on_disk: bytes = b""


@dataclass
class World:
    """A plan and its play."""

    seed: int
    findings: list[str] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)


class _Documents:
    """Implements `ports.RouteStore` with one document for good."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self.refused: dict[str, str] = {}

    def version(self) -> int:
        return 0

    async def load(self) -> list[tuple[Document, str]]:
        return [(parse_any(self._document, "plan"), "plan")]


def play(seed: int) -> World:
    """The world of a seed, the same whenever it is played."""
    world = World(seed)
    simulation = Simulation(f"calls {seed}")
    stage = _Stage(world, simulation, random.Random(f"calls {seed}"))
    simulation.run(stage.play)
    world.findings += simulation.unhandled
    _judge(world, stage.disk.content(_FOLDER))
    return world


class _Stage:
    def __init__(self, world: World, simulation: Simulation, rng: random.Random) -> None:
        self.world, self.sim, self.rng = world, simulation, rng
        self.disk = simulation.disk()
        self.deadline = rng.choice((0.02, 0.05, 0.1))
        self.models: dict[str, ModelServer] = {}
        self.nodes: dict[str, Node] = {}
        self.disk.sync_seconds = rng.choice((0.0, 0.001, 0.03))
        self.durability = rng.choice(("os", "fsync"))

    async def play(self) -> None:
        loop, network = self.sim.loop, self.sim.network
        for name, mark in _MARKS.items():
            await self._start(name, mark)
        node, client = Node("router"), Node("client")
        stop, up = asyncio.Event(), asyncio.Event()
        process = self.sim.spawn(node, self._router(node, up, stop))
        await asyncio.wait([process, loop.create_task(up.wait())], return_when=asyncio.FIRST_COMPLETED)
        if process.done():
            process.result()
        for name in _MARKS:
            weather = network.weathers.setdefault(name, Weather())
            weather.split = self.rng.choice((0, 0.5))
            weather.slow = self.rng.choice((0, 0.1))
            weather.reset = self.rng.choice((0, 0.02))
            weather.vanish = self.rng.choice((0, 0.02))
        beginning = loop.time()
        for _ in range(self.rng.randrange(8)):
            loop.call_at(beginning + self.rng.uniform(0, _LASTS), self._strike)
        http = HttpClient(loop, client, network.of(client))
        calls = [loop.create_task(self._call(http, tag, beginning)) for tag in range(_CALLS)]
        await asyncio.wait(calls)
        for call in calls:
            call.result()
        http.close()
        stop.set()
        await process

    async def _start(self, name: str, mark: int) -> None:
        node = self.nodes[name] = Node(name)
        made = server(mark, calibrated=True)
        made.late_seconds = self.rng.choice((0.01, 0.2))
        self.models[name] = made
        await self.sim.spawn(node, made.start(self.sim.network.of(node), port=80))

    async def _router(self, node: Node, up: asyncio.Event, stop: asyncio.Event) -> None:
        journal = JournalSettings(folder=_FOLDER, durability=self.durability)  # type: ignore[arg-type]
        world, registry = self.sim.world(node, self.disk), CollectorRegistry()
        store = _Documents(self._document())
        async with running(ProcessSettings(journal=journal), world=world, registry=registry, store=store) as made:
            inference = InferencePaths(made.passthrough, made.catalogue, made.router)
            settings = HttpSettings(host="router", port=80)
            app = App(made.router, world.clock, settings, registry, inference=inference)
            listening = HttpServer(world, app, settings)
            await listening.start()
            up.set()
            await stop.wait()
            await listening.drain(1.0)

    def _document(self) -> dict[str, Any]:
        weight = self.rng.choice((0, 30))
        tracks = [("stable", "7", 100 - weight), ("canary", "8", weight), ("standby", "6", 0)]
        return {
            "apiVersion": "signalyard.io/v1alpha1",
            "kind": "SignalRoute",
            "metadata": {"name": "one"},
            "spec": {
                "model": "m-one",
                "instruments": ["*.X"],
                "deadline": f"{round(self.deadline * 1000)}ms",
                "mapping": {"long": {"enter": 0.6}},
                "tracks": [
                    {"name": name, "version": version, "weight": share, "endpoint": {"service": name, "port": 80}}
                    for name, version, share in tracks
                ],
            },
        }

    def _strike(self) -> None:
        name = self.rng.choice(list(_MARKS))
        behaviours = [each for each in Behaviour if each not in _NO_FAULTS]
        made = self.models[name]
        if self.rng.random() < 0.2:
            node = self.nodes[name]
            node.freeze()
            self.sim.loop.call_later(self.rng.choice((0.05, 0.5)), node.thaw, self.sim.loop)
        elif self.rng.random() < 0.5:
            made.script.extend(self.rng.choices(behaviours, k=self.rng.randrange(1, 6)))
        else:
            made.behaviour = self.rng.choice(behaviours)
            self.sim.loop.call_later(self.rng.choice((0.1, 1.0)), setattr, made, "behaviour", Behaviour.GOOD)

    async def _call(self, http: HttpClient, tag: int, beginning: float) -> None:
        rng = random.Random(f"call {self.world.seed} {tag}")
        budget = rng.choice((None, None, 0.01, 0.04))
        within = self.deadline if budget is None else min(budget, self.deadline)
        client_id = rng.choice(("", f"c{tag}"))
        asked = Asked(tag, rng.randrange(1001) / 1000, client_id, rng.choice(("", "", "", "8")), within)
        self.world.asked.append(asked)
        await asyncio.sleep(max(0.0, beginning + rng.uniform(0, _LASTS) - self.sim.loop.time()))
        body: dict[str, Any] = {"id": client_id, "inputs": [_tensor(asked)]}
        if rng.random() < 0.4:
            body["parameters"] = {"symbol": f"a{tag}.X"}
        place = f"/versions/{asked.version}" if asked.version else ""
        asked.began = self.sim.loop.time()
        milliseconds = None if budget is None else budget * 1000
        path = f"/v2/models/m-one{place}/infer"
        asked.answer = await http.ask("POST", path, msgspec.json.encode(body), milliseconds, 2000)
        asked.ended = self.sim.loop.time()
        asked.on_disk = b"".join(self.disk.content(_FOLDER).values())


def _tensor(asked: Asked) -> dict[str, Any]:
    parameters = {"columns": '["p","tag","x"]'}
    data = [asked.p, asked.tag, None]
    return {"name": "features", "shape": [1, 3], "datatype": "FP64", "data": data, "parameters": parameters}


def _judge(world: World, files: dict[str, bytes]) -> None:
    lines = [line for _, content in sorted(files.items()) for line in content.splitlines()]
    calls = [record for record in map(msgspec.json.decode, lines) if record["kind"] == "call"]
    records = {record["id"]: record for record in calls}
    if len(records) != len(calls):
        world.findings.append("two records have one id")
    named: dict[str, int] = {}
    for record in calls:
        named[record.get("client_id", "")] = named.get(record.get("client_id", ""), 0) + 1
    for client_id, number in named.items():
        if client_id and number != 1:
            world.findings.append(f"{client_id} has {number} records")
    claimed: set[str] = set()
    for asked in world.asked:
        for finding in _wrong(asked, records, claimed, world.outcomes):
            world.findings.append(f"call {asked.tag}: {finding}")


def _wrong(asked: Asked, records: dict[str, Any], claimed: set[str], outcomes: dict[str, int]) -> list[str]:
    """What is wrong with a call's answer, from the words of docs/inference.md."""
    if asked.answer is None:
        return ["it was not answered"]
    status, body = asked.answer
    found: list[str] = []
    took = asked.ended - asked.began
    if took > asked.within + _LATENCY:
        found.append(f"answered after {took * 1000:.3f} ms, it had {asked.within * 1000:g}")
    answer = msgspec.json.decode(body)
    outcomes[str(status)] = outcomes.get(str(status), 0) + 1
    if status != 200:
        if not answer["code"].startswith(_ALLOWED):
            found.append(f"answered {status} {answer['code']}: {answer['detail']}")
        return found
    call = answer["parameters"]["call"]
    record = records.get(call)
    if record is None or call in claimed:
        return [*found, f"{call} is {'the record of another answer' if record else 'in no record'}"]
    claimed.add(call)
    if f'"id":"{call}"'.encode() not in asked.on_disk:
        found.append(f"{call} was answered before it was recorded")
    version = answer["model_version"]
    mark = _VERSIONS[version]
    outcomes[version] = outcomes.get(version, 0) + 1
    if (record["version"], record["digest"]) != (version, digest_of(mark)):
        found.append(f"answered by {version}, recorded as {record['version']} {record['digest']}")
    if asked.version not in ("", version):
        found.append(f"asked for {asked.version}, answered by {version}")
    score = {output["name"]: output["data"] for output in answer["outputs"]}["score"]
    if score != [score_of(asked.p, asked.tag, mark)]:
        found.append(f"{score} is another call's answer")
    told = sha256(b'["features","FP64",[1,3]]\n' + pack("<3d", asked.p, asked.tag, float("nan")))
    if record["input"] != f"sha256:{told.hexdigest()}":
        found.append("the record is of another input")
    if record.get("failover", False) != (version != record["assigned"]):
        found.append(f"assigned to {record['assigned']}, answered by {version}, failover {record.get('failover')}")
    if (answer.get("id") or "") != asked.client_id or record.get("client_id", "") != asked.client_id:
        found.append("the id is another's")
    return found
