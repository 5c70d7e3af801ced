"""A router process with a shadow on a real socket: one that answers, one that hangs."""

import json
import threading

import pytest

from signalyard_router.testing.model_server import Behaviour

SHADOWED = """
apiVersion: signalyard.io/v1alpha1
kind: SignalRoute
metadata: {{name: rb-trend}}
spec:
  model: rb-trend
  instruments: ["rb*.SHFE"]
  deadline: 2s
  tracks:
    - {{name: stable, version: "7", weight: 100, endpoint: {{service: 127.0.0.1, port: {stable}}}}}
    - {{name: shadow, version: "6", endpoint: {{service: 127.0.0.1, port: {shadow}}}}}
  mapping: {{long: {{enter: 0.6}}, short: {{enter: 0.4}}, otherwise: abstain}}
  shadow: {{deadline: 100ms, queue: 10, concurrency: 2, journal: true, thresholds: {{minimum: 20}}}}
"""
COUNT = 60


@pytest.fixture
def shadowed(router, models):
    router.write_route(SHADOWED.format(stable=models.ports["7"], shadow=models.ports["6"]))
    return router


def figures(router, wanted):
    """The shadow's figures once all ``wanted`` snapshots are accounted for."""
    told = threading.Event()
    for _ in range(400):
        status, answer = router.get("/v1/shadow?route=rb-trend")
        assert status == 200, answer
        (comparison,) = answer["comparisons"]
        if comparison["windows"]["total"]["selected"] == wanted and comparison["waiting"] == 0:
            return comparison
        told.wait(0.05)
    raise AssertionError(comparison)


def observe(router, body):
    connection = router.connection()
    try:
        connection.request("POST", "/v1/observe", json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_shadow_that_answers_and_a_baseline(shadowed):
    shadowed.start()
    snapshots = [shadowed.snapshot((0.7, 0.5, 0.3)[number % 3]) for number in range(COUNT)]
    for snapshot in snapshots:
        assert shadowed.post(snapshot)[0] == 200
    total = figures(shadowed, COUNT)["windows"]["total"]
    assert (total["paired"], total["compared"], total["disagreement"], total["coverage"]) == (COUNT, 40, 0.0, 1.0)
    seen = [{"symbol": s["symbol"], "ts_event": s["ts_event"], "signal": "long", "source": "old"} for s in snapshots]
    assert observe(shadowed, seen) == (200, {"matched": COUNT, "waiting": 0, "repeated": 0})
    status, problem = observe(shadowed, seen[0] | {"signal": "up"})
    assert (status, problem["code"], problem["pointer"]) == (422, "invalid_observation", "/signal")
    url = f"http://127.0.0.1:{shadowed.port}"
    told = shadowed.run("shadow", "report", "--url", url, "--check")
    assert told.returncode == 1  # the baseline disagrees
    assert "shadow 6" in told.stdout
    assert "verdict        pass" in told.stdout
    assert "baseline old" in told.stdout
    assert "verdict        fail: disagreement 0.6667 > 0.05" in told.stdout
    answer = json.loads(shadowed.run("shadow", "report", "--url", url, "--json").stdout)
    assert {c["name"]: c["windows"]["1h"]["verdict"]["result"] for c in answer["comparisons"]} == {
        "6": "pass",
        "old": "fail",
    }
    unknown = shadowed.run("shadow", "report", "--url", url, "--route", "nope")
    assert (unknown.returncode, "unknown_route" in unknown.stderr) == (1, True)
    _, page = shadowed.get("/metrics")
    assert (
        b'signalyard_shadow_pairs_total{kind="shadow",live="long",name="6",other="long",route="rb-trend"} 20.0' in page
    )
    _, status = shadowed.get("/v1/status")
    assert [(s["name"], s["verdict"]) for s in status["routes"][0]["shadows"]] == [("old", "fail"), ("6", "pass")]
    assert shadowed.terminate() == 0
    assert shadowed.run("journal", "verify", "--journal", str(shadowed.journal)).returncode == 0
    recorded = shadowed.run("shadow", "report", "--journal", str(shadowed.journal), "--json")
    by_name = {c["name"]: c["windows"]["total"] for c in json.loads(recorded.stdout)["comparisons"]}
    assert (by_name["6"]["matrix"], by_name["6"]["coverage"]) == (total["matrix"], None)
    assert by_name["old"]["paired"] == COUNT


@pytest.mark.parametrize("behaviour", ["hang", "reset", "garbage", "overloaded"])
def test_a_shadow_that_fails_fails_no_request(shadowed, models, behaviour):
    shadowed.start()
    models.behave("6", behaviour)
    outcomes = [shadowed.ask(0.7, f"rb{number}.SHFE")["outcome"] for number in range(COUNT)]
    assert outcomes == ["emitted"] * COUNT
    comparison = figures(shadowed, COUNT)
    total = comparison["windows"]["total"]
    assert total["paired"] == 0
    reasons = {reason for reason, count in total["excluded"].items() if count}
    # once its breaker is open, a shadow that hangs fails like the others
    assert reasons <= {"failed", "queue_full"} | ({"timeout", "expired"} if behaviour == "hang" else set())
    assert total["verdict"]["result"] == "fail"
    assert [record["failover"] for record in shadowed.records() if "failover" in record] == []
    models.behave("6", "good")
    for more in range(1, 400):  # until its breaker closes
        threading.Event().wait(0.05)
        assert shadowed.ask(0.7, f"rb-{more}.SHFE")["outcome"] == "emitted"
        if figures(shadowed, COUNT + more)["windows"]["total"]["paired"]:
            break
    else:
        raise AssertionError("the shadow did not come back")
    assert shadowed.terminate() == 0


def test_a_shadow_that_is_not_there_holds_no_start_up(shadowed, models):
    models.stop_one("6")
    shadowed.start()
    assert shadowed.ask(0.7)["outcome"] == "emitted"
    total = figures(shadowed, 1)["windows"]["total"]
    assert total["excluded"]["not_learnt"] == 1
    assert shadowed.terminate() == 0


def test_a_shadow_that_hangs_from_the_start_holds_no_stop_up(shadowed, models):
    models.behave("6", "hang")
    models.servers["6"].metadata_behaviour = Behaviour.HANG
    shadowed.start()
    shadowed.ask(0.7)
    assert shadowed.terminate() == 0
    assert shadowed.run("journal", "verify", "--journal", str(shadowed.journal)).returncode == 0
