"""The journal that replicas share in Redis beside the local one, in the same run.

Both routers have core 0, one at a time at work; client, model server and the Redis server have core 1. What a commit costs is the
router's own measurement: from the moment that proposals reach the journal until they are answered, as a mean over a round.
"""

import http.client
import re
from contextlib import ExitStack

from signalyard_bench import ours, peer
from signalyard_bench.bodies import columnar, snapshots
from signalyard_bench.load import Requests
from signalyard_bench.rounds import CLIENT, SERVER, Row, Setting, Subject, compared, folder
from signalyard_bench.servers import Process, free_ports

BATCHES = (1, 10, 100)
_SYMBOLS = [f"i{index:04d}.SHFE" for index in range(400)]
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
        requests: dict[int, Requests] = {
            rows: snapshots(peer.FEATURES, _SYMBOLS) if rows == 1 else columnar(peer.FEATURES, _SYMBOLS, rows)
            for rows in BATCHES
        }
        p50: dict[tuple[str, int], list[float]] = {(name, rows): [] for name in routers for rows in BATCHES}
        cost: dict[tuple[str, int], list[float]] = {key: [] for key in p50}
        for round_ in range(-1, setting.rounds):
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
        what = "a snapshot" if rows == 1 else f"a batch of {rows}"
        beside = {"local": p50["local", rows]}
        found.append(compared("journals", f"p50 of {what} over Redis", "ms", p50["Redis", rows], beside, "", _any))
        added = [ours_ - theirs for ours_, theirs in zip(p50["Redis", rows], p50["local", rows], strict=True)]
        if rows == 1:
            median = sorted(added)[len(added) // 2]
            found.append(
                Row("journals", "what Redis adds at p50", "ms", added, target="<= 0.15 ms", reached=median <= 0.15)
            )
    for name in routers:
        for rows in BATCHES[1:]:
            beside = {"of one": cost[name, 1]}
            target, met = ("<= 10", _ten) if rows == 100 else ("", _any)
            found.append(compared("journals", f"commit of {rows}, {name}", "ms", cost[name, rows], beside, target, met))
    return found


def _any(ratio: float) -> bool:
    return True


def _ten(ratio: float) -> bool:
    return ratio <= 10


def _commits(router: Process) -> tuple[float, float]:
    """The seconds that commits took so far, and how many there were."""
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        found = dict(_COMMITS.findall(connection.getresponse().read()))
    finally:
        connection.close()
    return float(found[b"sum"]), float(found[b"count"])
