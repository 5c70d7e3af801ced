"""The sub-command ``schema``: what travels on the wires as JSON Schema, and the catalogue of problems as a page."""

import json
import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import msgspec

from signalyard import oip, profile, wire
from signalyard.problems import CATALOGUE, ProblemDetails

SHIPPED = "wire.schema.json"
"""The file in this package that holds :func:`wire_schema` as text."""

_TYPES = (
    wire.Snapshot,
    wire.Columnar,
    wire.Signal,
    wire.Decision,
    wire.StateAnswer,
    wire.Observation,
    wire.ObserveAnswer,
    ProblemDetails,
    oip.InferRequest,
    oip.InferResponse,
    oip.ModelMetadata,
    oip.ErrorBody,
    profile.FeatureSchema,
)


def wire_schema() -> dict[str, Any]:
    """One JSON Schema (2020-12) document with a definition for each message, under ``$defs`` by its name.

    ``PredictRequest`` and ``PredictAnswer`` are the bodies of ``POST /v1/predict`` and of its 200.
    """
    _, definitions = msgspec.json.schema_components(_TYPES, ref_template="#/$defs/{name}")
    definitions["PredictRequest"] = {
        "title": "PredictRequest",
        "description": "One snapshot, a list of them, or columns with rows.",
        "anyOf": [_ref("Snapshot"), {"type": "array", "items": _ref("Snapshot")}, _ref("Columnar")],
    }
    definitions["PredictAnswer"] = {
        "title": "PredictAnswer",
        "description": "One decision for one snapshot that one route takes, else a list of them.",
        "anyOf": [_ref("Decision"), {"type": "array", "items": _ref("Decision")}],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:signalyard:wire",
        "title": "What travels between strategies, router and model servers",
        "$defs": {name: _tidy(definitions[name]) for name in sorted(definitions)},
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _tidy(definition: dict[str, Any]) -> dict[str, Any]:
    """A definition whose description, a docstring, reads as plain text."""
    description = definition.get("description")
    if description is None:
        return definition
    plain = re.sub(r":\w+:`", "`", description.replace("``", "`"))
    lines = (line.strip() for line in plain.splitlines())
    return {**definition, "description": "\n".join(lines)}


def schema_text() -> str:
    """:func:`wire_schema` as the shipped file has it."""
    return json.dumps(wire_schema(), indent=2, ensure_ascii=False) + "\n"


def problems_text() -> str:
    """The page of problems, in Markdown."""
    rows = [
        f"| `{code}` | {entry.title} | {entry.fault} | {'yes' if entry.retryable else 'no'} |"
        for code, entry in CATALOGUE.items()
    ]
    return "\n".join(
        [
            "# Problems",
            "",
            "<!-- Made by `signalyard schema --problems`; change src/signalyard/problems.py instead. -->",
            "",
            "Whatever goes wrong has one of these codes. A REST error is a problem document after RFC 9457 with the members",
            "`type` (`urn:signalyard:problem:CODE`), `title`, `code`, `fault`, `retryable`, `status` and, where there is more to",
            "say, `detail` and `pointer`: a JSON pointer to the place in the request. In the answer to a request of several rows",
            "a rejected row's decision carries the same document without `status`.",
            "",
            "The fault says who can mend it, and which exception the Python client raises: `caller` is a `CallerError`, `model` a",
            "`ModelError`, `router` a `RouterError`. Retryable means that the same call may succeed later; sending a snapshot",
            "again is always safe, because the same snapshot gets the decision that was made.",
            "",
            "| code | title | fault | retryable |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--problems", is_flag=True, help="The catalogue of problems, as Markdown, in place of the JSON Schema.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write to FILE and print nothing."
)
@click.option(
    "--check",
    is_flag=True,
    help="Write nothing; exit 1 if FILE, or the schema that is shipped, is not what would be written.",
)
def schema(problems: bool, out: Path | None, check: bool) -> None:
    """Print the JSON Schema of what travels on the wires."""
    text = problems_text() if problems else schema_text()
    if not check:
        if out is None:
            click.echo(text, nl=False)
        else:
            out.write_text(text, encoding="utf-8")
        return
    if problems and out is None:
        raise click.UsageError("--check --problems needs --out FILE, the file to compare with")
    name = str(out or SHIPPED)
    try:
        there = (out or files("signalyard").joinpath(SHIPPED)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise click.ClickException(f"{name} cannot be read: {exc}") from exc
    if there != text:
        click.echo(f"{name} is not current: write it again with signalyard schema --out", err=True)
        sys.exit(1)
