"""The CustomResourceDefinitions are what the code says; that the API server judges by them is for the tests with a real one."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tests.unit.kube import wrong_groups
from tests.unit.kube.wrong_routes import GOOD, WRONG

from signalyard.problems import CallerError
from signalyard_router.adapters.kube.crd import KINDS, SIGNAL_ROUTE, definition, text
from signalyard_router.crds_cli import crds
from signalyard_router.rules.documents import parse_document, parse_group
from signalyard_router.rules.groups import compile_group
from signalyard_router.rules.route import compile_route

FOLDER = Path(__file__).parents[3] / "manifests/crds"


def document(spec, kind="SignalRoute"):
    return {
        "apiVersion": "signalyard.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": "rb"},
        "spec": spec,
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_the_committed_definition_is_the_generated_one(kind):
    assert (FOLDER / kind.file).read_text() == text(kind), "make generate"


def test_there_is_no_definition_of_anything_else():
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(kind.file for kind in KINDS)


def nodes(schema, path=""):
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from nodes(schema[name], f"{path}[]")


def schema_of(kind):
    (version,) = definition(kind)["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.kind)
def schema(request):
    return schema_of(request.param)


def test_there_is_a_status_where_something_is_told_in_one():
    told = {kind.kind: ("status" in schema_of(kind)["properties"], "subresources" in _version(kind)) for kind in KINDS}
    assert told == {"SignalRoute": (True, True), "SignalGroup": (False, False)}


def _version(kind):
    return definition(kind)["spec"]["versions"][0]


def test_no_default_is_filled_in(schema):
    assert [path for path, node in nodes(schema) if "default" in node] == []


def test_every_list_text_and_map_that_a_rule_may_look_at_is_bounded(schema):
    for path, node in nodes(schema["properties"]["spec"]):
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if node.get("type") == "string":
            assert "maxLength" in node or "enum" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


def test_every_rule_says_what_would_be_right(schema):
    rules = [rule for _, node in nodes(schema) for rule in node.get("x-kubernetes-validations", ())]
    assert len(rules) > 4
    for rule in rules:
        assert len(rule["message"]) > 20, rule
        assert "\n" not in rule["message"], rule


def test_fields_are_called_as_on_the_wire(schema):
    for path, node in nodes(schema):
        assert "``" not in node.get("description", ""), path
        assert "_" not in node.get("description", ""), path


@pytest.mark.parametrize("name", WRONG)
def test_what_the_api_server_is_to_refuse_the_router_refuses_too(name):
    spec, _ = WRONG[name]
    with pytest.raises(CallerError):
        compile_route(parse_document(document(spec), "wrong"))


def test_the_route_that_they_differ_from_is_good():
    compile_route(parse_document(document(GOOD), "good"))


@pytest.mark.parametrize("name", wrong_groups.WRONG)
def test_and_of_groups(name):
    spec, _ = wrong_groups.WRONG[name]
    with pytest.raises(CallerError):
        compile_group(parse_group(document(spec, "SignalGroup"), "wrong"))


def test_the_group_that_they_differ_from_is_good():
    compile_group(parse_group(document(wrong_groups.GOOD, "SignalGroup"), "good"))


def test_the_command_prints_writes_and_compares(tmp_path):
    run = CliRunner().invoke
    printed = run(crds, [])
    assert printed.exit_code == 0
    assert [item["metadata"]["name"] for item in yaml.safe_load_all(printed.output)] == [
        "signalroutes.signalyard.io",
        "signalgroups.signalyard.io",
    ]
    folder = str(tmp_path / "crds")
    assert run(crds, ["--out", folder, "--check"]).exit_code == 1
    assert run(crds, ["--out", folder]).exit_code == 0
    assert run(crds, ["--out", folder, "--check"]).exit_code == 0
    (tmp_path / "crds" / SIGNAL_ROUTE.file).write_text("other")
    refused = run(crds, ["--out", folder, "--check"])
    assert refused.exit_code == 1
    assert "make generate" in refused.output
