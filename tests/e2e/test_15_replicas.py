"""Two routers on one Redis act as one, while strategies race on the same instruments: one is killed, one frozen, the route changes, a halt is
pulled while the API server is away."""

import re

import pytest
from bundles import MODEL
from desk import DEADLINE, ROUTER, WINDOW
from redis_pair import PODS, SHARED
from traffic.revisions import torn

RACING = ("--patience=60", "--renew=10", "--shared")
WHO = ("--by", "ann", "--why", "the scenario says so")


def ready(scenario, pod):
    """Whether the Service leads to it."""
    conditions = scenario.get("pod", pod)["status"]["conditions"]
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def restarts(scenario, pod):
    return scenario.get("pod", pod)["status"]["containerStatuses"][0]["restartCount"]


def emitted(lines):
    return [one for line in lines for one in line["decisions"] if one["outcome"] == "emitted"]


@pytest.mark.kills
@pytest.mark.replicas
def test_15_replicas(desk, scenario, cluster, redis_pair):
    namespace = scenario.namespace
    redis_pair.start()
    desk.install_router(**SHARED)
    desk.install_model(desk.model("7"))
    desk.await_ready()

    with scenario.load(ROUTER, rate=40, deadline=DEADLINE, options=RACING) as load:
        load.await_more(100)

        cluster.crash(namespace, PODS[0], "router")
        load.await_more(60)
        scenario.until(lambda: restarts(scenario, PODS[0]) == 1 and ready(scenario, PODS[0]), "it is back")
        load.await_more(60)

        cluster.freeze(namespace, PODS[1], "router")
        scenario.until(lambda: not ready(scenario, PODS[1]), "the frozen one gets no more requests")
        load.await_more(60)
        cluster.thaw(namespace, PODS[1], "router")
        scenario.until(lambda: ready(scenario, PODS[1]), "it goes on")
        load.await_more(60)

        desk.upgrade_model(desk.model("7", route={"validFor": "4s"}))
        scenario.until(lambda: scenario.get("signalroute", MODEL)["status"]["generation"] == 2, "it is in force")
        load.await_more(60)

        cluster.kill("kube-apiserver")
        try:
            command = ("signalyard", "route", "halt", MODEL, *WHO)
            said = cluster.inside(namespace, PODS[0], "router", *command)
            lever = re.search(r"halt recorded as (\S+)", said).group(1)
            began = len(load.lines())
            load.await_more(60)
            # What was asked for before the look may have been answered before the halt.
            assert not emitted(load.lines()[began + 8 :])
        finally:
            cluster.start("kube-apiserver")
            cluster.await_api()
        began = len(load.lines())
        desk.signalyard("route", "resume", lever, *WHO)
        load.await_lines(lambda lines: bool(emitted(lines[began:])))
    journal = scenario.shared_journal(*PODS)
    account = scenario.account_by(load, journal.records, window=WINDOW)

    assert account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    assert not journal.contradictions
    assert not account.marks
    assert set(account.problems) <= {"router_unreachable", "deadline_exceeded"}
    assert not torn(journal.records, MODEL)
    _each_was_held(journal.records, lever)


def _each_was_held(records, lever):
    """Both replicas decided under both documents, and between the lever's record and its end both decided and neither signalled."""
    decisions = [record for record in records if record["kind"] == "decision"]
    by = {(one["replica"], one["generation"]) for one in decisions}
    assert by == {(pod, generation) for pod in PODS for generation in (1, 2)}
    pulled = next(one["seq"] for one in records if one["kind"] == "lever" and one.get("id") == lever)
    ended = next(one["seq"] for one in records if one["kind"] == "lever" and one.get("lever") == lever)
    between = [one for one in decisions if pulled < one["seq"] < ended]
    assert {one["replica"] for one in between} == set(PODS)
    assert not [one for one in between if one["outcome"] == "emitted"]
