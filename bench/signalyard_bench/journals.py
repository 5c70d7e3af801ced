"""The journal that replicas share in Redis beside the local one, in the same run.

Both routers have core 0, one at a time at work; client, model server and the Redis server have core 1. What a commit costs is the
router's own measurement: from the moment that proposals reach the journal until they are answered, as a mean over a round. Beside what Redis
adds to a snapshot stands what a plain client pays for the same script on the router's core, for Redis and two cores' wake-ups are most of both.
"""

import asyncio
import re
from contextlib import ExitStack
from statistics import median

import msgspec

from signalyard_bench import ours
from signalyard_bench.rounds import BATCHES, CLIENT, SERVER, Row, Setting, Subject, compared, folder, named, of_rows
from signalyard_bench.scripted import measured
from signalyard_bench.servers import Process, free_ports

_COMMITS = re.compile(rb"^signalyard_journal_commit_seconds_(sum|count) (\S+)$", re.MULTILINE)


async def journals(setting: Setting) -> list[Row]:
    """What sharing a journal adds to a snapshot, and what a batch's commit costs."""
    with folder(setting, "journals") as work, ExitStack() as stack:
        model = stack.enter_context(ours.model_server(work, CLIENT))
        (port,) = free_ports(1)
        stack.enter_context(ours.redis(setting.environment("valkey"), work, port, CLIENT))
        shared = ("--journal-redis", f"redis://127.0.0.1:{port}/0", "--replica", "bench")
        routers = {
            name: stack.enter_context(
                ours.router(
                    setting.environment("router"), work / name, [ours.document(model.port)], SERVER, options=options
                )
            )
            for name, options in (("local", ()), ("Redis", shared))
        }
        requests = {rows: of_rows(rows) for rows in BATCHES}
        p50: dict[tuple[str, int], list[float]] = {(name, rows): [] for name in routers for rows in BATCHES}
        cost: dict[tuple[str, int], list[float]] = {key: [] for key in p50}
        scripted: list[float] = []
        for round_ in range(-1, setting.rounds):
            if round_ >= 0:
                scripted.append(await asyncio.to_thread(measured, SERVER, port, setting.seconds))
            for rows, made in requests.items():
                for name, router in routers.items():
                    before = _commits(router)
                    outcome = await Subject(router, made).closed(1, setting.seconds)
                    after = _commits(router)
                    if round_ < 0:
                        continue  # it warms up
                    p50[name, rows].append(outcome.at(50))
                    cost[name, rows].append((after[0] - before[0]) / (after[1] - before[1]) * 1000)
    found: list[Row] = []
    for rows in BATCHES:
        beside = {"local": p50["local", rows]}
        found.append(
            compared(
                "journals", f"p50 of {named(rows)} over Redis", "ms", p50["Redis", rows], beside, "", lambda _: True
            )
        )
        added = [ours_ - theirs for ours_, theirs in zip(p50["Redis", rows], p50["local", rows], strict=True)]
        if rows == 1:
            beside = {"the same script by redis-py": scripted}
            reached = median(added) <= 0.15
            row = compared("journals", "what Redis adds at p50", "ms", added, beside, "<= 0.15 ms", lambda _: True)
            found.append(msgspec.structs.replace(row, reached=reached))
    for name in routers:
        for rows in BATCHES[1:]:
            beside = {"of one": cost[name, 1]}
            target, met = ("<= 10", lambda ratio: ratio <= 10) if rows == 100 else ("", lambda _: True)
            found.append(compared("journals", f"commit of {rows}, {name}", "ms", cost[name, rows], beside, target, met))
    return found


def _commits(router: Process) -> tuple[float, float]:
    """The seconds that commits took so far, and how many there were."""
    found = dict(_COMMITS.findall(router.ask("GET", "/metrics")))
    return float(found[b"sum"]), float(found[b"count"])
