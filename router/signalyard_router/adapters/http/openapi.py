"""The OpenAPI 3.1 document of an app, made from its paths and from the structs that it reads and writes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from signalyard.problems import Problem, ProblemDetails
from signalyard_router.adapters.http.answers import OipDetails
from signalyard_router.adapters.http.paths import Path

VERSION = "1"
"""The interface's version, the one in its paths."""

_REQUEST_ID = {
    "name": "x-request-id",
    "in": "header",
    "schema": {"type": "string"},
    "description": "An id to find the request by, up to 64 printable characters without spaces; without a sane one the router "
    "makes one. The answer, the log and the journal have it.",
}

_Known = Mapping[str, tuple[Path, Mapping[int, Sequence[Problem]]]]


def specification(service: str, paths: _Known, secured: bool) -> dict[str, Any]:
    """The document of a service. ``paths``: what is at each, and the problems that it answers with by their status."""
    schemas = _Schemas(
        kind
        for known, _ in paths.values()
        for kind in (
            ProblemDetails,
            *((OipDetails,) if known.oip else ()),
            *known.body,
            *known.answer,
            *(each for more in known.details.values() for each in more),
        )
    )
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": service,
            "version": VERSION,
            "description": "Errors are RFC 9457 problems; programs should look at their `code`. Times are UTC nanoseconds.",
        },
        "paths": {
            path: {known.method.lower(): _operation(path, known, codes, schemas)}
            for path, (known, codes) in paths.items()
        },
        "components": {"schemas": schemas.components},
    }
    if secured:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _operation(path: str, known: Path, codes: Mapping[int, Sequence[Problem]], schemas: "_Schemas") -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": "_".join(part for part in re.split(r"[/.{}]+", path) if part not in ("", "v1")) or "index",
        "summary": known.summary,
        "parameters": [
            *(
                {"name": name, "in": "query", "schema": {"type": "string"}, "description": text}
                for name, text in known.parameters.items()
            ),
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in re.findall(r"{(\w+)}", path)
            ),
            *({"name": name, "in": "header", "schema": dict(schema)} for name, schema in known.headers.items()),
            _REQUEST_ID,
        ],
    }
    if known.body:
        media: dict[str, Any] = {"schema": schemas.any_of(known.body)}
        if known.example is not None:
            media["example"] = known.example
        operation["requestBody"] = {"required": True, "content": {"application/json": media}}
    operation["responses"] = {
        "200": {
            "description": "OK",
            "content": {kind: {"schema": schemas.any_of(known.answer)} for kind in known.content},
        },
        **{str(status): _problem(status, found, known, schemas) for status, found in codes.items()},
    }
    return operation


def _problem(status: int, codes: Sequence[Problem], known: Path, schemas: "_Schemas") -> dict[str, Any]:
    members = {"properties": {"code": {"enum": list(codes)}, "status": {"const": status}}, "required": ["status"]}
    forms = {"application/problem+json": known.details.get(status, (ProblemDetails,))}
    if known.oip:
        forms = {
            "application/json": (OipDetails,),
            **forms,
        }  # what is refused before its path is known has the usual form
    answer: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in codes)}",
        "content": {kind: {"schema": {"allOf": [schemas.any_of(kinds), members]}} for kind, kinds in forms.items()},
    }
    if status in (429, 503):
        answer["headers"] = {
            "retry-after": {
                "schema": {"type": "integer", "minimum": 1},
                "description": "Seconds to wait before the next try.",
            }
        }
    return answer


class _Schemas:
    """The schemas of types, by reference where they have names. What is read by a form is shown under the wire's name."""

    def __init__(self, kinds: Iterable[Any]) -> None:
        self._kinds = list(dict.fromkeys(kinds))
        found, components = msgspec.json.schema_components(self._kinds, ref_template="#/components/schemas/{name}")
        self._found = [_shown(schema) for schema in found]
        self.components = {_name(name): _shown(components[name]) for name in sorted(components)}

    def any_of(self, kinds: Sequence[Any]) -> dict[str, Any]:
        """The schema of what is one of these."""
        schemas = [self._found[self._kinds.index(kind)] for kind in kinds]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _name(name: str) -> str:
    return name.removesuffix("Form")


def _shown(schema: Any) -> Any:
    """A schema whose references and titles say what the wire calls things, and whose descriptions read as plain text."""
    if isinstance(schema, list):
        return [_shown(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _shown(value) for key, value in schema.items()}
    for key in ("$ref", "title"):
        if isinstance(made.get(key), str):
            made[key] = _name(made[key])
    if isinstance(made.get("description"), str):
        plain = re.sub(r":\w+:`", "`", made["description"].replace("``", "`"))
        made["description"] = "\n".join(line.strip() for line in plain.splitlines())
    return made
