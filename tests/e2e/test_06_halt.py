"""A halt outlives upgrades, rollbacks, restarts of the router and the loss of the API server, until somebody resumes it by name."""

import re

import pytest
from bundles import MODEL
from cluster.commands import CommandError
from desk import DEADLINE, ROUTER, ROUTER_POD, WINDOW

WHO = ("--by", "ann", "--why", "the scenario says so")


@pytest.mark.kills
def test_06_halt(desk, scenario, cluster):
    desk.install_router()
    desk.install_model(desk.model("7"))
    desk.await_ready()
    # While the router starts anew nobody answers; its snapshots are sent again until there is one.
    with scenario.load(ROUTER, rate=60, deadline=DEADLINE, options=["--patience=90"]) as load:

        def halted():
            """Nothing leaves, of what is asked for from now on."""
            have = len(load.lines())
            load.await_more(60, timeout=90)
            # What was asked for before the look may have been answered before the halt.
            told = [one for line in load.lines()[have + 8 :] for one in line["decisions"]]
            assert told
            assert not [one for one in told if one["outcome"] == "emitted"]
            assert "halted" in {one["reason"] for one in told}

        load.await_more(60)
        assert "emitted" in _outcomes(load.lines())
        lever = re.search(r"halt recorded as (\S+)", desk.signalyard("route", "halt", MODEL, *WHO)).group(1)
        halted()
        desk.await_condition("Halted", "True")

        desk.upgrade_model(desk.model("8", route={"validFor": "4s"}))
        scenario.await_rollout(f"deployment/{MODEL}-stable")
        halted()
        scenario.helm("rollback", MODEL, 1)
        scenario.await_rollout(f"deployment/{MODEL}-stable")
        halted()
        before = len(load.lines())
        assert not _failed(load.lines())

        desk.upgrade_router(log={"level": "debug"})
        scenario.await_rollout(ROUTER_POD)
        halted()
        scenario.kubectl("delete", "pod", f"{ROUTER}-0", timeout=90)
        scenario.await_rollout(ROUTER_POD)
        halted()
        desk.await_condition("Halted", "True")
        assert "ann" in desk.condition("Halted")["message"]

        cluster.kill("kube-apiserver")
        try:
            halted()
        finally:
            cluster.start("kube-apiserver")
            cluster.await_api()
        halted()

        # No other lever's end is this one's.
        for wrong in ("l-999999", ""):
            with pytest.raises(CommandError):
                desk.signalyard("route", "resume", wrong, *WHO)
        halted()
        after = len(load.lines())
        assert lever in desk.signalyard("route", "list")
        desk.signalyard("route", "resume", lever, *WHO)
        load.await_lines(lambda lines: "emitted" in _outcomes(lines[after:]), timeout=60)
        desk.await_condition("Halted", "False")
    account = scenario.account(load, window=WINDOW, pod=ROUTER_POD)

    assert account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    # A connection to a pod that is gone ends with the caller's own deadline.
    assert set(account.problems) <= {"router_unreachable", "deadline_exceeded"}
    assert account.requests > before
    halts = [record for record in scenario.journal(ROUTER_POD) if record["kind"] == "lever"]
    assert [(record["action"], record["by"]) for record in halts] == [("halt", "ann"), ("resume", "ann")]
    between = [
        record
        for record in scenario.journal(ROUTER_POD)
        if record["kind"] == "decision" and halts[0]["seq"] < record["seq"] < halts[1]["seq"]
    ]
    assert between
    assert not [record for record in between if record["outcome"] == "emitted"]


def _outcomes(lines):
    return {one["outcome"] for line in lines for one in line["decisions"]}


def _failed(lines):
    return [attempt for line in lines for attempt in line["tries"] if "problem" in attempt]
