"""What is measured. Each scenario starts its servers, runs rounds over all of them in turn, and gives rows of the table.

The server that is measured has core 0; the client, and what stands behind the server, have core 1, except where a scenario
says that two servers share core 0.
"""

import asyncio
import sys
import time
from contextlib import ExitStack
from statistics import median

from signalyard_bench import ours, peer
from signalyard_bench.bodies import columnar, snapshots
from signalyard_bench.load import LoadError
from signalyard_bench.rounds import (
    CLIENT,
    SERVER,
    SYMBOLS,
    Row,
    Setting,
    Subject,
    compared,
    folder,
    split,
    start_peers,
    tables,
    warm,
)
from signalyard_bench.stats import Ratio

_BUSY_POLL = 20
"""Milliseconds: longer than from one request of a closed loop to the next, and over before another server is measured."""


async def alone(setting: Setting) -> list[Row]:
    """The router alone on its core, single snapshots, a model server behind it that answers at once; one connection also with a
    router that does not sleep between requests."""
    with folder(setting, "alone") as work, ExitStack() as stack:
        subjects = start_peers(setting, work, stack)
        model = stack.enter_context(ours.model_server(work, CLIENT))
        router = stack.enter_context(
            ours.router(setting.environment("router"), work, [ours.document(model.port)], SERVER)
        )
        options = ["--busy-poll", f"{_BUSY_POLL}ms"]
        polls = stack.enter_context(
            ours.router(setting.environment("router"), work / "awake", [ours.document(model.port)], SERVER, options)
        )
        subjects["router"] = Subject(router, snapshots(peer.FEATURES, SYMBOLS))
        awake = Subject(polls, snapshots(peer.FEATURES, SYMBOLS))
        await warm([*subjects.values(), awake], max(3.0, setting.seconds))
        p50, p99, rate, cpu = (tables(subjects) for _ in range(4))
        awake_p50: list[float] = []
        awake_p99: list[float] = []
        kinds: dict[str, int] = {}
        busy: list[float] = []
        for _ in range(setting.rounds):
            for name, subject in subjects.items():
                outcome = await subject.closed(1, setting.seconds)
                p50[name].append(outcome.at(50))
                p99[name].append(outcome.at(99))
            outcome = await awake.closed(1, setting.seconds)
            awake_p50.append(outcome.at(50))
            awake_p99.append(outcome.at(99))
            await asyncio.sleep(5 * _BUSY_POLL / 1000)
            for name, subject in subjects.items():
                used, others, began = (
                    subject.process.cpu(),
                    model.cpu() + time.process_time_ns(),
                    time.perf_counter_ns(),
                )
                outcome = await subject.closed(32, setting.seconds)
                cpu[name].append((subject.process.cpu() - used) / 1000 / len(outcome.latencies))
                if name == "router":
                    kinds = outcome.kinds
                    took = time.perf_counter_ns() - began
                    busy.append((model.cpu() + time.process_time_ns() - others) / took)
                rate[name].append(outcome.rate)
    note = f"client and model server kept the other core {median(busy):.0%} busy; {_said(kinds)}"
    scenario = "router alone"
    return [
        compared(scenario, "answers a second, 32 connections", "/s", *split(rate), ">= 7", lambda r: r >= 7, note),
        compared(scenario, "server's CPU an answer, 32 connections", "us", *split(cpu), "", lambda r: True),
        compared(scenario, "p50, 1 connection", "ms", *split(p50), "<= 0.4", lambda r: r <= 0.4),
        compared(scenario, "p99, 1 connection", "ms", *split(p99), "", lambda r: True),
        compared(scenario, "p50 with --busy-poll", "ms", awake_p50, split(p50)[1], "<= 0.4", lambda r: r <= 0.4),
        compared(scenario, "p99 with --busy-poll", "ms", awake_p99, split(p99)[1], "", lambda r: True),
    ]


async def front(setting: Setting) -> list[Row]:
    """The router and our model server together on one core, the same LightGBM model as the peers'."""
    with folder(setting, "front") as work, ExitStack() as stack:
        subjects = start_peers(setting, work, stack)
        bundles = peer.bundle(setting.cache)
        model = stack.enter_context(ours.runtime(setting.environment("runtimes"), work, bundles, SERVER))
        router = stack.enter_context(
            ours.router(setting.environment("router"), work, [ours.document(model.port)], SERVER)
        )
        subjects["router"] = Subject(router, snapshots(peer.FEATURES, SYMBOLS))
        await warm(list(subjects.values()), max(3.0, setting.seconds))
        p50, p99, rate = tables(subjects), tables(subjects), tables(subjects)
        for _ in range(setting.rounds):
            for name, subject in subjects.items():
                outcome = await subject.closed(1, setting.seconds)
                p50[name].append(outcome.at(50))
                p99[name].append(outcome.at(99))
            for name, subject in subjects.items():
                rate[name].append((await subject.closed(32, setting.seconds)).rate)
    scenario = "router and model server on one core"
    return [
        compared(scenario, "p50, 1 connection", "ms", *split(p50), "<= 0.55", lambda r: r <= 0.55),
        compared(scenario, "p99, 1 connection", "ms", *split(p99), "<= 0.65", lambda r: r <= 0.65),
        compared(scenario, "answers a second, 32 connections", "/s", *split(rate), "", lambda r: True),
    ]


async def batch(setting: Setting) -> list[Row]:
    """The router's CPU for a row of a columnar batch of 100, beside that for a snapshot that comes alone, with nothing to share its call
    and its commit with, and for one of 32 that come together, which share them."""
    with folder(setting, "batch") as work, ExitStack() as stack:
        model = stack.enter_context(ours.model_server(work, CLIENT))
        router = stack.enter_context(
            ours.router(setting.environment("router"), work, [ours.document(model.port)], SERVER)
        )
        single = Subject(router, snapshots(peer.FEATURES, SYMBOLS))
        symbols = [f"i{index:04d}.SHFE" for index in range(400)]
        hundred = Subject(router, columnar(peer.FEATURES, symbols, 100))
        await single.closed(8, max(3.0, setting.seconds))
        await hundred.closed(2, setting.seconds)
        singles: dict[str, list[float]] = {"a snapshot alone": [], "a snapshot of 32 at once": []}
        row: list[float] = []
        for _ in range(setting.rounds):
            for lanes, figures in zip((1, 32), singles.values(), strict=True):
                figures.append(await _cpu(single, lanes, setting.seconds))
            row.append(await _cpu(hundred, 2, setting.seconds) / 100)
    what = "router's CPU a row, to that of a snapshot"
    return [compared("columnar batch of 100", what, "us", row, singles, "<= 0.15", lambda r: r <= 0.15)]


async def _cpu(subject: Subject, lanes: int, seconds: float) -> float:
    """Microseconds of CPU an answer."""
    before = subject.process.cpu()
    outcome = await subject.closed(lanes, seconds)
    return (subject.process.cpu() - before) / 1000 / len(outcome.latencies)


async def hung(setting: Setting) -> list[Row]:
    """A model server that takes requests and never answers, its standby the same, 1,000 snapshots a second."""
    deadline, rate = 100, 1000
    with folder(setting, "hung") as work, ExitStack() as stack:
        model = stack.enter_context(ours.model_server(work, CLIENT, hang=True))
        document = ours.document(model.port, deadline=f"{deadline}ms")
        router = stack.enter_context(ours.router(setting.environment("router"), work, [document], SERVER))
        subject = Subject(router, snapshots(peer.FEATURES, SYMBOLS))
        await subject.open(rate / 4, 400, 2)
        outcomes = [await subject.open(rate, 400, 2 * setting.seconds) for _ in range(setting.rounds)]
    shares = [100 * outcome.within(deadline + 5) for outcome in outcomes]
    worst = max(outcome.at(100) for outcome in outcomes)
    note = f"p50 {median(o.at(50) for o in outcomes):.1f} ms, longest {worst:.1f} ms; {_said(outcomes[-1].kinds)}"
    return [
        Row(
            "hung model server, 1,000 snapshots a second",
            "answers within deadline + 5 ms",
            "%",
            shares,
            target=">= 99.9",
            reached=median(shares) >= 99.9,
            note=note,
        )
    ]


async def routes(setting: Setting) -> list[Row]:
    """10,000 instruments on 500 routes, each with a model of its own, against one instrument on one route."""
    count, instruments = 500, 10_000
    with folder(setting, "routes") as work, ExitStack() as stack:
        model = stack.enter_context(ours.model_server(work, CLIENT))
        many = [
            ours.document(model.port, name=f"r{index:03d}", model=f"m{index:03d}", instruments=f"r{index:03d}-*.SHFE")
            for index in range(count)
        ]
        symbols = [f"r{index % count:03d}-{index // count:02d}.SHFE" for index in range(instruments)]
        environment = setting.environment("router")
        subjects = {
            "500 routes": Subject(
                stack.enter_context(ours.router(environment, work / "many", many, SERVER)),
                snapshots(peer.FEATURES, symbols),
            ),
            "1 route": Subject(
                stack.enter_context(ours.router(environment, work / "one", [ours.document(model.port)], SERVER)),
                snapshots(peer.FEATURES, SYMBOLS[:1]),
            ),
        }
        for subject in subjects.values():  # each instrument is seen before it counts
            seen = 0
            while seen < 2 * instruments:
                seen += len((await subject.closed(1, 1)).latencies)
        p50, cpu = tables(subjects), tables(subjects)
        for _ in range(setting.rounds):
            for name, subject in subjects.items():
                before = subject.process.cpu()
                outcome = await subject.closed(1, setting.seconds)
                cpu[name].append((subject.process.cpu() - before) / 1000 / len(outcome.latencies))
                p50[name].append(outcome.at(50))
    scenario = "10,000 instruments on 500 routes, to one on one"
    target, met = "<= 1.2", lambda r: r <= 1.2
    return [
        compared(scenario, "p50, 1 connection", "ms", p50.pop("500 routes"), p50, target, met),
        compared(scenario, "router's CPU a snapshot", "us", cpu.pop("500 routes"), cpu, target, met),
    ]


async def shadowed(setting: Setting) -> list[Row]:
    """A hung shadow beside a good live model, to the same router without a shadow; the two are asked in turn."""
    with folder(setting, "shadowed") as work, ExitStack() as stack:
        model = stack.enter_context(ours.model_server(work, CLIENT))
        silent = stack.enter_context(ours.model_server(work, CLIENT, hang=True))
        environment = setting.environment("router")
        with_shadow = [ours.document(model.port, shadow=silent.port)]
        subjects = {
            "router": Subject(
                stack.enter_context(ours.router(environment, work / "with", with_shadow, SERVER)),
                snapshots(peer.FEATURES, SYMBOLS),
            ),
            "without a shadow": Subject(
                stack.enter_context(ours.router(environment, work / "without", [ours.document(model.port)], SERVER)),
                snapshots(peer.FEATURES, SYMBOLS),
            ),
        }
        await warm(list(subjects.values()), max(3.0, setting.seconds))
        p99, p50 = tables(subjects), tables(subjects)
        for _ in range(2 * setting.rounds):
            for name, subject in subjects.items():
                outcome = await subject.open(500, 64, setting.seconds)
                p99[name].append(outcome.at(99))
                p50[name].append(outcome.at(50))
    scenario = "hung shadow, 500 snapshots a second"
    return [
        compared(scenario, "live p99", "ms", *split(p99), "<= 1.1", lambda r: r <= 1.1),
        compared(scenario, "live p50", "ms", *split(p50), "", lambda r: True),
    ]


_REWRITE = "p.write_text(p.read_text().replace(f'window: {sys.argv[2]}us', f'window: {sys.argv[3]}us'))"


async def reload(setting: Setting) -> list[Row]:
    """500 routes rewritten while one of them is asked: the longest answer, to the longest in as long without."""
    count = 500
    with folder(setting, "reload") as work, ExitStack() as stack:
        model = stack.enter_context(ours.model_server(work, CLIENT))
        documents = [
            ours.document(model.port, name=f"r{index:03d}", instruments=f"r{index:03d}-*.SHFE")
            for index in range(count)
        ]
        router = stack.enter_context(ours.router(setting.environment("router"), work, documents, SERVER))
        subject = Subject(router, snapshots(peer.FEATURES, [f"r{index:03d}-00.SHFE" for index in range(8)]))
        await subject.closed(8, 3)
        calm: list[float] = []
        stirred: list[float] = []
        for number in range(2 * setting.rounds):
            calm.append((await subject.open(500, 16, 3)).at(100))
            load = asyncio.ensure_future(subject.open(500, 16, 3))
            await asyncio.sleep(0.5)
            # by another process: writing here would keep the client from asking, and count as the router's stall
            script = f"import pathlib, sys\nfor p in pathlib.Path(sys.argv[1]).glob('*.yaml'): {_REWRITE}"
            writer = await asyncio.create_subprocess_exec(
                sys.executable, "-c", script, str(work / "routes"), str(number), str(number + 1)
            )
            if await writer.wait():
                raise LoadError("the documents could not be rewritten")
            stirred.append((await load).at(100))
    extra = median(stirred) - median(calm)
    return [
        Row(
            f"reload of {count} routes under 500 snapshots a second",
            "longest answer in three seconds",
            "ms",
            stirred,
            {"without a reload": calm},
            {"without a reload": Ratio.of(stirred, calm)},
            target="+ <= 5 ms",
            reached=extra <= 5,
            note=f"the median is {extra:+.1f} ms",
        )
    ]


async def soak(setting: Setting) -> list[Row]:
    """Half of what the router can do, for long: memory and p99 of the last third to those of the second."""
    windows = 30
    with folder(setting, "soak") as work, ExitStack() as stack:
        model = stack.enter_context(ours.model_server(work, CLIENT))
        router = stack.enter_context(
            ours.router(setting.environment("router"), work, [ours.document(model.port)], SERVER)
        )
        subject = Subject(router, snapshots(peer.FEATURES, SYMBOLS))
        await subject.closed(8, 3)
        rate = (await subject.closed(32, 3)).rate / 2
        p99: list[float] = []
        memory: list[float] = []
        for _ in range(windows):
            outcome = await subject.open(rate, 64, setting.soak_seconds / windows)
            p99.append(outcome.at(99))
            memory.append(router.memory() / 2**20)
            for segment in sorted((work / "journal").glob("*.jsonl"))[:-1]:
                segment.unlink()  # the disk is not what is tested
    third = windows // 3
    note = f"{rate:.0f} snapshots a second for {setting.soak_seconds / 60:.1f} minutes"
    middle = {"the second third": memory[third : 2 * third]}
    earlier = {"the second third": p99[third : 2 * third]}
    return [
        compared(
            "soak",
            "resident memory, last third",
            "MiB",
            memory[2 * third :],
            middle,
            "<= 1.02",
            lambda r: r <= 1.02,
            note,
        ),
        compared("soak", "p99, last third", "ms", p99[2 * third :], earlier, "<= 1.1", lambda r: r <= 1.1),
    ]


def _said(kinds: dict[str, int]) -> str:
    total = sum(kinds.values())
    return ", ".join(f"{count / total:.1%} {kind}" for kind, count in sorted(kinds.items()))


SERVED = {
    "alone": alone,
    "front": front,
    "batch": batch,
    "hung": hung,
    "routes": routes,
    "shadowed": shadowed,
    "reload": reload,
}
"""Those of the router."""
