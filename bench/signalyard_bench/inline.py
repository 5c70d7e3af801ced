"""What is measured in one process: a row by the inline model and by LightGBM's own `Booster.predict`; a decision by the inline router and
by the router behind HTTP."""

import gc
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import lightgbm
import numpy as np

from signalyard import Client, Outcome, Snapshot
from signalyard_bench import ours, peer
from signalyard_bench.bodies import names, values
from signalyard_bench.rounds import SERVER, Row, Setting, compared, folder
from signalyard_bench.stats import percentile
from signalyard_inline import InlineRouter, InlineSettings
from signalyard_router.journal.settings import JournalSettings
from signalyard_runtimes import inline

_BLOCK = 500
"""Calls of one kind before it is the other's turn, so that what disturbs the machine disturbs both; so many that the first one, which finds the
caches full of the other kind, is not the 99th percentile."""
_ROWS = 1024
_SYMBOLS = 64
_DEADLINE = 10.0

Times = dict[str, "array[int]"]


async def inline_row(setting: Setting) -> list[Row]:
    """One row: the inline model, given an array and given a list, and `Booster.predict` with one thread, in turns on one core."""
    booster = lightgbm.Booster(model_file=str(peer.trained(setting.cache)))
    model = inline.load(peer.bundle(setting.cache) / f"{peer.MODEL}-{peer.VERSION}", names(peer.FEATURES))
    lists = values(peer.FEATURES, _ROWS)
    arrays = [np.array(row) for row in lists]
    matrices = [row.reshape(1, -1) for row in arrays]
    for row, given, matrix in zip(arrays, lists, matrices, strict=True):
        promised = booster.predict(matrix, num_threads=1)[0]
        if not model.score(row) == model.score(given) == promised:
            raise AssertionError("the inline model and Booster.predict give different scores")
    turn = iter(range(10**12))

    def of(score: Callable[..., object], rows: Sequence[object], **more: int) -> Callable[[], object]:
        return lambda: score(rows[next(turn) % _ROWS], **more)

    subjects = {
        "ours": of(model.score, arrays),
        "a list": of(model.score, lists),
        "Booster.predict, one thread": of(booster.predict, matrices, num_threads=1),
    }
    rounds = [_in_turns(subjects, setting.seconds * len(subjects)) for _ in range(setting.rounds)]
    return _rows("a row in process", rounds, "<= 0.5", lambda ratio: ratio <= 0.5)


async def inline_decision(setting: Setting) -> list[Row]:
    """One decision at a time: the router in process, on the caller's core, and a blocking client to the router and our model server, both on
    the other core."""
    with folder(setting, "inline") as work, ExitStack() as stack:
        bundles = peer.bundle(setting.cache)
        (work / "own").mkdir()
        (work / "own" / "route.yaml").write_text(_without_standby(ours.document(1)))
        server = stack.enter_context(ours.runtime(setting.environment("runtimes"), work, bundles, SERVER))
        router = stack.enter_context(
            ours.router(setting.environment("router"), work, [ours.document(server.port)], SERVER)
        )
        client = stack.enter_context(Client(f"http://127.0.0.1:{router.port}", _DEADLINE))
        settings = InlineSettings(
            models=bundles, routes=work / "own", journal=JournalSettings(folder=str(work / "own-journal"))
        )
        own = stack.enter_context(InlineRouter(settings, _DEADLINE))
        rows = [dict(zip(names(peer.FEATURES), row, strict=True)) for row in values(peer.FEATURES, _ROWS)]
        turn = iter(range(10**12))

        def snapshot() -> Snapshot:
            number = next(turn)
            symbol = f"i{number % _SYMBOLS:04d}.SHFE"
            return Snapshot(symbol=symbol, ts_event=time.time_ns(), features=rows[number % _ROWS])

        def through_http() -> None:
            _emitted(client.predict_one(snapshot()).outcome)

        def in_process() -> None:
            _emitted(own.decide(snapshot()).outcome)

        subjects = {"ours": in_process, "router and model server by HTTP": through_http}
        _in_turns(subjects, max(3.0, setting.seconds))
        rounds = [_in_turns(subjects, setting.seconds * len(subjects)) for _ in range(setting.rounds)]
    return _rows("a decision in process", rounds, "", lambda ratio: True)


def _emitted(outcome: Outcome) -> None:
    if outcome is not Outcome.EMITTED:
        raise AssertionError(f"a decision was {outcome}")


def _without_standby(document: str) -> str:
    """In process a version that a document names must have its bundle, and there is one here."""
    return "\n".join(line for line in document.splitlines() if "name: standby" not in line)


def _in_turns(subjects: Mapping[str, Callable[[], object]], seconds: float) -> Times:
    """The time of each call, nanoseconds, ascending."""
    times: Times = {name: array("q") for name in subjects}
    now = time.perf_counter_ns
    until = now() + int(seconds * 1e9)
    gc.collect()
    while now() < until:
        for name, call in subjects.items():
            kept = times[name]
            for _ in range(_BLOCK):
                started = now()
                call()
                kept.append(now() - started)
    return {name: array("q", sorted(kept)) for name, kept in times.items()}


def _rows(scenario: str, rounds: Sequence[Times], target: str, met: Callable[[float], bool]) -> list[Row]:
    rows: list[Row] = []
    for percent in (50, 99):
        figures = {name: [percentile(times[name], percent) / 1000 for times in rounds] for name in rounds[0]}
        for name in [name for name in figures if name in ("ours", "a list")]:
            us = figures[name]
            them = {other: them for other, them in figures.items() if other not in ("ours", "a list")}
            what = f"p{percent}" if name == "ours" else f"p{percent}, given {name}"
            rows.append(compared(scenario, what, "us", us, them, target, met))
    return rows
