"""The OpenAPI documents of a running router, held against what it answers to whatever may be sent."""

import json
import time

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.errors import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

EXAMPLES = 60
CHECKS = [
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
MODEL = "/v2/models/{model}"
OPERATIONS = [
    ("port", "GET", "/"),
    ("port", "GET", "/v1/openapi.json"),
    ("port", "GET", "/v1/docs"),
    ("port", "POST", "/v1/predict"),
    ("port", "GET", "/v1/state"),
    ("port", "POST", "/v1/observe"),
    ("port", "GET", "/v1/shadow"),
    ("port", "GET", "/v1/status"),
    ("port", "GET", "/healthz"),
    ("port", "GET", "/readyz"),
    ("port", "GET", "/metrics"),
    ("port", "GET", "/v2"),
    ("port", "GET", "/v2/health/live"),
    ("port", "GET", "/v2/health/ready"),
    ("port", "GET", MODEL),
    ("port", "GET", f"{MODEL}/ready"),
    ("port", "POST", f"{MODEL}/infer"),
    ("port", "GET", f"{MODEL}/versions/{{version}}"),
    ("port", "GET", f"{MODEL}/versions/{{version}}/ready"),
    ("port", "POST", f"{MODEL}/versions/{{version}}/infer"),
    ("admin_port", "GET", "/admin/v1/routes"),
    ("admin_port", "GET", "/admin/v1/levers"),
    ("admin_port", "POST", "/admin/v1/pull"),
    ("admin_port", "POST", "/admin/v1/promote"),
]
bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def examples(operation):
    """Fewer where little can differ: most of what is read takes nothing but the id that a request may bring, and one piece of code
    reads it for every path; a call that is passed through reaches no model here, because almost every one names a model that is not
    there."""
    varies = operation.body or len(list(operation.iter_parameters())) > 1
    return EXAMPLES if varies and not operation.path.startswith("/v2") else EXAMPLES // 4


@pytest.fixture(scope="module")
def documents(started):
    found = {}
    for port in ("port", "admin_port"):
        url = f"http://127.0.0.1:{getattr(started, port)}"
        found[port] = schemathesis.openapi.from_url(f"{url}/v1/openapi.json")
        found[port].config.update(base_url=url)
    return found


@pytest.fixture(scope="module")
def started(module_router):
    return module_router.start()


def refused(response):
    """Whether an answer says that what was sent is bad: as a whole, or row by row."""
    if response.status_code >= 400:
        return response.status_code < 500
    decisions = response.json()
    decisions = decisions if isinstance(decisions, list) else [decisions]
    return any(decision["outcome"] == "rejected" for decision in decisions)


def alive(snapshot):
    """A snapshot made so that it reaches a model."""
    if isinstance(snapshot, dict) and "symbol" in snapshot:
        return snapshot | {"symbol": "rb2410.SHFE", "ts_event": time.time_ns(), "features": {"p": 0.7}, "route": None}
    return snapshot


@pytest.mark.parametrize(("port", "method", "path"), OPERATIONS, ids=lambda value: str(value).strip("/"))
def test_what_may_be_sent_is_answered_as_described(documents, port, method, path):
    operation = documents[port][path][method]
    seen = []

    @settings(bounded, max_examples=examples(operation))
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def each(case):
        if path == "/v1/predict" and len(seen) % 3 == 0:
            case.body = [alive(row) for row in case.body] if isinstance(case.body, list) else alive(case.body)
        seen.append(case.call_and_validate(checks=CHECKS).status_code)

    each()
    assert seen
    if path == "/v1/predict":
        assert {200, 422} <= set(seen)
    elif method == "GET":
        assert set(seen) <= {200, 404} if path == "/v1/shadow" or MODEL in path else set(seen) == {200}


@pytest.mark.parametrize(
    ("port", "path"),
    [(port, path) for port, method, path in OPERATIONS if method == "POST"],
    ids=lambda v: v.strip("/"),
)
def test_what_may_not_be_sent_is_refused(documents, port, path):
    operation = documents[port][path]["POST"]
    seen = []

    @settings(bounded, max_examples=examples(operation))
    @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def each(case):
        budget = (case.headers or {}).get("signalyard-budget-us", "")
        if budget.isdigit() and budget != "0":  # a good one, which may be too small for a rejection to be confirmed
            del case.headers["signalyard-budget-us"]
        response = case.call_and_validate(checks=CHECKS)
        told = [case.body, dict(case.headers or {}), response.text]
        seen.append(response.status_code)
        assert refused(response) or only_ignorable(operation, case), told

    each()
    assert len(seen) >= examples(operation)
    assert sum(status >= 400 for status in seen) > examples(operation) // 2


def only_ignorable(operation, case):
    """Whether nothing is wrong but what HTTP has a server overlook: a header that it does not know, or takes as text."""
    from jsonschema import Draft202012Validator

    document = operation.schema.raw_schema
    schema = document["paths"][operation.path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    try:
        json.dumps(case.body)
    except TypeError:
        return False
    good = Draft202012Validator({**schema, "components": document["components"]}).is_valid(case.body)
    return good and not (case.query or "signalyard-budget-us" in {name.lower() for name in case.headers or {}})


def test_each_operation_is_tried(documents):
    described = {
        (port, verb.upper(), path)
        for port, document in documents.items()
        for path, verbs in document.raw_schema["paths"].items()
        for verb in verbs
    }
    common = {("admin_port", "GET", path) for path in ("/", "/v1/openapi.json", "/v1/docs")}
    stream = {("port", "GET", "/v1/signals")}  # it has no end that could be validated: tests/parts/http/test_signals.py
    assert described == {*OPERATIONS, *common, *stream}


def test_nothing_of_it_was_a_surprise(documents, started):
    assert "internal_error" not in started.said()
    assert started.process.poll() is None


def test_a_status_that_is_not_described_is_found(documents, started):
    """The checks bite: without its 422 the same document does not hold."""
    drifted = json.loads(json.dumps(documents["port"].raw_schema))
    del drifted["paths"]["/v1/predict"]["post"]["responses"]["422"]
    schema = schemathesis.openapi.from_dict(drifted)
    case = schema["/v1/predict"]["POST"].Case(body={}, media_type="application/json")
    with pytest.raises(FailureGroup):
        case.call_and_validate(base_url=f"http://127.0.0.1:{started.port}", checks=CHECKS)
