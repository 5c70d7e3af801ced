"""A version becomes the stable one step by step, and at every stage one command brings the old one back, within a second and without a pod."""

import re
import time
from dataclasses import dataclass

import pytest
from bundles import MODEL
from desk import DEADLINE, ROUTER, ROUTER_POD, WINDOW

WHO = ("--by", "ann", "--why", "the scenario says so")
SYMBOLS = [f"rb{number}.SHFE" for number in range(4000, 4030)]


@dataclass(frozen=True)
class Way:
    """A way back that was taken at ``stage``: the command began at ``at`` (UTC nanoseconds) and pulled ``lever``, while version 8 decided
    for ``symbols``."""

    stage: str
    at: int
    lever: str
    symbols: frozenset[str]


@pytest.mark.alone
def test_04_promotion(desk, scenario, summary):
    version = desk.published.version

    def values(stable, weight, *standbys):
        canary = {} if weight is None else {"canary": {**version("8"), "weight": weight}}
        return desk.model(stable, tracks=canary, standbys=[version(one) for one in standbys], route={"handover": "now"})

    def go_back(stage):
        load.await_more(2 * len(SYMBOLS), timeout=60)
        (status,) = desk.ask("/v1/status")["routes"]
        new = {one["track"] for one in status["tracks"] if one["version"] == "8" and one["track"] != "standby"}
        symbols = frozenset(symbol for symbol, track in status["assignment"].items() if track in new)
        pods, at = _pods(scenario), time.time_ns()
        said = desk.signalyard("route", "rollback", MODEL, "--to", "7", *WHO)
        ways.append(Way(stage, at, re.search(r"recorded as (\S+)", said).group(1), symbols))
        load.await_more(2 * len(SYMBOLS), timeout=60)
        assert _pods(scenario) <= pods  # some may still have been on their way out
        desk.signalyard("route", "end", ways[-1].lever, *WHO)

    ways = []
    desk.install_router()
    desk.install_model(values("7", 25, "6"))
    desk.await_ready()
    with scenario.load(ROUTER, rate=60, deadline=DEADLINE, options=[f"--symbols={','.join(SYMBOLS)}"]) as load:
        go_back("canary at 25%")
        assert "next: standby" in desk.signalyard("route", "promote", MODEL, "--version", "8", *WHO)
        go_back("canary at 100%")

        desk.upgrade_model(values("7", 100, "7", "6"))
        scenario.await_rollout(f"deployment/{MODEL}-standby-7")
        scenario.until(lambda: _serving(desk, "standby", "7"), "the standby is known to the router")
        assert "next: stable" in desk.signalyard("route", "promote", MODEL, "--version", "8", *WHO)
        go_back("standby 7 is ready")

        desk.upgrade_model(values("8", 100, "7", "6"))
        scenario.await_rollout(f"deployment/{MODEL}-stable")
        scenario.until(lambda: _serving(desk, "stable", "8"), "stable is known to have 8")
        go_back("stable is 8")

        desk.upgrade_model(values("8", 0, "7", "6"))
        scenario.until(lambda: _weight(desk, "stable") == 100, "stable decides")
        go_back("the canary has no weight")

        desk.upgrade_model(values("8", None, "7", "6"))
        scenario.until(
            lambda: not scenario.get("deployment", "--selector=signalyard.io/track=canary")["items"], "no canary"
        )
        go_back("the canary is gone")
        after = len(load.lines())
        load.await_lines(lambda lines: _versions(lines[after:])[-1:] == ["8"], timeout=60)
    account = scenario.account(load, window=WINDOW, pod=ROUTER_POD)

    assert account.failures == account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    assert not account.marks
    assert not {"no_answer", "model_timeout"} & set(account.reasons)
    records = scenario.journal(ROUTER_POD)
    for way in ways:
        assert way.symbols
        command, decision = _times(way, records)
        summary.notes[f"way back, {way.stage}"] = (
            f"recorded {command:.3f} s after the command began, decided {decision:.3f} s later"
        )
        assert command + decision < 1.0


def _times(way, records):
    """Seconds from the command's beginning to its record, and from there to the first decision of the old version in place of the new."""
    pulled = next(one for one in records if one["kind"] == "lever" and one.get("id") == way.lever)
    ended = next(one for one in records if one["kind"] == "lever" and one.get("lever") == way.lever)
    decisions = [
        one
        for one in records
        if one["kind"] == "decision" and pulled["seq"] < one["seq"] < ended["seq"] and "version" in one
    ]
    # Whatever is asked for from the record on is decided by the old version.
    assert {one["version"] for one in decisions if one["ts_recv"] > pulled["t"]} == {"7"}
    first = next(one for one in decisions if one["version"] == "7" and one["symbol"] in way.symbols)
    return (pulled["t"] - way.at) / 1e9, (first["t"] - pulled["t"]) / 1e9


def _pods(scenario):
    return {pod["metadata"]["uid"] for pod in scenario.get("pod")["items"]}


def _serving(desk, track, version):
    (status,) = desk.ask("/v1/status")["routes"]
    return any((one["track"], one["version"], one["serving"]) == (track, version, version) for one in status["tracks"])


def _weight(desk, track):
    (status,) = desk.ask("/v1/status")["routes"]
    return next(one["weight"] for one in status["tracks"] if one["track"] == track)


def _versions(lines):
    return [one["version"] for line in lines for one in line["decisions"] if "signal_id" in one]
