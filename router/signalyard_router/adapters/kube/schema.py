"""msgspec's JSON Schema of a struct as a structural OpenAPI schema, as CustomResourceDefinitions want it.

Defaults are described, and never filled in by the API server: a document's revision is a hash of what the router makes of it, and is to
be the same for a file and a custom resource, whichever version of the CRD an object was written under.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Schema = dict[str, Any]
Rules = Mapping[str, Sequence[Schema]]
"""CEL rules by struct (``RouteSpec``) or by a struct's field (``RouteSpec.maxAge``)."""

_TEXT_MOST = 64
"""No text that a pattern describes is longer; the API server wants to know, to bound what a rule may cost."""

_REF = "#/$defs/"


def structural(struct: type[msgspec.Struct], rules: Rules, keys: Mapping[str, Sequence[str]]) -> Schema:
    """The schema of a struct with its rules in place. ``keys`` names, for fields that are lists, what tells their items apart."""
    _, definitions = msgspec.json.schema_components([struct], ref_template=_REF + "{name}")
    return _Writer(definitions, rules, keys).of(definitions[struct.__name__])


class _Writer:
    def __init__(self, definitions: Mapping[str, Schema], rules: Rules, keys: Mapping[str, Sequence[str]]) -> None:
        self._definitions = definitions
        self._rules = rules
        self._keys = keys

    def of(self, schema: Schema) -> Schema:
        if "$ref" in schema:
            return self.of(self._definitions[schema["$ref"].removeprefix(_REF)])
        if "anyOf" in schema:
            return self._any_of(schema["anyOf"])
        made: Schema = {}
        if "description" in schema:
            made["description"] = _plain(schema["description"])
        if schema.get("type") == "object" and "properties" in schema:
            self._object(schema, made)
        elif schema.get("type") == "object":
            made |= {"type": "object", "additionalProperties": self.of(schema["additionalProperties"])}
            made |= {"maxProperties": schema["maxProperties"]} if "maxProperties" in schema else {}
        elif schema.get("type") == "array":
            made |= {"type": "array"}
            made |= {name: schema[name] for name in ("minItems", "maxItems") if name in schema}
            made["items"] = self.of(schema["items"])
        elif "enum" in schema:
            made |= _enum(schema["enum"])
        else:
            made |= _scalar(schema)
        return made

    def _any_of(self, choices: Sequence[Schema]) -> Schema:
        real = [choice for choice in choices if choice != {"type": "null"}]
        if len(real) == 1:
            return self.of(real[0])
        # A number, or a word: no type that Kubernetes has. Each of these holds for its own kind of value alone.
        made: Schema = {"x-kubernetes-preserve-unknown-fields": True}
        for choice in real:
            if "enum" in choice:
                made["pattern"] = f"^({'|'.join(choice['enum'])})$"
            else:
                made |= {name: choice[name] for name in ("minimum", "maximum")}
        return made

    def _object(self, schema: Schema, made: Schema) -> None:
        struct = schema["title"]
        made["type"] = "object"
        if schema["required"]:
            made["required"] = schema["required"]
        properties: Schema = {}
        for name, field in schema["properties"].items():
            part = self.of(field)
            if "default" in field:
                part = _with_default(part, field)
            if name in self._keys and part.get("type") == "array":
                part |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(self._keys[name])}
            if f"{struct}.{name}" in self._rules:
                part["x-kubernetes-validations"] = list(self._rules[f"{struct}.{name}"])
            properties[name] = part
        made["properties"] = properties
        if struct in self._rules:
            made["x-kubernetes-validations"] = list(self._rules[struct])


def _enum(words: Sequence[str]) -> Schema:
    if "off" in words:
        # YAML reads on and off as true and false where they are not quoted; the router takes either.
        return {"x-kubernetes-preserve-unknown-fields": True, "enum": [*words, True, False]}
    return {"type": "string", "enum": list(words)}


def _scalar(schema: Schema) -> Schema:
    made: Schema = {"type": schema["type"]}
    kept = ("minimum", "maximum", "minLength", "maxLength", "pattern", "format")
    made |= {name: schema[name] for name in kept if name in schema}
    if "exclusiveMinimum" in schema:
        made |= {"minimum": schema["exclusiveMinimum"], "exclusiveMinimum": True}
    if "exclusiveMaximum" in schema:
        made |= {"maximum": schema["exclusiveMaximum"], "exclusiveMaximum": True}
    if made["type"] == "integer":
        made["format"] = "int64"
    if "pattern" in made and made["pattern"].rstrip(")$").endswith("off"):
        # The same as above: off may come as false.
        del made["type"]
        return {"x-kubernetes-preserve-unknown-fields": True, **made}
    if made["type"] == "string" and "maxLength" not in made and ("pattern" in made or "format" in made):
        made["maxLength"] = _TEXT_MOST
    return made


def _with_default(part: Schema, field: Schema) -> Schema:
    default = field["default"]
    if default is None or isinstance(default, dict):
        return part
    if {"type": "null"} in field.get("anyOf", ()):
        part["nullable"] = True  # there it means something else than the default
    said = f"Default: {json.dumps(default) if not isinstance(default, str) else default}."
    before = part.get("description", "")
    text = f"{before[:1].upper()}{before[1:].rstrip('.')}. {said}" if before else said
    return {"description": text, **{name: value for name, value in part.items() if name != "description"}}


def _plain(docstring: str) -> str:
    """A docstring as plain text, with fields called as they are on the wire."""
    text = re.sub(r"``(\w+)``", lambda match: _camel(match[1]), docstring).replace("`", "")
    return re.sub(r"\s*\n\s*", " ", text).strip()


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)
