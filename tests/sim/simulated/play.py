"""Plays a plan and writes its history."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, TypeVar

import msgspec
from prometheus_client import CollectorRegistry

from signalyard.problems import CallerError, SignalyardError
from signalyard.wire import Snapshot
from signalyard_router.adapters.http.app import App
from signalyard_router.adapters.http.inference import InferencePaths
from signalyard_router.adapters.http.server import HttpServer
from signalyard_router.adapters.http.settings import HttpSettings
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.control.board import Board, Promotion
from signalyard_router.journal.settings import JournalSettings, UpkeepSettings
from signalyard_router.main import ProcessSettings, running
from signalyard_router.router import Router
from signalyard_router.rules.documents import Document, parse_any
from signalyard_router.rules.levers import Lever, Order
from signalyard_router.rules.rows import rows_of
from signalyard_router.testing.model_server import Behaviour, ModelServer
from signalyard_router.testing.sim.network import Node, Weather
from signalyard_router.testing.sim.world import SimClock, Simulation
from simulated.clients import HttpClient, body_of, snapshot_of
from simulated.history import History
from simulated.models import bundles, server
from simulated.plan import FINAL, HOMES, MARKS, MODELS, VERSIONS, Fault, Plan, Send

_Answer = TypeVar("_Answer", Lever, Promotion)

_ENDS: dict[str, Literal["resume", "end"]] = {"halt": "resume", "pause": "resume", "weight": "end", "rollback": "end"}
"""How a lever is let go."""

_DRAIN = 2.0
_QUIET = 3.0
"""Seconds after the mending until the last snapshots: longer than the router waits to ask a model server again."""
_LONGEST = 600.0
_FOLDER = "journal"
_UPKEEP = UpkeepSettings(archive_seconds=1.0, first_pause_seconds=0.1, longest_pause_seconds=0.4)
"""So quick that the archive has caught up when the last snapshots come."""


def play(plan: Plan) -> History:
    """The history of a plan, the same whenever it is played. Raises DeadlockError."""
    simulation = Simulation(plan.seed)
    stage = _Stage(plan, simulation)
    logger = logging.getLogger("signalyard")
    handler = _Errors(stage.history)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        simulation.run(stage.play)
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    stage.history.inside += simulation.unhandled
    stage.history.files = stage.disk.content(_FOLDER)
    return stage.history


class _Errors(logging.Handler):
    """Exceptions that the router caught, logged and answered as internal errors: it should have none."""

    def __init__(self, history: History) -> None:
        super().__init__(logging.ERROR)
        self._history = history

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._history.inside.append(f"logged: {record.getMessage()}: {record.exc_info[1]!r}")


class Documents:
    """Implements `ports.RouteStore`: the documents as they are at the time."""

    def __init__(self, stage: "_Stage") -> None:
        self._stage = stage

    def version(self) -> int:
        return self._stage.stage

    @property
    def refused(self) -> dict[str, str]:
        return {}

    async def load(self) -> list[tuple[Document, str]]:
        return self._stage.documents[self._stage.stage]


class _Stage:
    """The machines of a world, and what happens to them."""

    def __init__(self, plan: Plan, simulation: Simulation) -> None:
        self.plan = plan
        self.sim = simulation
        self.loop = simulation.loop
        self.history = History(simulation.loop)
        self.disk = simulation.disk(self.history.needle)
        self.archive = simulation.archive(self.history.keeper) if plan.archive else None
        self.clock = SimClock(simulation.loop)
        self.documents = [
            [(parse_any(document, "plan"), "plan") for document in (*routes, *groups)]
            for routes, groups in zip(plan.stages, plan.groups, strict=True)
        ]
        self.times: dict[int, int] = {}
        self.stage = 0
        self.questions = 0
        self.asking: set[asyncio.Task[None]] = set()
        # the router's machine
        self.node = Node("router", self.history.ear)
        self.router: Router | None = None
        self.board: Board | None = None
        self.stop = asyncio.Event()
        self.running = asyncio.Event()
        self.pause = 0.0
        self.over = False
        self.ending = False
        # the model servers' machines, each with what it is told to do
        self.models: dict[str, tuple[Node, ModelServer]] = {}
        self.marks = dict(MARKS)
        self.clients: list[HttpClient] = []

    async def play(self) -> None:
        async with asyncio.timeout(_LONGEST):
            self._mend_everything()
            for name in MODELS:
                await self._start_model(name)
            for number in range(3):
                node = Node(f"client-{number}")
                self.clients.append(HttpClient(self.loop, node, self.sim.network.of(node)))
            machine = self.loop.create_task(self._machine())
            await self.running.wait()
            beginning = self.loop.time()
            self._set_weather()
            for fault in self.plan.faults:
                self.loop.call_at(beginning + fault.at / 1000, self._strike, fault)
            await self._send_all(self.plan.sends, beginning)
            await asyncio.sleep(max(0.0, beginning + self.plan.ends / 1000 - self.loop.time()))
            while self.asking:
                await asyncio.wait(self.asking)
            # A fault that was to strike or to be mended later than this has nothing more to do.
            self.over = True
            self._mend_everything()
            self.history.add("mended")
            await asyncio.sleep(_QUIET)
            await self.running.wait()
            if self.plan.shared_clock:
                await self._send_all(self.plan.final, self.loop.time() - self.plan.ends / 1000)
            else:
                self.clock.offset = 0
                await self._send_all(self.plan.final, self.loop.time() - self.plan.ends / 1000)
            while self.asking:
                await asyncio.wait(self.asking)
            await self._ask_state()
            for client in self.clients:
                client.close()
            node, self.ending = self.node, True
            self.stop.set()
            await machine
            await asyncio.sleep(0.5)
            if node.tasks or node.transports:
                self.history.inside.append(
                    f"left behind: {len(node.tasks)} tasks, {len(node.transports)} connections: "
                    + ", ".join(repr(task.get_coro()) for task in node.tasks.values())
                )

    # The router's machine

    async def _machine(self) -> None:
        """Keeps the router running, as a supervisor does."""
        while True:
            self.stop = asyncio.Event()
            task = self.sim.spawn(self.node, self._process(self.node))
            await asyncio.wait([task])
            self.running.clear()
            self.router = self.board = None
            if not task.cancelled() and (failure := task.exception()) is not None:
                code = failure.problem if isinstance(failure, SignalyardError) else repr(failure)
                self.history.add("failed", who=str(code), data=str(failure).encode())
                self.pause = 0.2
            elif self.ending:
                return
            self.history.add("down")
            await asyncio.sleep(self.pause)
            self.node = Node("router", self.history.ear)
            self.history.add("up")

    async def _process(self, node: Node) -> None:
        """What `main.serve` does, but for the signals."""
        plan, stop = self.plan, self.stop
        world = self.sim.world(node, self.disk, self.clock)
        registry = CollectorRegistry()
        settings = ProcessSettings(
            journal=JournalSettings(
                folder=_FOLDER,
                durability=plan.durability,  # type: ignore[arg-type]
                segment_bytes=plan.segment_bytes,
                remember=plan.remember,
                keep_bytes=plan.keep_bytes,
            ),
            upkeep=_UPKEEP,
            oip=OipSettings(probe_refresh_seconds=plan.refresh),
        )
        http = HttpSettings(host="router", port=80)
        archive = self.archive.mount(lambda: node.alive) if self.archive is not None else None
        async with running(settings, world=world, registry=registry, store=Documents(self), archive=archive) as up:
            router = up.router
            inference = InferencePaths(up.passthrough, up.catalogue, router)
            listening = HttpServer(world, App(router, world.clock, http, registry, inference=inference), http)
            await listening.start()
            self.router, self.board = router, up.board
            self.running.set()
            await stop.wait()
            self.history.add("draining")
            router.drain()
            await listening.drain(_DRAIN)

    # The model servers' machines

    async def _start_model(self, name: str) -> None:
        node = Node(name)
        mark = self.marks[name]
        made = server(mark, calibrated=self.plan.calibrated[HOMES[mark]])
        made.late_seconds = self.plan.late_ms / 1000
        if name in self.models:
            before = self.models[name][1]
            made.behaviour, made.script = before.behaviour, before.script
        self.models[name] = (node, made)
        await self.sim.spawn(node, made.start(self.sim.network.of(node), port=80))

    # What goes wrong

    def _strike(self, fault: Fault) -> None:
        if self.over:
            return
        self.history.add("fault", who=fault.kind)
        heal = getattr(self, f"_{fault.kind}")(fault)
        if heal is not None:
            self.loop.call_later(fault.span / 1000, heal)

    def _behaviour(self, fault: Fault):  # type: ignore[no-untyped-def]
        made = self.models[fault.target][1]
        made.behaviour = Behaviour(fault.words[0])

        def heal() -> None:
            self.models[fault.target][1].behaviour = Behaviour.GOOD

        return heal

    def _script(self, fault: Fault) -> None:
        self.models[fault.target][1].script.extend(map(Behaviour, fault.words))

    def _model_frozen(self, fault: Fault):  # type: ignore[no-untyped-def]
        node = self.models[fault.target][0]
        node.freeze()
        return lambda: node.thaw(self.loop)

    def _model_down(self, fault: Fault):  # type: ignore[no-untyped-def]
        node = self.models[fault.target][0]
        node.crash(self.loop, silent=fault.span > 100)

        def heal() -> None:
            if not self.models[fault.target][0].alive:
                self.loop.create_task(self._start_model(fault.target))

        return heal

    def _roll(self, fault: Fault):  # type: ignore[no-untyped-def]
        first, *others = fault.words[1:]

        def turn(name: str, mark: int) -> None:
            if self.marks[name] != mark and not (self.over and mark != MARKS[name]):
                self._change_bundle(name, mark, restart=fault.words[0] == "restart")

        def roll(mark: int | None) -> None:
            """To a bundle, or back to each node's own."""
            turn(first, mark or MARKS[first])
            for name in others:
                self.loop.call_later(fault.span / 2000, turn, name, mark or MARKS[name])

        roll(int(fault.amount))
        return lambda: roll(None)

    def _change_bundle(self, name: str, mark: int, *, restart: bool) -> None:
        node, made = self.models[name]
        self.marks[name] = mark
        self.history.add("rolled", mark, name)
        if restart or not node.alive:
            if node.alive:
                node.crash(self.loop)
            self.loop.create_task(self._start_model(name))
            return
        for model, version in list(made.models):
            made.withdraw(model, version)
        for bundle in bundles(mark, calibrated=self.plan.calibrated[HOMES[mark]]):
            made.serve(bundle)

    def _archive(self, fault: Fault):  # type: ignore[no-untyped-def]
        archive, what = self.archive, fault.words[0]
        if archive is None:
            return None
        setattr(archive, what, True)
        return lambda: setattr(archive, what, False)

    def _weather(self, fault: Fault):  # type: ignore[no-untyped-def]
        weather, what = self.sim.network.weathers[fault.target], fault.words[0]
        setattr(weather, what, fault.amount)
        return lambda: setattr(weather, what, 0 if self.over else getattr(self.plan, what))

    def _router_frozen(self, fault: Fault):  # type: ignore[no-untyped-def]
        node = self.node
        node.freeze()
        self.history.add("frozen")

        def heal() -> None:
            self.history.add("thawed")
            node.thaw(self.loop)

        return heal

    def _clock(self, fault: Fault) -> None:
        self.clock.offset += int(fault.amount * 1_000_000)

    def _crash(self, fault: Fault, *, power: bool = False) -> None:
        if not self.node.alive:
            return
        self.pause = fault.span / 1000
        self.history.add("crash")
        self.running.clear()
        self.router = self.board = None
        self.disk.fence()
        self.node.crash(self.loop, silent=power)
        if power:
            self.disk.lose_power()

    def _power(self, fault: Fault) -> None:
        self._crash(fault, power=True)

    def _deploy(self, fault: Fault) -> None:
        if self.running.is_set():
            self.pause = fault.span / 1000
            self.stage = 1 - self.stage
            self.history.add("documents", self.stage)
            self.stop.set()

    def _reload(self, fault: Fault) -> None:
        self.stage = 1 - self.stage
        self.history.add("documents", self.stage)

    def _lever(self, fault: Fault) -> None:
        task = self.loop.create_task(self._operate(fault))
        self.asking.add(task)
        task.add_done_callback(self.asking.discard)

    async def _operate(self, fault: Fault) -> None:
        """What an operator does: pulls a lever, and lets it go when it is time. Tries again while the router is away."""
        action, symbol, route, what, ends = fault.words
        if action == "promote":
            await self._press(lambda board: board.promote(route, VERSIONS["canary"], "op", "sim"))
            await asyncio.sleep(fault.span / 1000)
            await self._press(lambda board: board.promote(route, VERSIONS["canary"], "op", "sim"))
            return
        order = Order(
            action=action,  # type: ignore[arg-type]
            by="op",
            why="sim",
            symbol=symbol or None,
            route=route or None,
            canary=fault.amount if action == "weight" else None,
            version=what if action == "rollback" else None,
            latch=what if action == "reset" else None,  # type: ignore[arg-type]
            expires_in=int(fault.span * 1_000_000) if ends == "itself" and action in _ENDS else None,
        )
        began = await self._press(lambda board: board.pull(order))
        if began is not None and ends == "hand" and action in _ENDS:
            await asyncio.sleep(fault.span / 1000)
            ending = Order(action=_ENDS[action], by="op", why="sim", lever=began.id)
            await self._press(lambda board: board.pull(ending))

    async def _press(self, ask: Callable[[Board], Coroutine[Any, Any, _Answer]]) -> _Answer | None:
        """What the board answers, or None where it refuses the order, or never takes one."""
        for _ in range(200):
            board, node = self.board, self.node
            if board is not None and self.running.is_set():
                task = self.sim.spawn(node, ask(board))
                await asyncio.wait([task])
                failure = None if task.cancelled() else task.exception()
                if isinstance(failure, CallerError):
                    return None
                if failure is not None and not isinstance(failure, SignalyardError):
                    raise failure
                if not task.cancelled() and failure is None:
                    answer = task.result()
                    if isinstance(answer, Lever):
                        self.history.add("pulled", who=answer.id)
                    else:
                        self.history.add("promoted", len(answer.done), answer.route, data=(answer.lever or "").encode())
                    return answer
            await asyncio.sleep(0.05)
        return None

    def _disk(self, fault: Fault):  # type: ignore[no-untyped-def]
        disk, what = self.disk, fault.words[0]
        if what == "full":
            disk.room = int(fault.amount)
        elif what == "fail_truncate":
            disk.room, disk.fail_truncate = int(fault.amount), True
        elif what == "slow_sync":
            disk.sync_seconds = fault.amount / 1000 or 0.03
        elif what == "fail_sync":
            disk.fail_sync = True
        else:
            disk.read_only = True
        return self._mend_disk

    def _mend_disk(self) -> None:
        disk = self.disk
        disk.room, disk.fail_truncate, disk.fail_sync, disk.read_only = None, False, False, False
        disk.sync_seconds = self.plan.sync_ms / 1000

    def _set_weather(self) -> None:
        for name in ("router", *MODELS):
            weather = self.sim.network.weathers.setdefault(name, Weather())
            for what in ("split", "slow", "reset", "vanish"):
                setattr(weather, what, 0 if self.over else getattr(self.plan, what))

    def _mend_everything(self) -> None:
        self._set_weather()
        self._mend_disk()
        if self.archive is not None:
            self.archive.fail = self.archive.hang = self.archive.garble = False
        if self.node.frozen:
            self.history.add("thawed")
            self.node.thaw(self.loop)
        for name, (node, made) in list(self.models.items()):
            made.behaviour = Behaviour.GOOD
            made.script.clear()
            node.thaw(self.loop)
            if self.marks[name] != MARKS[name]:
                self._change_bundle(name, MARKS[name], restart=False)
            elif not node.alive:
                self.loop.create_task(self._start_model(name))

    # What is asked

    async def _send_all(self, sends: Sequence[Send], beginning: float) -> None:
        for send in sends:
            await asyncio.sleep(max(0.0, beginning + send.at / 1000 - self.loop.time()))
            task = self.loop.create_task(self._send(send))
            self.asking.add(task)
            task.add_done_callback(self.asking.discard)

    async def _send(self, send: Send) -> None:
        now = self.clock.wall() if self.plan.shared_clock or send.snaps[0].tag >= FINAL else self.sim.clock.wall()
        for snap in send.snaps:
            self.times.setdefault(snap.tag, now - snap.age * 1_000_000)
        for _ in range(send.tries):
            if await (self._ask_http(send) if self.plan.http else self._ask_inside(send)):
                return
            await asyncio.sleep(0.02)

    async def _ask_http(self, send: Send) -> bool:
        client = self.clients[send.client]
        answer = await client.ask("POST", "/v1/predict", body_of(send, self.times), send.budget, send.patience)
        return (
            answer is not None and answer[0] < 500 and b'"unknown"' not in answer[1] and b"unavailable" not in answer[1]
        )

    async def _ask_inside(self, send: Send) -> bool:
        """From within the router's process. The question dies with it."""
        router, node = self.router, self.node
        if router is None or not node.alive:
            return False
        self.questions += 1
        number = self.questions
        body = [snapshot_of(snap, self.times) for snap in send.snaps if snap.flaw != "form"]
        rows = rows_of([Snapshot(**row) for row in body])
        remaining = None if send.budget is None else int(send.budget * 1_000_000)

        async def ask() -> bool:
            self.history.add("ask", number, data=msgspec.json.encode(body), size=remaining or 0)
            try:
                decisions = await router.decide(rows, remaining=remaining)
            except SignalyardError as exc:
                self.history.add("refused", number, who=str(exc.problem))
                return False
            if not node.alive:
                return False
            data = msgspec.json.encode(decisions)
            self.history.add("told", number, data=data)
            return b'"unknown"' not in data and b"unavailable" not in data

        task = self.sim.spawn(node, ask())
        await asyncio.wait([task])
        return not task.cancelled() and task.result()

    async def _ask_state(self) -> None:
        if self.plan.http:
            await self.clients[0].ask("GET", "/v1/state", b"", None, 1_000)
        elif self.router is not None:
            self.history.add("state", data=msgspec.json.encode(self.router.state()))
