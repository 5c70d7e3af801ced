"""The model server against stock MLServer, the same LightGBM model in both."""

import asyncio
import gc
import shutil
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec

from signalyard_bench import ours, peer
from signalyard_bench.bodies import inference, profiled
from signalyard_bench.engine import Engine, Times
from signalyard_bench.load import Load
from signalyard_bench.rounds import (
    PEERS,
    SERVER,
    Row,
    Setting,
    Subject,
    compared,
    folder,
    good,
    split,
    start_peers,
    tables,
    warm,
)
from signalyard_bench.servers import Process, Scheduled, free_ports, stolen
from signalyard_bench.stats import Ratio

_OURS = "our model server"
_NOTHING = "a server with nothing in it"
_PAUSE_REQUESTS = 200_000
_RELOADS = 50
_RELOAD_SECONDS = 25.0
IMAGE = "runtimes-lightgbm"
"""The environment of the image for this framework, as it ships. One with scikit-learn beside LightGBM is larger and starts later, because
LightGBM imports it wherever it is; stock's has none either."""


def _start(setting: Setting, work: Path, stack: ExitStack, rows: int = 1) -> dict[str, Subject]:
    subjects = start_peers(setting, work, stack, rows)
    bundles = peer.bundle(setting.cache)
    process = stack.enter_context(ours.runtime(setting.environment("runtimes"), work, bundles, SERVER))
    subjects[_OURS] = Subject(process, profiled(peer.MODEL, peer.FEATURES, rows))
    return subjects


async def fastlane(setting: Setting) -> list[Row]:
    """One row a request, the servers alone on their core."""
    with folder(setting, "fastlane") as work, ExitStack() as stack:
        subjects = _start(setting, work, stack)
        await warm(list(subjects.values()), max(3.0, setting.seconds))
        p50, p99, rate, cpu = (tables(subjects) for _ in range(4))
        for _ in range(setting.rounds):
            for name, subject in subjects.items():
                outcome = await subject.closed(1, setting.seconds)
                p50[name].append(outcome.at(50))
                p99[name].append(outcome.at(99))
            for name, subject in subjects.items():
                used = subject.process.cpu()
                outcome = await subject.closed(32, setting.seconds)
                cpu[name].append((subject.process.cpu() - used) / 1000 / len(outcome.latencies))
                rate[name].append(outcome.rate)
    scenario = "fast lane"
    return [
        compared(scenario, "answers a second, 32 connections", "/s", *split(rate, _OURS), ">= 10", lambda r: r >= 10),
        compared(scenario, "server's CPU an answer, 32 connections", "us", *split(cpu, _OURS), "", lambda r: True),
        compared(scenario, "p50, 1 connection", "ms", *split(p50, _OURS), "<= 0.25", lambda r: r <= 0.25),
        compared(scenario, "p99, 1 connection", "ms", *split(p99, _OURS), "", lambda r: True),
    ]


async def thousand(setting: Setting) -> list[Row]:
    """1,000 rows a request: what the server adds to the engine's own time on the same rows.

    Both are ten to twenty milliseconds, of which a noisy machine makes twenty to thirty at any time. So a call of the engine alone, on the
    servers' core, follows each request, and it is their difference of which medians are taken.
    """
    count = 1000
    with folder(setting, "thousand") as work, ExitStack() as stack:
        subjects = _start(setting, work, stack, count)
        engine = stack.enter_context(Engine(work, peer.trained(setting.cache), count, SERVER))
        await warm(list(subjects.values()), setting.seconds)
        added, cpu, whole = (tables(subjects) for _ in range(3))
        alone: list[float] = []
        async with AsyncExitStack() as connections:
            loads = {name: await connections.enter_async_context(one.connected(1)) for name, one in subjects.items()}
            for _ in range(setting.rounds):
                turns: dict[str, list[_Turn]] = {name: [] for name in subjects}
                until = time.monotonic() + setting.seconds * len(subjects)
                while time.monotonic() < until:
                    for name, subject in subjects.items():
                        turns[name].append(await _turn(subject.process, loads[name], engine))
                for name, taken in turns.items():
                    whole[name].append(median(turn.elapsed for turn in taken))
                    # Never zero, by which no ratio could be taken.
                    added[name].append(max(median(turn.elapsed - turn.engine.elapsed for turn in taken), 0.001))
                    cpu[name].append(max(median(turn.cpu - turn.engine.cpu for turn in taken), 0.001))
                    alone += [turn.engine.elapsed for turn in taken]
    note = f"the engine alone takes {median(alone):.2f} ms"
    scenario = "1,000 rows in one request"
    return [
        compared(
            scenario,
            "what the server adds to the engine's time",
            "ms",
            *split(added, _OURS),
            "<= 0.33",
            lambda r: r <= 0.334,
            note,
        ),
        compared(scenario, "the same of the server's CPU", "ms", *split(cpu, _OURS), "", lambda r: True),
        compared(scenario, "p50", "ms", *split(whole, _OURS), "", lambda r: True),
    ]


class _Turn(NamedTuple):
    """A request and a call of the engine after it, in milliseconds; ``cpu`` is the server's, of all its threads."""

    elapsed: float
    cpu: float
    engine: Times


async def _turn(process: Process, load: Load, engine: Engine) -> _Turn:
    used = process.cpu()
    outcome = good(await load.closed(0))  # no time for a second one
    alone = engine.score()  # meanwhile the server has put away what is left of the request
    return _Turn(outcome.at(50), (process.cpu() - used) / 1e6, alone)


async def pauses(setting: Setting) -> list[Row]:
    """The longest of 200,000 answers from the moment of being ready on, one connection; nothing is warmed up by us.

    A pause may be the machine's, too, and where it is a hypervisor's the kernel sees it as nobody's. So the same is asked of a server with
    nothing in it, and of each answer it is noted how long the server was at work.
    """
    longest: dict[str, list[float]] = {}
    ran: dict[str, list[float]] = {}
    notes = []
    total = _PAUSE_REQUESTS if setting.seconds >= 2 else _PAUSE_REQUESTS // 20
    for name in (_OURS, *PEERS, _NOTHING):
        with folder(setting, "pauses") as work, ExitStack() as stack:
            requests = profiled(peer.MODEL, peer.FEATURES)
            if name == _OURS:
                process = ours.runtime(setting.environment(IMAGE), work, peer.bundle(setting.cache), SERVER)
            elif name == _NOTHING:
                process = ours.model_server(work, SERVER)
            else:
                process = _stock(setting, work, name)
                requests = inference(peer.MODEL, peer.FEATURES)
            subject = Subject(stack.enter_context(process), requests)
            lost = stolen(SERVER)
            answers = await _each(subject, total)
            worst = max(answers)
            longest[name] = [worst.elapsed]
            ran[name] = [max(answer.ran for answer in answers)]
            notes.append(
                f"{name}: in the longest the server ran {worst.ran:.1f} ms, and waits for a core took {worst.waited:.1f}; "
                f"the hypervisor had its core for {stolen(SERVER) - lost:.2f} s in all"
            )
    scenario, target = f"{total:,} requests after ready", 10.0
    rows = []
    for what, figures, note in (
        ("longest answer", longest, "; ".join(notes)),
        ("longest that the server was at work on an answer", ran, ""),
    ):
        row = compared(scenario, what, "ms", *split(figures, _OURS), f"<= {target:.0f} ms", lambda _: True, note)
        rows.append(msgspec.structs.replace(row, reached=row.ours[0] <= target))
    return rows


class _Timed(NamedTuple):
    """One answer, in milliseconds: how long it took, how long the server ran meanwhile, and server and client waited for a core."""

    elapsed: float
    ran: float
    waited: float


async def _each(subject: Subject, total: int) -> list[_Timed]:
    """So many answers one after another; what took less than a millisecond is left out, but for one."""
    kept: list[_Timed] = []
    async with subject.connected(1) as load:
        for number in range(total):
            if number % 10_000 == 0:
                gc.collect()  # the client's own garbage, while nobody is timed
            server, client = subject.process.scheduled(), Scheduled.of("self")
            elapsed = good(await load.closed(0)).at(100)
            if elapsed >= 1.0 or not kept:
                after = subject.process.scheduled()
                waited = after.waited - server.waited + Scheduled.of("self").waited - client.waited
                kept.append(_Timed(elapsed, (after.ran - server.ran) / 1e6, waited / 1e6))
    return kept


async def start(setting: Setting) -> list[Row]:
    """From the start of the process to being ready, and resident memory then."""
    seconds: dict[str, list[float]] = {name: [] for name in (*PEERS, _OURS)}
    cpu: dict[str, list[float]] = {name: [] for name in (*PEERS, _OURS)}
    memory: dict[str, list[float]] = {name: [] for name in (*PEERS, _OURS)}
    for _ in range(setting.rounds):
        for name in seconds:
            with folder(setting, "start") as work:
                bundles = peer.bundle(setting.cache)
                began = time.perf_counter_ns()
                if name == _OURS:
                    process = ours.runtime(setting.environment(IMAGE), work, bundles, SERVER)
                else:
                    process = _stock(setting, work, name)
                with process:
                    seconds[name].append((time.perf_counter_ns() - began) / 1e9)
                    cpu[name].append(process.cpu() / 1e9)
                    memory[name].append(process.memory() / 2**20)
    scenario = "start of a model server"
    return [
        compared(scenario, "to ready", "s", *split(seconds, _OURS), "<= 1", lambda r: r <= 1),
        compared(scenario, "CPU until then", "s", *split(cpu, _OURS), "", lambda r: True),
        compared(scenario, "resident memory", "MiB", *split(memory, _OURS), "<= 1", lambda r: r <= 1),
    ]


async def reloads(setting: Setting) -> list[Row]:
    """A model replaced 50 times under the load of one connection: memory after the first ones and the last, and the longest answer."""
    memory: list[float] = []
    with folder(setting, "reloads") as work, ExitStack() as stack:
        place = work / "models"
        kinds = [peer.bundle(setting.cache), peer.bundle(setting.cache, "-other")]
        # All before: copying here, under load, would keep the client from asking.
        copies = [Path(shutil.copytree(kinds[number % 2], work / f"models-{number}")) for number in range(_RELOADS + 1)]
        copies[0].rename(place)
        process = stack.enter_context(ours.runtime(setting.environment(IMAGE), work, place, SERVER, live=True))
        subject = Subject(process, profiled(peer.MODEL, peer.FEATURES))
        calm = [(await subject.closed(1, _RELOAD_SECONDS)).at(100)]
        load = asyncio.ensure_future(subject.closed(1, _RELOAD_SECONDS))
        for copy in copies[1:]:
            place.rename(work / f"was-{copy.name}")
            copy.rename(place)
            await asyncio.to_thread(process.ask, "POST", f"/v2/repository/models/{peer.MODEL}/load")
            memory.append(process.memory() / 2**20)
        stirred = [(await load).at(100)]
    scenario = f"{_RELOADS} reloads under load"
    first, last = {"the sixth to the tenth": memory[5:10]}, memory[-5:]
    return [
        compared(scenario, "resident memory, last five", "MiB", last, first, "<= 1.05", lambda r: r <= 1.05),
        Row(
            scenario,
            "longest answer",
            "ms",
            stirred,
            {"as long without": calm},
            {"as long without": Ratio.of(stirred, calm)},
            target="<= 10 ms",
            reached=stirred[0] <= 10,
        ),
    ]


def _stock(setting: Setting, work: Path, name: str) -> Process:
    environment = setting.environment(PEERS[name])
    return peer.start(environment, work, peer.trained(setting.cache), free_ports(3), SERVER)


RUNTIME = {"fastlane": fastlane, "thousand": thousand, "pauses": pauses, "start": start, "reloads": reloads}
"""The scenarios of the model server."""
