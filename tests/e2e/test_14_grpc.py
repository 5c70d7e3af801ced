"""gRPC all the way: strategies and clients of the Open Inference Protocol call the router by it, the router its models, and a version changes
beneath them."""

from pathlib import Path

from bundles import MODEL
from desk import DEADLINE, ROUTER, ROUTER_POD, WINDOW

CALLS = Path(__file__).with_name("traffic") / "calls.py"
SERVICES = ("", "inference.GRPCInferenceService", "signalyard.v1.Router")
CANARY = "8"


def test_14_grpc(desk, scenario):
    canary = {"canary": {**desk.published.version(CANARY), "weight": 40}}

    def values(stable):
        return desk.model(stable, tracks=canary, route={"handover": "now"})

    def by_grpc(stable):
        one = values(stable)
        return {**one, "route": {**one["route"], "protocol": "grpc"}}

    desk.install_router(grpc={"expose": True})
    desk.install_model(by_grpc("7"))
    desk.await_ready()
    with (
        scenario.load(ROUTER, port="grpc", rate=30, deadline=DEADLINE, options=["--wire=grpc"]) as load,
        scenario.load(ROUTER, port="grpc", rate=20, deadline=DEADLINE, client=CALLS) as calls,
    ):
        load.await_more(100)
        calls.await_more(60)
        desk.upgrade_model(by_grpc("9"))
        scenario.await_rollout(f"deployment/{MODEL}-stable")
        load.await_lines(lambda lines: {"9", CANARY} <= _versions(lines[-30:]), timeout=60)
        calls.await_more(60)
    account = scenario.account(load, window=WINDOW, pod=ROUTER_POD)
    assert account.failures == account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    assert set(account.versions) == {"7", CANARY, "9"}
    # What 7 still said in 9's place, while its pod started, is marked.
    assert set(account.marks) <= {"drift"}
    signals = [one for line in load.lines() for one in line["decisions"] if "signal_id" in one]
    assert {one["version"] for one in signals if one["drift"]} <= {"7"}

    health, *answers = calls.lines()
    assert health == {"health": dict.fromkeys(SERVICES, "SERVING")}
    assert {one["code"] for one in answers} == {"OK"}
    assert all(one["answered"] == one["id"] and len(one["scores"]) == 2 for one in answers)
    assert max(one["took_us"] for one in answers) <= (DEADLINE + 0.01) * 1e6
    _each_is_in_the_journal(answers, scenario.journal(ROUTER_POD))
    _the_split_is_the_signals(answers, desk.ask("/v1/status")["routes"][0]["assignment"])
    # No model was asked in another way.
    asked = {line.partition('endpoint="')[2].partition('"')[0] for line in desk.page("/metrics").splitlines()} - {""}
    assert asked
    assert {endpoint.rpartition(":")[2] for endpoint in asked} == {"8081"}


def _each_is_in_the_journal(answers, records):
    recorded = {one["id"]: one for one in records if one["kind"] == "call"}
    for one in answers:
        record = recorded[one["call"]]
        told = (record["wire"], record["client_id"], record["symbol"], record["version"], record["digest"])
        assert told == ("grpc", one["id"], one["symbol"], one["version"], one["digest"])
        # The call's deadline was the budget, less what it took to come.
        assert 0 < record["budget_us"] <= DEADLINE * 1e6
    assert len(recorded) == len(answers)


def _the_split_is_the_signals(answers, assignment):
    """A call that names an instrument goes where the instrument's snapshots go."""
    for one in answers:
        assert (one["version"] == CANARY) == (assignment[one["symbol"]] == "canary")
    assert set(assignment.values()) == {"stable", "canary"}


def _versions(lines):
    return {one["version"] for line in lines for one in line["decisions"] if "signal_id" in one}
