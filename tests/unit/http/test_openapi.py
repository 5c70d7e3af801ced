"""What is served and what is described are one thing."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from prometheus_client import CollectorRegistry

from signalyard._server.bounds import HEADER_TOO_LARGE
from signalyard.problems import Problem, error
from signalyard_router.adapters.http.admin import AdminApp, Tokens
from signalyard_router.adapters.http.app import App
from signalyard_router.adapters.http.docs import render
from signalyard_router.adapters.http.inference import InferencePaths
from signalyard_router.adapters.http.pages import Pages
from signalyard_router.adapters.http.settings import HttpSettings
from signalyard_router.adapters.http.statuses import STATUSES
from signalyard_router.testing.world import ManualClock

GOOD = {"symbol": "rb2410.SHFE", "ts_event": 1_718_923_456_000_000_000, "features": {"close": 1.0}}


def app(**settings: Any) -> App:
    unused: Any = None
    inference = InferencePaths(unused, unused, unused)
    return App(unused, ManualClock(), HttpSettings(**settings), CollectorRegistry(), inference=inference)


def admin(**tokens: str) -> AdminApp:
    unused: Any = None
    return AdminApp(unused, Tokens(tokens), CollectorRegistry())


@pytest.fixture(params=["app", "capped", "admin", "secured"])
def pages(request: pytest.FixtureRequest) -> Pages:
    made: dict[str, Any] = {
        "app": app,
        "capped": lambda: app(requests_per_second=1.0),
        "admin": admin,
        "secured": lambda: admin(ann="0" * 64),
    }
    found: Pages = made[request.param]()
    return found


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (path, verb.upper()): operation
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
    }


def test_every_path_is_described_and_every_description_is_served(pages: Pages) -> None:
    described = operations(pages.description())
    assert set(described) == {(path, known.method) for path, known in pages.paths.items()}
    for (path, _), operation in described.items():
        known = pages.paths[path]
        assert {int(status) for status in operation["responses"]} == {200, *pages.codes(known)}
        asked = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
        assert asked == set(known.parameters)
        assert ("requestBody" in operation) == (known.method == "POST") == bool(known.body)


def test_every_status_is_that_of_its_problems(pages: Pages) -> None:
    for known in pages.paths.values():
        for status, problems in pages.codes(known).items():
            assert problems
            assert all(STATUSES[problem] == status for problem in problems) or status == HEADER_TOO_LARGE


def test_it_is_whole(pages: Pages) -> None:
    """Each reference leads somewhere, each schema is one, each operation has a name of its own."""
    document = pages.description()
    assert document["openapi"] == "3.1.0"
    text = json.dumps(document)
    names = set(document["components"]["schemas"])
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= names
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len(ids) == len(set(ids))


def test_only_what_can_occur_is_described() -> None:
    document = app().description()
    predict = document["paths"]["/v1/predict"]["post"]
    assert not {"429", "401", "502", "504"} & set(predict["responses"])
    capped = app(requests_per_second=1.0).description()["paths"]
    assert "429" in capped["/v1/predict"]["post"]["responses"]
    assert "429" not in capped["/healthz"]["get"]["responses"]
    assert "security" not in admin().description()
    secured = admin(ann="0" * 64).description()
    assert secured["security"] == [{"token": []}]
    assert "401" in secured["paths"]["/admin/v1/pull"]["post"]["responses"]


def test_answers_are_as_described(call: Any) -> None:
    document = call.app.description()

    def check(path: str, verb: str, reply: Any) -> None:
        answer = document["paths"][path][verb]["responses"][str(reply.status)]
        (schema,) = [
            media["schema"]
            for kind, media in answer["content"].items()
            if reply.headers["content-type"].startswith(kind)
        ]
        Draft202012Validator({**schema, "components": document["components"]}).validate(reply.json)

    check("/v1/predict", "post", call.predict(GOOD))
    check("/v1/predict", "post", call.predict([GOOD, {}]))
    check("/v1/predict", "post", call.predict({}))
    check("/v1/predict", "post", call.predict(b"{"))
    check("/v1/predict", "post", call.predict(GOOD, [("signalyard-budget-us", "0")]))
    check("/v1/state", "get", call("GET", "/v1/state?symbol=rb1.SHFE"))
    check("/v1/state", "get", call("GET", "/v1/state?what=1"))
    check("/readyz", "get", call("GET", "/readyz"))
    call.router.reasons = ["no routes"]
    check("/readyz", "get", call("GET", "/readyz"))
    call.router.error = error(Problem.OVERLOADED, "too much")
    check("/v1/predict", "post", call.predict(GOOD))
    check("/v1/openapi.json", "get", call("GET", "/v1/openapi.json"))
    assert call("GET", "/v1/openapi.json").json == document


def test_the_examples_are_good(pages: Pages) -> None:
    document = pages.description()
    for operation in operations(document).values():
        media = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        if "example" in media:
            schema = {**media["schema"], "components": document["components"]}
            Draft202012Validator(schema).validate(media["example"])


def test_the_page_shows_it_all_and_needs_nothing_from_outside(pages: Pages) -> None:
    document = pages.description()
    page = render(document)
    for path, _ in operations(document):
        assert f"<code>{path}</code>" in page
    for name in document["components"]["schemas"]:
        assert f'id="type-{name}"' in page
    assert not re.search(r"<script|<link|<img|src=|@import|url\(|https?:", page)
    assert set(re.findall(r'href="#type-([^"]+)"', page)) <= set(document["components"]["schemas"])
    assert page.count("<details") == page.count("</details>")
    assert page.count("<table") == page.count("</table>")


def test_the_page_is_served(call: Any) -> None:
    reply = call("GET", "/v1/docs")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")


def test_what_is_shown_is_escaped() -> None:
    document = app().description()
    document["info"] = {"title": "<b>", "description": "a `<i>` & b"}
    page = render(document)
    assert "<h1>&lt;b&gt;</h1>" in page
    assert "a <code>&lt;i&gt;</code> &amp; b" in page
