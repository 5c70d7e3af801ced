"""The inference profile, byte files against MLServer's real REST app; the router's tests read the same files."""

import json
from importlib.resources import files
from typing import Any

GOLDEN = files("signalyard") / "golden"


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def test_the_golden_request_gets_the_golden_response(rest: Any, ask: Any) -> None:
    answer = ask(rest.app, "POST", "/v2/models/golden/versions/7/infer", golden("request.json"))
    assert answer.status == 200
    expected, found = json.loads(golden("response.json")), answer.json
    texts = {tensor["name"]: tensor for tensor in found["outputs"]}["row_error"]
    wanted = {tensor["name"]: tensor for tensor in expected["outputs"]}["row_error"]
    assert [bool(text) for text in texts["data"]] == [bool(text) for text in wanted["data"]]
    assert "close" in texts["data"][2]
    texts["data"] = wanted["data"]  # the wording is free
    assert found == expected


def test_the_golden_metadata(rest: Any, ask: Any) -> None:
    for path in ("/v2/models/golden/versions/7", "/v2/models/golden"):
        answer = ask(rest.app, "GET", path)
        assert answer.status == 200
        assert answer.json == json.loads(golden("metadata.json"))
