import json
import math
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalyard import profile
from signalyard.problems import CallerError, ModelError, Problem, SignalyardError

DIGEST = "sha256:" + 64 * "0"
COLUMNS = ("close", "ret_5")
ROWS = [[3512.0, 0.0012], [3512.0, None], [-1.0, 0.5]]
SCORED = profile.ScoredRows(
    model="golden",
    version="7",
    digest=DIGEST,
    score=[0.82, 0.25, None],
    confidence=[0.71, 0.6, None],
    row_error=["", "", "close: -1.0 is below the minimum of 0.0"],
)
CARD = profile.ModelCard(
    model="golden",
    version="7",
    digest=DIGEST,
    calibrated=True,
    schema=profile.FeatureSchema(
        (profile.Feature(name="close", minimum=0.0), profile.Feature(name="ret_5", missing="native"))
    ),
)


def golden(name: str) -> bytes:
    return files("signalyard").joinpath("golden", name).read_bytes()


def decode_response(body: bytes) -> profile.ScoredRows:
    return profile.decode_response(body, request_id="golden-1", model="golden", version="7", rows=3)


def decode_metadata(body: bytes) -> profile.ModelCard:
    return profile.decode_metadata(body, model="golden", version="7")


# The golden files


def test_the_golden_request_is_what_is_sent() -> None:
    assert profile.encode_request("golden-1", COLUMNS, ROWS) == golden("request.json")


def test_nan_is_sent_as_missing() -> None:
    rows = [[3512.0, 0.0012], [3512.0, math.nan], [-1.0, 0.5]]
    assert profile.encode_request("golden-1", COLUMNS, rows) == golden("request.json")


def test_the_golden_columns_are_read() -> None:
    tensor = json.loads(golden("request.json"))["inputs"][0]
    assert profile.decode_columns(tensor["parameters"]["columns"]) == COLUMNS


def test_the_golden_response_is_what_is_answered() -> None:
    assert profile.encode_response(SCORED, "golden-1") == golden("response.json")


def test_the_golden_response_is_read() -> None:
    assert decode_response(golden("response.json")) == SCORED


def test_the_golden_metadata_is_what_is_answered() -> None:
    assert msgspec.json.encode(profile.metadata(CARD, "lightgbm")) == golden("metadata.json")


def test_the_golden_metadata_is_read() -> None:
    assert decode_metadata(golden("metadata.json")) == CARD
    assert CARD.schema.names == COLUMNS


def test_an_uncalibrated_model_has_no_confidence() -> None:
    bare = msgspec.structs.replace(SCORED, confidence=None)
    assert decode_response(profile.encode_response(bare, "golden-1")) == bare
    card = msgspec.structs.replace(CARD, calibrated=False)
    assert decode_metadata(msgspec.json.encode(profile.metadata(card, "lightgbm"))) == card


# Responses

Change = Callable[[dict[str, Any]], object]


def output(answer: dict[str, Any], name: str) -> dict[str, Any]:
    return next(tensor for tensor in answer["outputs"] if tensor["name"] == name)


def changed(name: str, change: Change) -> bytes:
    answer = json.loads(golden(name))
    change(answer)
    return json.dumps(answer).encode()


def set_value(name: str, index: int, value: Any) -> Change:
    return lambda answer: output(answer, name)["data"].__setitem__(index, value)


def drop(name: str) -> Change:
    return lambda answer: answer["outputs"].remove(output(answer, name))


@pytest.mark.parametrize(
    ("change", "problem", "pointer"),
    [
        (lambda a: a.update(id="golden-2"), Problem.MODEL_ANSWER_WRONG_ID, "/id"),
        (lambda a: a.pop("id"), Problem.MODEL_ANSWER_WRONG_ID, "/id"),
        (lambda a: a.update(id="x" * 1_000_000), Problem.MODEL_ANSWER_WRONG_ID, "/id"),
        (lambda a: a.update(model_name="other"), Problem.MODEL_ANSWER_WRONG_VERSION, "/model_version"),
        (lambda a: a.update(model_version="8"), Problem.MODEL_ANSWER_WRONG_VERSION, "/model_version"),
        (lambda a: a.pop("model_version"), Problem.MODEL_ANSWER_WRONG_VERSION, "/model_version"),
        (drop("score"), Problem.MODEL_ANSWER_WRONG_SHAPE, "/outputs"),
        (lambda a: output(a, "score").update(shape=[2]), Problem.MODEL_ANSWER_WRONG_SHAPE, "/outputs/score"),
        (lambda a: output(a, "score").update(shape=[3, 2]), Problem.MODEL_ANSWER_WRONG_SHAPE, "/outputs/score"),
        (lambda a: output(a, "score").update(datatype="FP32"), Problem.MODEL_ANSWER_WRONG_SHAPE, "/outputs/score"),
        (lambda a: output(a, "score").update(data=[0.5]), Problem.MODEL_ANSWER_WRONG_SHAPE, "/outputs/score"),
        (lambda a: output(a, "confidence").update(data=[]), Problem.MODEL_ANSWER_WRONG_SHAPE, "/outputs/confidence"),
        (lambda a: output(a, "row_error").update(data=[""]), Problem.MODEL_ANSWER_WRONG_SHAPE, "/outputs/row_error"),
        (set_value("row_error", 0, 1), Problem.MODEL_ANSWER_WRONG_SHAPE, "/outputs/row_error"),
        (set_value("row_error", 0, None), Problem.MODEL_ANSWER_WRONG_SHAPE, "/outputs/row_error"),
        (set_value("score", 1, None), Problem.MODEL_ANSWER_NOT_FINITE, "/outputs/score/data/1"),
        (set_value("score", 1, True), Problem.MODEL_ANSWER_MALFORMED, "/outputs/score/data/1"),
        (set_value("score", 1, "0.5"), Problem.MODEL_ANSWER_MALFORMED, "/outputs/score/data/1"),
        (set_value("score", 1, [0.5]), Problem.MODEL_ANSWER_MALFORMED, "/outputs/score/data/1"),
        (set_value("score", 1, {}), Problem.MODEL_ANSWER_MALFORMED, "/outputs/score/data/1"),
        (set_value("score", 1, 10**400), Problem.MODEL_ANSWER_NOT_FINITE, "/outputs/score/data/1"),
        (set_value("score", 1, -(10**400)), Problem.MODEL_ANSWER_NOT_FINITE, "/outputs/score/data/1"),
        (set_value("score", 1, math.nan), Problem.MODEL_ANSWER_MALFORMED, ""),
        (set_value("score", 1, math.inf), Problem.MODEL_ANSWER_MALFORMED, ""),
        (set_value("confidence", 1, None), Problem.MODEL_ANSWER_NOT_FINITE, "/outputs/confidence/data/1"),
        (set_value("confidence", 1, 1.01), Problem.MODEL_ANSWER_NOT_FINITE, "/outputs/confidence/data/1"),
        (set_value("confidence", 1, -0.01), Problem.MODEL_ANSWER_NOT_FINITE, "/outputs/confidence/data/1"),
        (set_value("confidence", 1, 10**400), Problem.MODEL_ANSWER_NOT_FINITE, "/outputs/confidence/data/1"),
        (set_value("confidence", 1, False), Problem.MODEL_ANSWER_MALFORMED, "/outputs/confidence/data/1"),
        (lambda a: a.pop("parameters"), Problem.MODEL_ANSWER_MALFORMED, "/parameters/digest"),
        (lambda a: a.update(parameters={"digest": ""}), Problem.MODEL_ANSWER_MALFORMED, "/parameters/digest"),
        (lambda a: a.update(parameters={"digest": 7}), Problem.MODEL_ANSWER_MALFORMED, "/parameters/digest"),
        (lambda a: a.update(parameters=[]), Problem.MODEL_ANSWER_MALFORMED, ""),
        (lambda a: a.pop("outputs"), Problem.MODEL_ANSWER_MALFORMED, ""),
        (lambda a: a.update(outputs=[{}]), Problem.MODEL_ANSWER_MALFORMED, ""),
    ],
)
def test_a_response_is_refused(change: Change, problem: Problem, pointer: str) -> None:
    with pytest.raises(ModelError) as raised:
        decode_response(changed("response.json", change))
    assert (raised.value.problem, raised.value.pointer) == (problem, pointer)
    assert len(str(raised.value)) < 500


DEEP = 100_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b'"\\ud800"',
        golden("response.json")[:-1],
        golden("response.json") + b"{}",
        golden("response.json").replace(b"golden-1", b"\xff\xfe"),
        golden("response.json").replace(b"0.82", b"[" * DEEP),
        golden("response.json").replace(b"0.82", b"[" * DEEP + b"]" * DEEP),
        golden("response.json").replace(b"0.82", b'{"a":' * DEEP),
        golden("response.json").replace(b"0.82", b"1" * 5000),
        golden("response.json").replace(b"0.82", b"1e400"),
        b'{"unknown":' + b"[" * DEEP,
    ],
    ids=lambda body: f"{body[:20]!r}-{len(body)}",
)
def test_an_unreadable_response_is_refused(body: bytes) -> None:
    with pytest.raises(ModelError) as raised:
        decode_response(body)
    assert raised.value.problem is Problem.MODEL_ANSWER_MALFORMED
    assert len(str(raised.value)) < 500


def test_whole_numbers_are_scores_and_become_floats() -> None:
    scored = decode_response(changed("response.json", set_value("score", 0, 1)))
    assert scored.score == [1.0, 0.25, None]
    assert type(scored.score[0]) is float


def test_columns_of_one_are_scores() -> None:
    def column(answer: dict[str, Any]) -> None:
        output(answer, "score").update(shape=[3, 1])

    assert decode_response(changed("response.json", column)) == SCORED


def test_without_row_errors_every_row_is_good() -> None:
    bare = profile.ScoredRows(
        model="golden", version="7", digest=DIGEST, score=[0.1, 0.2, 0.3], confidence=None, row_error=["", "", ""]
    )
    body = json.loads(profile.encode_response(bare, "golden-1"))
    drop("row_error")(body)
    assert decode_response(json.dumps(body).encode()) == bare


def test_other_outputs_and_members_do_not_disturb() -> None:
    def add(answer: dict[str, Any]) -> None:
        answer["outputs"].append({"name": "leaf", "shape": [1], "datatype": "INT64", "data": [[4]]})
        answer["timings"] = {"ms": 1}

    assert decode_response(changed("response.json", add)) == SCORED


# Metadata


def parameters(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = answer["inputs"][0]["parameters"]
    return found


def set_schema(value: Any) -> Change:
    return lambda answer: parameters(answer).update(schema=value)


@pytest.mark.parametrize(
    ("change", "problem", "pointer"),
    [
        (lambda a: a.update(name="other"), Problem.MODEL_ANSWER_WRONG_VERSION, "/name"),
        (lambda a: a.pop("name"), Problem.MODEL_ANSWER_MALFORMED, ""),
        (lambda a: a.pop("inputs"), Problem.MODEL_ANSWER_MALFORMED, "/inputs"),
        (lambda a: a.update(inputs=[]), Problem.MODEL_ANSWER_MALFORMED, "/inputs"),
        (lambda a: a["inputs"][0].update(name="matrix"), Problem.MODEL_ANSWER_MALFORMED, "/inputs"),
        (lambda a: a["inputs"][0].pop("parameters"), Problem.MODEL_ANSWER_MALFORMED, "/inputs"),
        (lambda a: parameters(a).pop("digest"), Problem.MODEL_ANSWER_MALFORMED, "/inputs/0/parameters/digest"),
        (lambda a: parameters(a).update(digest=7), Problem.MODEL_ANSWER_MALFORMED, "/inputs/0/parameters/digest"),
        (lambda a: parameters(a).update(digest=""), Problem.MODEL_ANSWER_MALFORMED, "/inputs/0/parameters/digest"),
        (lambda a: parameters(a).pop("schema"), Problem.MODEL_ANSWER_MALFORMED, ""),
        (set_schema(None), Problem.MODEL_ANSWER_MALFORMED, ""),
        (set_schema({}), Problem.MODEL_ANSWER_MALFORMED, ""),
        (set_schema("{}"), Problem.MODEL_ANSWER_MALFORMED, ""),
        (set_schema("[" * DEEP), Problem.MODEL_ANSWER_MALFORMED, ""),
        (set_schema('{"features": [{"name": "a", "dtype": "str"}]}'), Problem.MODEL_ANSWER_MALFORMED, ""),
        (set_schema('{"features": [{"name": "a", "surprise": 1}]}'), Problem.MODEL_ANSWER_MALFORMED, ""),
        (set_schema('{"features": [{"name": "a", "minimum": 1e999}]}'), Problem.MODEL_ANSWER_MALFORMED, ""),
        (
            set_schema('{"features": [{"name": "a"}, {"name": "a"}]}'),
            Problem.MODEL_ANSWER_MALFORMED,
            "/inputs/0/parameters/schema",
        ),
    ],
)
def test_metadata_are_refused(change: Change, problem: Problem, pointer: str) -> None:
    with pytest.raises(ModelError) as raised:
        decode_metadata(changed("metadata.json", change))
    assert (raised.value.problem, raised.value.pointer) == (problem, pointer)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"{}",
        golden("metadata.json").replace(b"lightgbm", b"\xff"),
        golden("metadata.json").replace(b'"true"', b"[" * DEEP),
        b'{"unknown":' + b'{"a":' * DEEP,
    ],
    ids=lambda body: f"{body[:20]!r}-{len(body)}",
)
def test_unreadable_metadata_are_refused(body: bytes) -> None:
    with pytest.raises(ModelError) as raised:
        decode_metadata(body)
    assert raised.value.problem is Problem.MODEL_ANSWER_MALFORMED


# Columns


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, Problem.INVALID_SNAPSHOT),
        (["close"], Problem.INVALID_SNAPSHOT),
        ("", Problem.INVALID_SNAPSHOT),
        ("close,ret_5", Problem.INVALID_SNAPSHOT),
        ('{"close": 1}', Problem.INVALID_SNAPSHOT),
        ("[1]", Problem.INVALID_SNAPSHOT),
        ("[null]", Problem.INVALID_SNAPSHOT),
        ('["\ud800"]', Problem.INVALID_SNAPSHOT),
        ("[" * DEEP, Problem.INVALID_SNAPSHOT),
        ('["a", "b", "a"]', Problem.DUPLICATE_FEATURE),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_columns_are_refused(text: object, problem: Problem) -> None:
    with pytest.raises(CallerError) as raised:
        profile.decode_columns(text)
    assert raised.value.problem is problem
    assert raised.value.pointer == "/inputs/0/parameters/columns"


def test_no_columns_are_columns() -> None:
    assert profile.decode_columns("[]") == ()


# Whatever comes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = st.sampled_from(
    [
        ("model_name",),
        ("model_version",),
        ("id",),
        ("parameters",),
        ("parameters", "digest"),
        ("outputs",),
        ("outputs", 0),
        ("outputs", 0, "shape"),
        ("outputs", 0, "data"),
        ("outputs", 0, "data", 1),
        ("outputs", 1, "data", 1),
        ("outputs", 2, "data", 0),
        ("inputs",),
        ("inputs", 0, "parameters"),
        ("inputs", 0, "parameters", "schema"),
    ]
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_bytes_raise_nothing_else(body: bytes) -> None:
    for decode in (decode_response, decode_metadata):
        with pytest.raises(SignalyardError):
            decode(body)


@given(st.text() | JSON)
def test_arbitrary_columns_raise_nothing_else(text: object) -> None:
    try:
        columns = profile.decode_columns(text)
    except SignalyardError:
        return
    assert all(type(name) is str for name in columns)


@given(st.sampled_from(["response.json", "metadata.json"]), PLACES, JSON)
def test_a_good_answer_with_something_else_in_one_place(name: str, place: tuple[str | int, ...], value: Any) -> None:
    answer = json.loads(golden(name))
    inner = answer
    for step in place[:-1]:
        try:
            inner = inner[step]
        except KeyError:
            return
    inner[place[-1]] = value
    body = json.dumps(answer).encode()
    try:
        if name == "metadata.json":
            decode_metadata(body)
            return
        scored = decode_response(body)
    except SignalyardError:
        return
    assert len(scored.score) == len(scored.row_error) == 3
    for score, text in zip(scored.score, scored.row_error, strict=True):
        assert text or (type(score) is float and math.isfinite(score))


def test_metadata_that_was_asked_for_without_a_version_says_which_it_is():
    schema = profile.FeatureSchema((profile.Feature(name="close"),))
    card = profile.ModelCard(model="rb-trend", version="6", digest="sha256:aa", calibrated=False, schema=schema)
    answer = profile.metadata(card, "lightgbm")
    assert profile.decode_metadata(msgspec.json.encode(answer), model="rb-trend") == card
    nameless = msgspec.json.encode(msgspec.structs.replace(answer, versions=[]))
    with pytest.raises(ModelError) as caught:
        profile.decode_metadata(nameless, model="rb-trend")
    assert (caught.value.problem, caught.value.pointer) == (Problem.MODEL_ANSWER_MALFORMED, "/versions")
