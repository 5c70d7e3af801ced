"""What is generated in the charts is what `make generate` would write, and every value is described."""

import json

import pytest
from rendered.charts import CHARTS, HELM

from signalyard_charts.__main__ import generated
from signalyard_charts.readme import MARK, with_table
from signalyard_charts.values import UndescribedValueError, Value, read_values


def test_tables_and_schemas_are_current() -> None:
    stale = [str(path) for path, text in generated(HELM).items() if path.read_text() != text]
    assert stale == [], "run `make generate`"


@pytest.mark.parametrize("chart", CHARTS)
def test_no_schema_lets_an_unknown_value_through(chart: str) -> None:
    schema = json.loads((HELM / chart / "values.schema.json").read_text())
    # Kubernetes' own objects, which the API server checks, and what helm itself hands in.
    free = {"$.properties.global", "$.$defs.objects.items", "$.$defs.environment.items.properties.valueFrom"}
    free |= {"$.$defs.pods.properties.affinity", "$.$defs.pods.properties.spread.items", "$.properties.affinity"}
    assert sorted(open_objects(schema, "$") - free) == []


def open_objects(schema: object, place: str) -> set[str]:
    """The places at which a schema takes an object with any field."""
    if isinstance(schema, list):
        return {found for number, each in enumerate(schema) for found in open_objects(each, f"{place}[{number}]")}
    if not isinstance(schema, dict):
        return set()
    below = {found for key, each in schema.items() for found in open_objects(each, f"{place}.{key}")}
    kind = schema.get("type", [])
    is_object = "object" in (kind if isinstance(kind, list) else [kind])
    return below | ({place} if is_object and "additionalProperties" not in schema else set())


def test_a_comment_belongs_to_the_key_below_it() -> None:
    text = '# About all of it.\na:\n  # -- First line\n  # and second.\n  b: 1\n# -- A map as a whole.\nc: {d: "x"}\n'
    assert read_values(text) == [
        Value("a.b", "1", "First line and second."),
        Value("c", '{"d": "x"}', "A map as a whole."),
    ]


@pytest.mark.parametrize("text", ["a: 1\n", "# -- Said\nb: 1\na: 1\n", "# -- Said\n\na: {}\n", "# not marked\na: []\n"])
def test_a_value_that_nobody_describes_is_refused(text: str) -> None:
    with pytest.raises(UndescribedValueError, match=r"^a$"):
        read_values(text)


def test_a_table_takes_the_place_of_the_one_before() -> None:
    value = Value("a", "[1]", "this | that")
    once = with_table(f"# Head\n\n{MARK}\n", [value])
    assert once.startswith("# Head\n")
    assert "| `a` | `[1]` | this \\| that |" in once
    assert with_table(once, [value]) == once
    with pytest.raises(ValueError, match="must hold the line"):
        with_table("# Head\n", [value])
