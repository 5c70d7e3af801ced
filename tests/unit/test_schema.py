import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from signalyard import oip
from signalyard.problems import Problem, describe
from signalyard.profile import Feature, FeatureSchema
from signalyard.schema import SHIPPED, problems_text, schema, schema_text, wire_schema
from signalyard.wire import Columnar, ColumnarRow, Decision, Snapshot, StateAnswer
from signalyard.words import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "problems.md"


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({**wire_schema(), "$ref": f"#/$defs/{name}"})


def plain(message: object) -> Any:
    return json.loads(msgspec.json.encode(message))


def golden(name: str) -> Any:
    return json.loads(files("signalyard").joinpath("golden", name).read_bytes())


def test_the_shipped_schema_is_current() -> None:
    assert files("signalyard").joinpath(SHIPPED).read_text(encoding="utf-8") == schema_text(), (
        "write it again: signalyard schema --out src/signalyard/wire.schema.json"
    )


def test_the_page_of_problems_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == problems_text(), (
        "write it again: signalyard schema --problems --out docs/problems.md"
    )


def test_it_is_a_valid_schema() -> None:
    Draft202012Validator.check_schema(wire_schema())
    for definition in wire_schema()["$defs"].values():
        Draft202012Validator.check_schema(definition)


SNAPSHOT = Snapshot(symbol="rb2410.SHFE", ts_event=1718923456000000000, features={"close": 3512.0, "ret_5": None})
COLUMNAR = Columnar(columns=["close"], rows=[ColumnarRow("rb2410.SHFE", 1, [3512.0]), ColumnarRow("a.B", 2, [None], 3)])
DECISION = Decision(outcome=Outcome.REJECTED, row=1, problem=describe(Problem.NO_ROUTE, "none", "/1/symbol"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Snapshot", plain(SNAPSHOT)),
        ("Columnar", plain(COLUMNAR)),
        ("PredictRequest", plain(SNAPSHOT)),
        ("PredictRequest", plain([SNAPSHOT, SNAPSHOT])),
        ("PredictRequest", plain(COLUMNAR)),
        ("Decision", plain(DECISION)),
        ("PredictAnswer", plain(DECISION)),
        ("PredictAnswer", plain([DECISION])),
        ("StateAnswer", plain(StateAnswer(now=1, epoch=2, opinions=[]))),
        ("ProblemDetails", plain(describe(Problem.NO_ROUTE, status=422))),
        ("ErrorBody", plain(oip.ErrorBody("no"))),
        ("FeatureSchema", plain(FeatureSchema((Feature(name="close", minimum=0.0),)))),
        ("InferRequest", golden("request.json")),
        ("InferResponse", golden("response.json")),
        ("ModelMetadata", golden("metadata.json")),
    ],
)
def test_messages_are_valid(name: str, message: Any) -> None:
    validator(name).validate(message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Snapshot", {"symbol": "a.B", "ts_event": "now", "features": {}}),
        ("Snapshot", {"symbol": "a.B", "ts_event": 1, "features": {"close": "1"}}),
        ("Snapshot", {"symbol": "a.B", "ts_event": 1}),
        ("Snapshot", {"symbol": "a.B", "ts_event": 1, "features": {}, "extra": 1}),
        ("Columnar", {"columns": ["close"], "rows": [["a.B", 1]]}),
        ("PredictRequest", {}),
        ("PredictAnswer", {"outcome": "maybe"}),
        ("Signal", {"symbol": "a.B", "signal": "buy"}),
        ("ProblemDetails", {"code": "no_such_problem"}),
    ],
)
def test_other_messages_are_not(name: str, message: Any) -> None:
    assert not validator(name).is_valid(message)


def test_it_is_printed() -> None:
    result = CliRunner().invoke(schema)
    assert result.exit_code == 0
    assert result.output == schema_text()


def test_it_is_written_and_compared(tmp_path: Path) -> None:
    file = tmp_path / "made.json"
    run = CliRunner().invoke
    assert run(schema, ["--out", str(file)]).exit_code == 0
    assert file.read_text(encoding="utf-8") == schema_text()
    assert run(schema, ["--check", "--out", str(file)]).exit_code == 0
    file.write_text("{}")
    result = run(schema, ["--check", "--out", str(file)])
    assert result.exit_code == 1
    assert "is not current" in result.output
    assert file.read_text() == "{}"


def test_the_shipped_file_is_what_check_compares_with() -> None:
    assert CliRunner().invoke(schema, ["--check"]).exit_code == 0


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    result = CliRunner().invoke(schema, ["--check", "--out", str(tmp_path / "none.json")])
    assert result.exit_code == 1
    assert "cannot be read" in result.output


def test_problems_are_printed() -> None:
    result = CliRunner().invoke(schema, ["--problems"])
    assert result.output == problems_text()
    assert all(f"| `{problem}` |" in result.output for problem in Problem)


def test_checking_problems_needs_a_file() -> None:
    assert CliRunner().invoke(schema, ["--problems", "--check"]).exit_code == 2
    assert CliRunner().invoke(schema, ["--problems", "--check", "--out", str(PAGE)]).exit_code == 0
