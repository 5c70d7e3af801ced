"""Secrets that pass through a running router are in nothing that it writes."""

import hashlib
import http.client
import json

BEARER = "bearer-5f3a9c-planted"
AUTHORIZATION = "Basic dXNlcjpwbGFudGVk"
QUERY = "query-77c1-planted"
BODY = "body-19d2-planted"
FEATURE = 0.7182818284
TOKEN_HEADER = "x-api-key-88e0-planted"


def asked(router, port, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def plant(router):
    """Every way by which a secret comes in, through requests that go well and requests that do not."""
    secret = {"authorization": AUTHORIZATION, "x-api-key": TOKEN_HEADER, "cookie": f"session={TOKEN_HEADER}"}
    good = json.dumps(router.snapshot(FEATURE))
    json_type = {"content-type": "application/json"}
    assert asked(router, router.port, "POST", "/v1/predict", good, **secret, **json_type)[0] == 200
    for method, path, body in [
        ("POST", f"/v1/predict?token={QUERY}", good),
        ("GET", f"/v1/state?token={QUERY}", None),
        ("GET", f"/{QUERY}", None),
        ("PUT", f"/v1/status?key={QUERY}", None),
        ("POST", "/v1/predict", f'{{"password": "{BODY}"'),
        ("POST", "/v1/predict", f'["{BODY}"]'),
        ("POST", "/v1/predict", BODY * 10_000),
    ]:
        status, _, _ = asked(router, router.port, method, path, body, **secret, **json_type)
        assert 200 <= status < 500, (method, path, status)
    bad = {"authorization": f"Bearer {BEARER}-wrong"}
    for path in ("/admin/v1/levers", f"/admin/v1/levers?token={QUERY}"):
        assert asked(router, router.admin_port, "GET", path, **bad)[0] == 401


def outputs(router):
    journal = "".join(path.read_text() for path in router.journal.glob("*.jsonl"))
    return {
        "journal": journal,
        "log": router.said(),
        "metrics": router.get("/metrics")[1].decode(),
        "status": json.dumps(router.get("/v1/status")[1]),
    }


def test_no_secret_is_written_anywhere(router, tmp_path, models):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ann sha256:{hashlib.sha256(BEARER.encode()).hexdigest()}\n")
    router.start("--admin-tokens", str(tokens), "--log-level", "debug", "--log-format", "json")
    status, _, _ = asked(
        router,
        router.admin_port,
        "POST",
        "/admin/v1/pull",
        json.dumps({"action": "pause", "route": "rb-trend", "why": "a test", "expires_in": "1s"}),
        authorization=f"Bearer {BEARER}",
    )
    assert status == 200
    plant(router)
    models.stop_one("7")
    models.behave("6", "garbage")
    router.ask(FEATURE)
    found = outputs(router)
    assert router.terminate() == 0
    found["log"] = router.said()
    for name, text in found.items():
        assert text
        for secret in (BEARER, AUTHORIZATION, QUERY, TOKEN_HEADER):
            assert secret not in text, (name, secret)
        # what a caller sends to be decided is in the journal, for that is the record of it, and nowhere else
        for sent in (BODY, str(FEATURE)):
            assert (sent in text) == (name == "journal"), (name, sent)


def test_a_callers_id_leads_from_its_answer_to_the_record_and_every_line_is_json(router):
    router.start("--log-format", "json")
    status, headers, body = asked(
        router,
        router.port,
        "POST",
        "/v1/predict",
        json.dumps(router.snapshot(0.7)),
        **{"content-type": "application/json", "x-request-id": "desk-4711"},
    )
    assert (status, headers["x-request-id"]) == (200, "desk-4711")
    own = asked(router, router.port, "GET", "/healthz")[1]["x-request-id"]
    (record,) = router.records()
    assert (record["request_id"], record["proposal_id"]) == ("desk-4711", json.loads(body)["proposal_id"])
    router.ask(0.3)
    _, second = router.records()
    prefix, number = second["request_id"].split("-")
    assert own.startswith(prefix)
    assert int(number) > int(own.split("-")[1])
    assert router.terminate() == 0
    lines = [json.loads(line) for line in router.said().splitlines()]
    assert {"ready", "draining", "stopped"} <= {line["event"] for line in lines}
    assert all({"ts", "level", "logger", "event"} <= set(line) for line in lines)
    verified = router.run("journal", "verify", "--journal", str(router.journal))
    assert verified.returncode == 0, verified.stderr


def test_one_callers_flood_is_refused_and_probes_are_not(router):
    router.start("--max-request-rate", "0.01", "--max-request-burst", "5")
    statuses = [router.post(router.snapshot(0.7))[0] for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    assert router.get("/readyz")[0] == router.get("/healthz")[0] == 200
    status, problem = router.post(router.snapshot(0.7))
    assert (status, problem["code"]) == (429, "too_many_requests")


def test_traces_without_the_extra_are_refused_at_the_start(router):
    refused = router.run(
        "router", "--routes", str(router.routes), "--journal", str(router.journal), "--port", "0",
        "--admin-port", "0", "--trace-endpoint", "http://127.0.0.1:1/v1/traces",
    )  # fmt: skip
    assert refused.returncode == 1
    assert "signalyard[otel]" in refused.stderr
