"""The schema of a route inside the schemas of values, so that `helm` refuses what the router would refuse, naming the field."""

from typing import Any

import msgspec

from signalyard_router.rules.documents import RouteSpec

# What the model chart writes itself, from the tracks in its values.
WRITTEN_BY_THE_CHART = ("model", "tracks")


def with_route(
    schema: dict[str, Any], name: str, *, without: tuple[str, ...] = (), whole: bool = True
) -> dict[str, Any]:
    """``schema`` with the route's spec as its definition ``name``, less the fields ``without``; other definitions stay.

    Unless it is ``whole``, no field is required: it may be empty where the chart makes no route.
    """
    (reference,), components = msgspec.json.schema_components([RouteSpec], ref_template="#/$defs/route.{name}")
    parts = {f"route.{part}": form for part, form in components.items()}
    spec = dict(parts.pop(reference["$ref"].removeprefix("#/$defs/")))
    spec["properties"] = {field: form for field, form in spec["properties"].items() if field not in without}
    spec["required"] = [field for field in spec["required"] if field not in without] if whole else []
    others = {key: form for key, form in schema["$defs"].items() if not key.startswith("route.") and key != name}
    return {**schema, "$defs": {**others, name: spec, **parts}}
