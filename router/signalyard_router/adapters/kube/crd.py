"""The CustomResourceDefinitions. What the API server can judge of a document is judged by it; the rest says the router in the status."""

from typing import Any

import msgspec
import yaml

from signalyard_router.adapters.kube.schema import Schema, structural
from signalyard_router.adapters.kube.told import Told
from signalyard_router.rules.documents import GroupSpec, RouteSpec
from signalyard_router.rules.units import MAX_FLIPS_COUNT, MAX_RATE_COUNT

_HEADER = "# Made by `make generate` from the router's own structs; change router/signalyard_router instead.\n"


class Kind(msgspec.Struct, frozen=True):
    """A kind of custom resource: its names, the structs of its two halves, its rules and its columns. Of some nothing is told in a status."""

    kind: str
    plural: str
    short: str
    description: str
    spec: type[msgspec.Struct]
    status: type[msgspec.Struct] | None
    rules: dict[str, list[Schema]]
    root_rules: list[Schema]
    list_keys: dict[str, list[str]]
    columns: list[Schema]

    @property
    def file(self) -> str:
        """The file of its definition."""
        return f"{self.plural}.signalyard.io.yaml"


def _rule(rule: str, message: str) -> Schema:
    return {"rule": rule, "message": message}


_SUM = "self.tracks.filter(t, t.name in ['stable', 'canary'] && has(t.weight)).map(t, t.weight).sum()"


def _two_decimals(field: str) -> Schema:
    rest = f"self.{field} * 100.0 - double(int(self.{field} * 100.0 + 0.5))"
    return _rule(
        f"!has(self.{field}) || ({rest} > -0.000001 && {rest} < 0.000001)",
        f"{field} is a share of 10,000 slots: write it with two decimals at most, such as 12.25",
    )


_MORE_THAN_ZERO = [_rule("self.matches('[1-9]')", "must be more than zero, such as 100ms")]


def _at_most(limit: str, most: int) -> Schema:
    return _rule(
        f"!has(self.{limit}) || int(self.{limit}.split('/')[0]) <= {most}",
        f"limits.{limit} counts at most {most}: write a smaller number, or a shorter window",
    )


_ENDPOINT = _rule("has(self.endpoint) != has(self.endpoints)", "give exactly one of endpoint and endpoints")

_ROUTE_RULES: dict[str, list[Schema]] = {
    "RouteSpec": [
        _rule(
            "self.tracks.exists_one(t, t.name == 'stable')",
            "there must be exactly one track named stable",
        ),
        _rule("self.tracks.filter(t, t.name == 'canary').size() <= 1", "there may be one track named canary at most"),
        _rule(
            f"{_SUM} > 99.9999 && {_SUM} < 100.0001",
            "the weights of stable and canary must add up to 100",
        ),
        _rule(
            "self.tracks.all(t, !(t.name in ['standby', 'shadow']) || "
            "self.tracks.exists_one(u, u.name == t.name && u.version == t.version))",
            "each standby, and each shadow, has a version of its own: name each version once",
        ),
        _rule(
            "!has(self.pin) || self.pin.all(i, self.pin[i] == 'stable' || "
            "(self.pin[i] == 'canary' && self.tracks.exists(t, t.name == 'canary')))",
            "pin names tracks that decide and that the route has: stable, or canary where there is one",
        ),
        _rule(
            "!has(self.ladder) || self.ladder.all(r, !has(r.standby) || "
            "self.tracks.exists(t, t.name == 'standby' && t.version == r.standby))",
            "a standby rung names the version of one of the route's standby tracks",
        ),
        _rule(
            "!has(self.ladder) || !self.ladder.exists(r, has(r.skip)) || "
            "(self.ladder.exists_one(r, has(r.skip)) && has(self.ladder[self.ladder.size() - 1].skip))",
            "a rung behind skip is never reached: let skip be the last one",
        ),
        _rule(
            "!has(self.plan) || self.tracks.exists(t, t.name == 'canary')",
            "a plan needs a canary: add a track named canary, or take the plan away",
        ),
        _rule(
            "!has(self.plan) || !has(self.plan.checks) || !has(self.plan.checks.disagreement) || "
            "self.tracks.exists(c, c.name == 'canary' && "
            "self.tracks.exists(s, s.name == 'shadow' && s.version == c.version))",
            "plan.checks.disagreement needs a shadow track of the canary's version",
        ),
    ],
    "RouteSpec.deadline": _MORE_THAN_ZERO,
    "RouteSpec.maxAge": _MORE_THAN_ZERO,
    "RouteSpec.validFor": _MORE_THAN_ZERO,
    "ShadowPart.deadline": _MORE_THAN_ZERO,
    "HedgePart.after": _MORE_THAN_ZERO,
    "FlatRung.after": _MORE_THAN_ZERO,
    "TrackPart": [
        _ENDPOINT,
        _rule(
            "self.name in ['stable', 'canary'] || !has(self.weight) || self.weight == 0.0",
            "only stable and canary take a weight: a shadow takes mirror, a standby neither",
        ),
        _rule("!has(self.mirror) || self.name == 'shadow'", "only a shadow is mirrored to: say mirror there alone"),
        _two_decimals("weight"),
        _two_decimals("mirror"),
    ],
    "ModelRung": [_ENDPOINT],
    "Rung": [
        _rule(
            "[has(self.standby), has(self.model), has(self.flat), has(self.skip)].filter(given, given).size() == 1",
            "a rung is exactly one of standby, model, flat and skip",
        )
    ],
    "MappingPart": [
        _rule("has(self.long) || has(self.short)", "give at least one of mapping.long and mapping.short"),
        _rule(
            "!has(self.long) || !has(self.long.exit) || self.long.exit <= self.long.enter",
            "a held long ends at or below where it begins: let long.exit be at most long.enter",
        ),
        _rule(
            "!has(self.short) || !has(self.short.exit) || self.short.exit >= self.short.enter",
            "a held short ends at or above where it begins: let short.exit be at least short.enter",
        ),
        _rule(
            "!has(self.long) || !has(self.short) || "
            "(has(self.long.exit) ? self.long.exit : self.long.enter) > self.short.enter",
            "long.exit (or long.enter, where it has none) must lie above short.enter, or one score means both",
        ),
        _rule(
            "!has(self.long) || !has(self.short) || "
            "(has(self.short.exit) ? self.short.exit : self.short.enter) < self.long.enter",
            "short.exit (or short.enter, where it has none) must lie below long.enter, or one score means both",
        ),
    ],
    "FilterPart": [
        _rule(
            "!has(self.directions) || self.directions.size() > 0",
            "name at least one of long, short and flat in filters.directions",
        )
    ],
    "LimitPart": [_at_most("signals", MAX_RATE_COUNT), _at_most("flips", MAX_FLIPS_COUNT)],
    "PlanPart": [
        _rule(
            "self.steps.map(s, s.canary).isSorted() && "
            "self.steps.all(s, self.steps.exists_one(u, u.canary == s.canary))",
            "the canary's weights must grow from step to step",
        )
    ],
}

_CONDITION = ".status.conditions[?(@.type=='{}')].status"


def _column(name: str, path: str, kind: str = "string", *, wide: bool = False) -> Schema:
    return {"name": name, "type": kind, "jsonPath": path, **({"priority": 1} if wide else {})}


SIGNAL_ROUTE = Kind(
    kind="SignalRoute",
    plural="signalroutes",
    short="sr",
    description="How the snapshots of a set of instruments go to the tracks of one model, and all the rules on the way.",
    spec=RouteSpec,
    status=Told,
    rules=_ROUTE_RULES,
    root_rules=[
        _rule(
            "self.metadata.name.matches('^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$')",
            "a route's name has at most 63 characters: lower-case letters, digits, '-' and '.'",
        )
    ],
    list_keys={"endpoints": ["service", "port"], "conditions": ["type"]},
    columns=[
        _column("Model", ".spec.model"),
        _column("Mode", ".status.mode"),
        _column("Accepted", _CONDITION.format("Accepted")),
        _column("Ready", _CONDITION.format("TracksReady")),
        _column("Weights", ".status.weights"),
        _column("Age", ".metadata.creationTimestamp", "date"),
        _column("Drift", _CONDITION.format("VersionDrift"), wide=True),
        _column("Overridden", _CONDITION.format("Overridden"), wide=True),
        _column("Halted", _CONDITION.format("Halted"), wide=True),
        _column("Revision", ".status.revision", wide=True),
    ],
)

SIGNAL_GROUP = Kind(
    kind="SignalGroup",
    plural="signalgroups",
    short="sg",
    description="Routes on the same instruments whose signals must not repeat or contradict each other.",
    spec=GroupSpec,
    status=None,
    rules={
        "GroupSpec": [
            _rule(
                "self.routes.all(r, self.routes.exists_one(s, s == r))",
                "name each route once: its place in the list is its priority",
            )
        ],
        "GroupSpec.freshness": _MORE_THAN_ZERO,
        "LimitPart": _ROUTE_RULES["LimitPart"],
    },
    root_rules=[
        _rule(
            "self.metadata.name.matches('^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$')",
            "a group's name has at most 63 characters: lower-case letters, digits, '-' and '.'",
        )
    ],
    list_keys={},
    columns=[
        _column("Conflict", ".spec.conflict"),
        _column("Routes", ".spec.routes"),
        _column("Age", ".metadata.creationTimestamp", "date"),
    ],
)

KINDS = (SIGNAL_ROUTE, SIGNAL_GROUP)


def definition(kind: Kind) -> dict[str, Any]:
    """A kind's CustomResourceDefinition."""
    schema: dict[str, Any] = {
        "description": kind.description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(kind.spec, kind.rules, kind.list_keys),
        },
        "x-kubernetes-validations": kind.root_rules,
    }
    version: dict[str, Any] = {"name": "v1alpha1", "served": True, "storage": True}
    if kind.status is not None:
        schema["properties"]["status"] = structural(kind.status, {}, kind.list_keys)
        version["subresources"] = {"status": {}}
    version |= {"additionalPrinterColumns": kind.columns, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.signalyard.io"},
        "spec": {
            "group": "signalyard.io",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": ["signalyard"],
            },
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def text(kind: Kind) -> str:
    """A kind's CustomResourceDefinition as a file."""
    return _HEADER + yaml.dump(definition(kind), Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Writes what is there twice twice, and not as an anchor."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
