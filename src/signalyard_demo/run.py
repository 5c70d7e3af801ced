"""The demonstration from end to end: data, models, bundles, servers, replay with faults, audit, report."""

import contextlib
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

import msgspec

from signalyard.clients import SignalClient
from signalyard.wire import Decision, Snapshot
from signalyard_demo import route
from signalyard_demo.audit import audit
from signalyard_demo.bundles import pack_all
from signalyard_demo.compare import Compared, compare, decide_all
from signalyard_demo.data import generated_ticks, real_ticks
from signalyard_demo.processes import HOST, Child, Children, ProcessError, free_ports, wait_ready
from signalyard_demo.replay import Plan, Replay, Tally
from signalyard_demo.report import Report, Screen, conclude
from signalyard_demo.train import MODEL, Study, snapshots, train, utc
from signalyard_demo.wires import WIRES

_MARKER = ".signalyard-demo"
_TRACKS = (route.STABLE, route.CANARY, route.STANDBY)
_READY_SECONDS = 90.0
_CALLER_DEADLINE_SECONDS = 1.0
"""Longer than the route's own, so that the route's deadline is what is put to the test."""
_EXIT_SECONDS = 15.0


class SetupError(Exception):
    """The demonstration cannot begin; the text says what would be right."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. ``snapshots`` 0 stands for the usual number, ``wire`` is one of `wires.WIRES`."""

    folder: Path
    cache: Path
    router: Path
    runtimes: Path
    snapshots: int = 0
    small: bool = False
    keep: bool = False
    wire: str = "rest"


class Market:
    """The data and the models, and which snapshots will be replayed."""

    def __init__(self, options: Options, screen: Screen) -> None:
        ticks = generated_ticks() if options.small else real_ticks(options.cache, screen.say)
        screen.say(f"{len(ticks):,} trades: {ticks.source}")
        self.study: Study = train(ticks, options.folder / "artifacts")
        held_out = self.study.split.held_out
        count = options.snapshots or (300 if options.small else 3_000)
        taken = snapshots(held_out, count + 1)
        if len(taken) <= count:
            raise SetupError(
                f"the held-out part has {len(held_out):,} snapshots; ask for at most {len(held_out) - 1:,}"
            )
        self.snapshots, self.next = taken[:-1], taken[-1]
        self.instruments = sorted(set(held_out.instrument.tolist()))
        self.pattern = f"{ticks.root}-*.{ticks.venue}"
        rows = ", ".join(
            f"version {model.version} ({model.framework}) on {model.rows:,} bars" for model in self.study.models
        )
        screen.say(f"trained {rows}; {len(held_out):,} bars held out")


class Stage:
    """The model servers and the router as processes, and what is done to them."""

    def __init__(
        self,
        options: Options,
        children: Children,
        screen: Screen,
        pattern: str,
        deadline: str = f"{route.RULES.deadline_us // 1_000}ms",
    ) -> None:
        self._options = options
        self._children = children
        self._screen = screen
        self._ports = dict(zip((*_TRACKS, "router"), free_ports(len(_TRACKS) + 1), strict=True))
        self._extra = iter(free_ports(2 * len(_TRACKS)))
        self._servers: dict[str, Child] = {}
        self._router: Child | None = None
        self.wire = WIRES[options.wire](children, options.folder)
        self.journal = options.folder / "journal"
        routes = options.folder / "routes"
        routes.mkdir()
        ports = {track: self._ports[track] for track in _TRACKS}
        (routes / f"{MODEL}.yaml").write_text(route.document(pattern, ports, deadline=deadline), encoding="utf-8")

    @property
    def url(self) -> str:
        """Where the router listens."""
        return f"http://{HOST}:{self._ports['router']}"

    def port(self, name: str) -> int:
        """The HTTP port of a track's model server, or of ``router``."""
        return self._ports[name]

    def take(self, wire: str) -> None:
        """Go on over another wire, with a journal of its own: for a router that does not run."""
        self.wire = WIRES[wire](self._children, self._options.folder)
        self.journal = self._options.folder / f"journal-{wire}"

    def client(self, deadline: float) -> SignalClient:
        """A client over the wire."""
        return self.wire.open(self.url, deadline)

    def start(self, models: Path) -> None:
        """Start everything and wait until it is ready. Raises ProcessError."""
        self.start_servers(models)
        self.start_router()

    def start_servers(self, models: Path) -> None:
        """Start the model servers and wait until they are ready. Raises ProcessError."""
        tick = self._screen.waiting("starting three model servers and the router")
        for track in _TRACKS:
            command = [str(self._options.runtimes), "serve", "--models", str(models / track)]
            command += ["--http-port", str(self._ports[track])]
            if self._options.small:
                command += ["--warmup", "20"]  # a few seconds of life are no time for the slow calls of a young process
            command += ["--grpc-port", str(next(self._extra)), "--metrics-port", str(next(self._extra))]
            self._servers[track] = self._children.start(f"{track} model server", command, self._log(f"{track}.log"))
        for track, server in self._servers.items():
            path = f"/v2/models/{MODEL}/versions/{route.VERSIONS[track]}/ready"
            wait_ready(server, self._ports[track], path, _READY_SECONDS, tick)

    def freeze(self) -> None:
        self._servers[route.STABLE].send(SIGSTOP)

    def thaw(self) -> None:
        self._servers[route.STABLE].send(SIGCONT)

    def kill_soon(self) -> None:
        if self._router is not None:
            threading.Timer(0.003, self._router.send, (SIGKILL,)).start()

    def restart(self) -> None:
        if self._router is None:
            raise ProcessError("the router was never started")
        code = self._router.wait(_EXIT_SECONDS)
        if code != -SIGKILL:
            raise ProcessError(f"the router was to be killed, and ended with exit code {code}", self._router.log)
        self.start_router()

    def check_servers(self) -> None:
        """Raises ProcessError where a model server has ended, which nobody told it to."""
        for server in self._servers.values():
            if server.exit_code is not None:
                raise ProcessError(
                    f"{server.name} ended with exit code {server.exit_code} during the replay", server.log
                )

    def stop_router(self) -> None:
        """End the router politely: it drains and exits with 0. Raises ProcessError."""
        if self._router is None:
            return
        self._router.send(SIGTERM)
        code = self._router.wait(_EXIT_SECONDS)
        if code != 0:
            raise ProcessError(f"the router was told to end and did so with exit code {code}", self._router.log)

    def start_router(self) -> None:
        """Start the router and wait until it is ready. Raises ProcessError."""
        command = [str(self._options.router), "router", "--routes", str(self._options.folder / "routes")]
        command += ["--journal", str(self.journal), "--host", HOST, "--port", str(self._ports["router"])]
        command += ["--clock", "event", *self.wire.options]
        self._router = self._children.start("router", command, self._log("router.log"))
        wait_ready(self._router, self._ports["router"], "/readyz", _READY_SECONDS)

    def _log(self, name: str) -> Path:
        return self._options.folder / "logs" / name


def run(options: Options, screen: Screen, finished: Callable[[Report], None]) -> Report:
    """The whole demonstration. ``finished`` gets the report before ``--keep`` begins to wait.

    Raises SetupError, DataError, ProcessError, ReplayError, InterruptError; every child is gone when it returns or raises.
    """
    _check_programs(options)
    with Children() as children:
        prepare(options.folder)
        market = Market(options, screen)
        screen.say("packing bundles")
        pack_all(market.study, options.folder / "models")
        stage = Stage(options, children, screen, market.pattern)
        stage.start(options.folder / "models")
        tally = _replay(options, stage, market.snapshots, screen)
        stage.check_servers()
        # A router that goes on serving has written its journal all the same: each decision is there before its answer.
        if not options.keep:
            stage.stop_router()
        screen.say("reading the journal with other eyes")
        audited = audit(stage.journal, route.RULES, tally.answers)
        report = conclude(
            market.study, market.instruments, _period(market.snapshots), tally, audited, route.RULES.deadline_us / 1e3
        )
        finished(report)
        if options.keep:
            _keep(options, stage, market.next, screen)
        return report


def run_all_wires(options: Options, screen: Screen) -> list[Compared]:
    """The same snapshots through every wire, without faults. Raises as `run` does."""
    _check_programs(options)
    with Children() as children:
        prepare(options.folder)
        market = Market(options, screen)
        screen.say("packing bundles")
        pack_all(market.study, options.folder / "models")
        # Long, because a model server that was late once would make a difference that is not the wire's.
        stage = Stage(options, children, screen, market.pattern, deadline="20s")
        stage.start_servers(options.folder / "models")
        decided: dict[str, list[Decision]] = {}
        for wire in WIRES:
            screen.say(f"{len(market.snapshots):,} held-out snapshots on event time over {wire}")
            stage.take(wire)
            stage.start_router()
            with contextlib.closing(stage.client(30.0)) as client:
                decided[wire] = decide_all(client, market.snapshots)
            stage.stop_router()
        stage.check_servers()
        return compare(decided)


def _check_programs(options: Options) -> None:
    for program in (options.router, options.runtimes):
        if shutil.which(program) is None:
            raise SetupError(
                f"{program} is not there: `make setup` makes it, or name another with --router-bin, --runtimes-bin"
            )


def prepare(folder: Path) -> None:
    """Make the work folder anew. Raises SetupError rather than empty a folder that the demonstration did not make."""
    if folder.exists():
        if not (folder / _MARKER).exists() and any(folder.iterdir()):
            raise SetupError(
                f"{folder} is not empty and not a work folder of the demonstration; name another with --dir"
            )
        shutil.rmtree(folder)
    (folder / "logs").mkdir(parents=True)
    (folder / _MARKER).touch()


def _replay(options: Options, stage: Stage, rows: Sequence[Snapshot], screen: Screen) -> Tally:
    plan = Plan(rate=250.0, frozen_seconds=0.6) if options.small else Plan(rate=400.0, frozen_seconds=2.0)
    screen.say(f"replaying {len(rows):,} held-out snapshots on event time")
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(stage.client(_CALLER_DEADLINE_SECONDS)))
        stack.enter_context(screen)

        def call(batch: Sequence[Snapshot]) -> list[Decision]:
            return client.predict(batch)

        replay = Replay(call, rows, stage, plan, screen.show)
        try:
            return replay.run()
        finally:
            screen.show(replay.tally, last=True)


def _keep(options: Options, stage: Stage, snapshot: Snapshot, screen: Screen) -> None:
    body = options.folder / "snapshot.json"
    body.write_bytes(msgspec.json.encode(snapshot))
    stable = f"http://{HOST}:{stage.port(route.STABLE)}/v2/models/{MODEL}/versions/{route.VERSIONS[route.STABLE]}"
    screen.say("everything stays up; in another terminal:")
    for line in (
        f"curl -s {stage.url}/v1/predict -H 'content-type: application/json' -d @{body}",
        f"curl -s {stage.url}/v1/state",
        f"curl -s {stage.url}/metrics",
        f"curl -s {stable}",
    ):
        screen.say(f"  {line}")
    screen.say("Ctrl-C ends it")
    threading.Event().wait()


def _period(rows: Sequence[Snapshot]) -> tuple[str, str]:
    return utc(rows[0].ts_event), utc(rows[-1].ts_event)
