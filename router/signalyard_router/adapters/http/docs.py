"""The OpenAPI document as one HTML page: no scripts, nothing from anywhere else."""

from collections.abc import Iterator, Mapping
from html import escape
from json import dumps
from typing import Any

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font:13px/1.45 ui-monospace,monospace}
pre{overflow:auto;padding:.6rem;border:1px solid #8885;border-radius:4px}
details{border:1px solid #8885;border-radius:4px;margin:.5rem 0;padding:.4rem .8rem}
summary{cursor:pointer}
table{border-collapse:collapse;width:100%;margin:.4rem 0}
td,th{border-top:1px solid #8883;padding:.25rem .5rem;text-align:left;vertical-align:top}
.verb{display:inline-block;min-width:3.2rem;font-weight:600}
h2{margin-top:2rem}
"""


def render(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document as `openapi.specification` makes it."""
    info = document["info"]
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])}</h1>",
            f'<p>{_text(info["description"])} As a document: <a href="/v1/openapi.json"><code>/v1/openapi.json</code></a>.</p>',
            "<p>Every request needs <code>authorization: Bearer TOKEN</code>.</p>" if document.get("security") else "",
            "<h2>Calls</h2>",
            *(
                _operation(path, verb, operation)
                for path, verbs in document["paths"].items()
                for verb, operation in verbs.items()
            ),
            "<h2>Types</h2>",
            *(_component(name, schema) for name, schema in document["components"]["schemas"].items()),
            "</body></html>",
        ]
    )


def _operation(path: str, verb: str, operation: Mapping[str, Any]) -> str:
    return "".join(
        [
            f'<details id="{escape(operation["operationId"])}"><summary><span class="verb">{escape(verb.upper())}</span> '
            f"<code>{escape(path)}</code> {escape(operation['summary'])}</summary>",
            _table(("parameter", "in", "type", ""), _parameters(operation)),
            *_body(operation),
            _table(("status", "", "type", "body"), _responses(operation)),
            "</details>",
        ]
    )


def _parameters(operation: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for each in operation["parameters"]:
        schema = dict(each["schema"])
        text = each.get("description") or schema.pop("description", "")
        yield f"<code>{escape(each['name'])}</code>", escape(each["in"]), _type(schema), _text(text)


def _body(operation: Mapping[str, Any]) -> Iterator[str]:
    if "requestBody" in operation:
        media = operation["requestBody"]["content"]["application/json"]
        yield f"<p>Body: {_type(media['schema'])}</p>"
        if "example" in media:
            yield f"<pre>{escape(dumps(media['example']))}</pre>"


def _responses(operation: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for status, answer in operation["responses"].items():
        for kind, media in answer["content"].items():
            schema = media["schema"]
            shown = schema["allOf"][0] if "allOf" in schema else schema
            yield escape(status), _text(answer["description"]), f"<code>{escape(kind)}</code>", _type(shown)


def _component(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (
            f"<code>{escape(field)}</code>",
            _type(of),
            "" if field in required else "optional",
            _text(of.get("description", "")),
        )
        for field, of in schema.get("properties", {}).items()
    ]
    body = _table(("field", "type", "", ""), rows) if rows else f"<p>{_type(schema)}</p>"
    return (
        f'<details id="type-{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"<p>{_text(schema.get('description', ''))}</p>{body}</details>"
    )


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a line, the names of types as links."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#type-{name}"><code>{name}</code></a>'
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(dumps(each))}</code>" for each in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(dumps(schema['const']))}</code>"
    if "prefixItems" in schema:
        return f"[{', '.join(_type(each) for each in schema['prefixItems'])}]"
    kind = schema.get("type", "anything")
    if kind == "array" and isinstance(schema.get("items"), Mapping):
        return f"list of {_type(schema['items'])}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_type(schema['additionalProperties'])}"
    edges = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "length up to"), ("pattern", "like"))
        if key in schema
    ]
    return escape(" ".join([str(kind), *edges]))


def _text(text: str) -> str:
    """Text with its `code` marked."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _table(heads: tuple[str, ...], rows: Any) -> str:
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    if not lines:
        return ""
    return "<table><tr>" + "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr>" + "".join(lines) + "</table>"
