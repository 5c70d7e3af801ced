"""The router process: one happy path, every bad input, and the deaths."""

import contextlib
import json
import resource
import signal
import socket
import threading

import pytest

PATIENCE = 20.0


def test_a_snapshot_over_the_wire_and_its_explanation(router):
    router.start()
    decision = router.ask(0.7)
    signal_ = decision["signal"]
    assert (decision["outcome"], signal_["signal"], signal_["version"]) == ("emitted", "long", "7")
    assert router.ask(0.7)["reason"] == "duplicate"
    assert [d["outcome"] for d in router.post([router.snapshot(0.3), router.snapshot(0.5)])[1]] == [
        "emitted",
        "abstained",
    ]
    columnar = {"columns": ["x", "p"], "rows": [["rb1.SHFE", router.snapshot(0)["ts_event"], [None, 0.7]]]}
    assert router.post(columnar)[1][0]["outcome"] == "emitted"
    status, state = router.get("/v1/state?symbol=rb2410.SHFE")
    assert (status, [o["signal"] for o in state["opinions"]]) == (200, ["short"])
    told = router.run("explain", signal_["signal_id"], "--journal", str(router.journal))
    assert told.returncode == 0
    for word in ("emitted", "score 0.7", "long enter 0.6", "rb-trend 7", "p=0.7"):
        assert word in told.stdout
    why = router.run("explain", "--symbol", "rb2410.SHFE", "--journal", str(router.journal))
    assert "no_direction" in why.stdout
    assert router.terminate() == 0
    verified = router.run("journal", "verify", "--journal", str(router.journal))
    assert verified.returncode == 0, verified.stderr
    assert "7 records (decision 5, route 1, start 1), chain verified" in verified.stdout
    assert len(router.run("journal", "tail", "-n", "3", "--journal", str(router.journal)).stdout.splitlines()) == 3
    shown = json.loads(router.run("journal", "show", signal_["signal_id"], "--journal", str(router.journal)).stdout)
    assert shown["signal_id"] == signal_["signal_id"]


def bad_requests(snapshot):
    good = snapshot(0.7)
    yield "malformed JSON", b"{nope", 400, "malformed_body", None
    yield "no UTF-8", b'{"symbol": "\xff"}', 400, "malformed_body", None
    yield "deep", b"[" * 100_000, 400, "malformed_body", None
    yield "wrong type of symbol", good | {"symbol": 7}, 422, "invalid_snapshot", "/symbol"
    yield "wrong type of a feature", good | {"features": {"p": "x"}}, 422, "invalid_snapshot", "/features/p"
    yield "time as text", good | {"ts_event": "now"}, 422, "invalid_snapshot", "/ts_event"
    yield "a field too many", good | {"sybmol": "x"}, 422, "invalid_snapshot", None
    yield "no instrument", good | {"symbol": "rb2410"}, 422, "invalid_instrument", "/symbol"
    yield "unknown instrument", good | {"symbol": "cu1.SHFE"}, 404, "no_route", "/symbol"
    yield "unknown route", good | {"route": "nope"}, 404, "unknown_route", "/route"
    yield "unknown feature", good | {"features": {"p": 0.5, "q": 1}}, 422, "unknown_feature", "/features/q"
    yield "missing feature", good | {"features": {"x": 1}}, 422, "missing_feature", "/features/p"
    twice = json.dumps(good).replace('"p": 0.7', '"p": 0.7, "p": 0.3')
    yield "duplicate feature", twice, 422, "duplicate_feature", "/features/p"
    yield "NaN", json.dumps(good).replace("0.7", "NaN"), 400, "malformed_body", None
    yield "null", good | {"features": {"p": None}}, 422, "missing_feature", "/features/p"
    yield "out of range", good | {"features": {"p": 1.5}}, 422, "feature_out_of_range", "/features/p"
    yield "too old", good | {"ts_event": good["ts_event"] - 10 * 10**9}, 422, "snapshot_too_old", "/ts_event"
    yield (
        "from the future",
        good | {"ts_event": good["ts_event"] + 10 * 10**9},
        422,
        "snapshot_from_future",
        "/ts_event",
    )


def test_bad_input_is_told_what_is_wrong_and_changes_nothing(router, models):
    router.start()
    router.ask(0.7)
    before = router.get("/v1/state")[1]["opinions"]
    calls = len(models.servers["7"].inferences)
    for what, body, status, code, pointer in bad_requests(router.snapshot):
        got, problem = router.post(body)
        assert (got, problem["code"]) == (status, code), (what, problem)
        assert problem["status"] == status
        assert "Traceback" not in json.dumps(problem)
        if pointer:
            assert problem["pointer"] == pointer, (what, problem)
    infinite = json.dumps(router.snapshot(0.7)).replace("0.7", "1e999")
    assert router.post(infinite)[0] in (400, 422)
    assert router.get("/v1/state")[1]["opinions"] == before
    assert len(models.servers["7"].inferences) == calls
    assert router.post(router.snapshot(0.7), {"signalyard-budget-us": "soon"})[1]["code"] == "invalid_budget"


def test_one_bad_row_among_many(router):
    router.start()
    rows = [router.snapshot(0.7, f"rb{number}.SHFE") for number in range(100)]
    rows[41]["features"] = {"p": "x"}
    rows[42]["features"] = {"p": 7}
    status, decisions = router.post(rows)
    assert status == 200
    assert [d["outcome"] for d in decisions].count("emitted") == 98
    assert [(d["row"], d["problem"]["code"]) for d in decisions if d["outcome"] == "rejected"] == [
        (41, "invalid_snapshot"),
        (42, "feature_out_of_range"),
    ]
    assert len(router.records()) == 100


def test_too_much_at_once(router):
    router.start()
    rows = {"columns": ["p"], "rows": [["rb1.SHFE", 1, [0.5]]] * 100_000}
    status, problem = router.post(rows)
    assert (status, problem["code"]) == (413, "too_many_rows")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        status, problem = router.post(b" " * 100_000_000)
        assert (status, problem["code"]) == (413, "body_too_large")
    assert router.ask(0.7)["outcome"] == "emitted"
    assert len(router.records()) == 1


@pytest.mark.parametrize(
    ("behaviour", "result"),
    [
        ("hang", "model_timeout"),
        ("fail", "model_failed"),
        ("garbage", "model_answer_malformed"),
        ("not_json", "model_answer_malformed"),
        ("wrong_shape", "model_answer_wrong_shape"),
        ("wrong_id", "model_answer_wrong_id"),
        ("wrong_version", "model_answer_wrong_version"),
        ("nan", "model_answer_malformed"),
        ("null", "model_answer_not_finite"),
        ("half", "model_answer_malformed"),
        ("reset", "model_unreachable"),
        ("dribble", "answered"),
        ("twice", "answered"),
    ],
)
def test_a_model_server_that_misbehaves_is_stood_in_for(router, models, behaviour, result):
    router.start()
    models.behave("7", behaviour)
    decision = router.ask(0.7)
    assert decision["outcome"] == "emitted"
    assert decision["signal"]["version"] == ("7" if result == "answered" else "6")
    assert router.records()[0]["steps"][0]["result"] == result
    models.behave("7", "good")
    assert router.ask(0.3)["signal"]["score"] == 0.3  # its own answer, and no one else's


def test_with_every_model_server_down_the_router_degrades_by_rule(router, models):
    router.start()
    models.stop_one("7")
    assert router.ask(0.7)["signal"]["version"] == "6"
    models.stop_one("6")
    decision = router.ask(0.7)
    assert (decision["outcome"], decision["reason"]) == ("abstained", "no_answer")
    router.kill()
    router.start()  # it starts without any of them, too
    assert router.ask(0.7)["reason"] == "no_answer"
    assert router.get("/readyz")[0] == 200


def test_a_killed_router_loses_nothing_that_it_acknowledged(router):
    router.start()
    acknowledged, stop = [], threading.Event()

    def trade(number):
        while not stop.is_set():
            snapshot = router.snapshot(0.7, f"rb{number}.SHFE")
            with contextlib.suppress(OSError, ValueError, Exception):
                acknowledged.append((snapshot, router.post(snapshot)[1]))

    threads = [threading.Thread(target=trade, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 200:
        assert router.process.poll() is None
        stop.wait(0.01)
    router.kill()
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    router.start()
    for snapshot, decision in acknowledged[-20:]:
        again = router.post(snapshot)[1]
        assert again["proposal_id"] == decision["proposal_id"]
        assert again.get("signal") == decision.get("signal")
        assert again.get("reason") == decision.get("reason")
    assert router.terminate() == 0
    recorded = [record["proposal_id"] for record in router.records()]
    assert len(recorded) == len(set(recorded))
    assert {decision["proposal_id"] for _, decision in acknowledged} <= set(recorded)
    assert router.run("journal", "verify", "--journal", str(router.journal)).returncode == 0


def test_sigterm_answers_what_is_in_flight(router, models):
    router.write_route((router.routes / "rb.yaml").read_text().replace("deadline: 100ms", "deadline: 5s"))
    router.start()
    models.servers["7"].late_seconds = 0.5
    models.behave("7", "late")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(router.post(router.snapshot(0.7))))
    thread.start()
    calls = models.servers["7"].inferences
    while not calls:
        calls = models.servers["7"].inferences
    assert router.terminate() == 0
    thread.join(PATIENCE)
    assert answers[0][0] == 200
    assert answers[0][1]["outcome"] == "emitted"


def test_a_slow_client_keeps_nobody_waiting(router):
    router.start()
    with socket.create_connection(("127.0.0.1", router.port), PATIENCE) as half_open:
        half_open.sendall(b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
        assert router.ask(0.7)["outcome"] == "emitted"
    assert router.ask(0.3)["outcome"] == "emitted"


def test_two_routers_on_one_journal(router):
    router.start()
    second = router.run(
        "router", "--routes", str(router.routes), "--journal", str(router.journal), "--port", "0", "--admin-port", "0"
    )
    assert second.returncode == 1
    assert "journal_locked" in second.stderr
    assert "Traceback" not in second.stderr
    assert router.ask(0.7)["outcome"] == "emitted"


def test_a_port_that_is_taken(router, tmp_path):
    router.start()
    second = router.run(
        "router",
        "--routes",
        str(router.routes),
        "--journal",
        str(tmp_path / "other"),
        "--port",
        str(router.port),
        "--admin-port",
        "0",
    )
    assert second.returncode == 1
    assert str(router.port) in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("weight: 100", "weight: 90", "/spec/tracks"),
        ("spec:", "spec: [", "not YAML"),
        ("otherwise: abstain", "otherwise: guess", "/spec/mapping/otherwise"),
        ("otherwise: abstain}", "otherwise: abstain}\n  ladder: [{skip: {}}, {standby: '6'}]", "/spec/ladder/1"),
    ],
)
def test_a_bad_document_stops_the_start_and_is_named(router, old, new, says):
    router.write_route((router.routes / "rb.yaml").read_text().replace(old, new))
    process = router.spawn()
    assert process.wait(PATIENCE) == 1
    assert says in router.said()
    assert "rb.yaml" in router.said()
    assert "Traceback" not in router.said()
    assert not router.journal.exists()


def test_two_routes_of_one_name(router):
    router.write_route((router.routes / "rb.yaml").read_text(), "second.yaml")
    assert router.spawn().wait(PATIENCE) == 1
    assert "defined in rb.yaml already" in router.said()


def test_a_journal_folder_that_cannot_be_used(router, tmp_path):
    (tmp_path / "journal").write_text("a file where the folder should be")
    assert router.spawn().wait(PATIENCE) == 1
    assert "journal_unavailable" in router.said()
    assert "Traceback" not in router.said()


def test_a_journal_on_a_read_only_file_system(router):
    # /proc takes no new folders from anybody, root included.
    refused = router.run(
        "router", "--routes", str(router.routes), "--journal", "/proc/signalyard", "--port", "0", "--admin-port", "0"
    )
    assert refused.returncode == 1
    assert "journal_unavailable" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_full_journal_emits_nothing_and_comes_back(router):
    # A limit on the size of files is what a full disk is to a process that writes one.
    router.start(prefix=["prlimit", "--fsize=12000:unlimited"])
    outcomes = []
    while "journal_unavailable" not in [reason for _, reason in outcomes]:
        decision = router.ask(0.7 if len(outcomes) % 2 else 0.3)
        outcomes.append((decision["outcome"], decision.get("reason")))
        assert len(outcomes) < 200
    assert outcomes[-1] == ("suppressed", "journal_unavailable")
    assert router.get("/readyz")[0] == 503
    recorded = len(router.records())
    assert recorded == len(outcomes) - 1
    resource.prlimit(router.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert router.ask(0.3 if len(outcomes) % 2 else 0.7)["outcome"] == "emitted"  # what was refused a moment ago
    assert router.get("/readyz")[0] == 200
    assert router.terminate() == 0
    assert router.run("journal", "verify", "--journal", str(router.journal)).returncode == 0


def test_a_doctored_journal_refuses_to_start(router):
    router.start()
    router.ask(0.7)
    router.ask(0.3)
    router.terminate()
    segment = router.journal / "journal-00000001.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b'"score":0.7', b'"score":0.9'))
    assert router.spawn().wait(PATIENCE) == 1
    assert "journal-00000001.jsonl, line 4: the chain is broken" in router.said()
    verified = router.run("journal", "verify", "--journal", str(router.journal))
    assert verified.returncode == 1
    assert "line 4" in verified.stderr


def test_a_frozen_router_answers_when_it_wakes_and_only_once(router):
    router.start()
    router.ask(0.7)
    router.process.send_signal(signal.SIGSTOP)
    snapshot, answers = router.snapshot(0.3), []
    thread = threading.Thread(target=lambda: answers.append(router.post(snapshot)))
    thread.start()
    router.process.send_signal(signal.SIGCONT)
    thread.join(PATIENCE)
    again = router.post(snapshot)[1]
    assert again["proposal_id"] == answers[0][1]["proposal_id"]
    assert len([r for r in router.records() if r["proposal_id"] == again["proposal_id"]]) == 1


def test_help_and_settings(router):
    for words in (["--help"], ["router", "--help"], ["journal", "--help"], ["explain", "--help"]):
        assert router.run(*words).returncode == 0
    shown = router.run("router", "--print-config", "--port", "9", SIGNALYARD_CLOCK="event").stdout
    sources = {line.split()[0]: line.split()[1:] for line in shown.splitlines()}
    assert sources["port"] == ["9", "commandline"]
    assert sources["clock"] == ["event", "environment"]
    assert sources["host"] == ["127.0.0.1", "default"]
