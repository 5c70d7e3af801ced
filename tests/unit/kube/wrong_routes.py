"""Specs that are wrong, each in one way, and what the API server has to say of it. The router refuses every one of them, too."""

import copy
from typing import Any

import yaml

GOOD: dict[str, Any] = yaml.safe_load("""
model: rb-trend
mode: live
instruments: ["rb*.SHFE"]
deadline: 100ms
sessions: {timezone: Asia/Shanghai, hours: ["09:00-10:15", "21:00-02:30"], days: [mon, fri], holidays: ["2026-10-01"]}
tracks:
  - {name: stable,  version: "7", weight: 90, endpoint: {service: rb-trend-stable, port: 8080}}
  - {name: canary,  version: "8", weight: 10, endpoints: [{service: rb-trend-canary, port: 8080}, {service: other, port: 1}]}
  - {name: shadow,  version: "8", mirror: 12.25, endpoint: {service: rb-trend-shadow, port: 8080}}
  - {name: shadow,  version: "9", endpoint: {service: rb-trend-shadow, port: 8081}}
  - {name: standby, version: "6", endpoint: {service: rb-trend-standby, port: 8080}}
  - {name: standby, version: "5", endpoint: {service: rb-trend-standby, port: 8081}}
ladder:
  - {standby: "6"}
  - {model: {name: rules, version: "1", endpoint: {service: rules, port: 8080}}}
  - {flat: {after: 30s}}
  - {skip: {}}
mapping: {long: {enter: 0.6, exit: 0.52}, short: {enter: 0.4, exit: 0.48}, position: {scale: linear, max: 1.0}}
filters: {directions: [long, short, flat], minConfidence: 0.55}
limits: {signals: 60/min, flips: 4/min}
hedge: {after: p95}
pin: {rb2410.SHFE: canary, rb2501.SHFE: stable}
plan: {steps: [{canary: 1, hold: 10m}, {canary: 10}], checks: {errors: null, disagreement: 5%}}
alerts: {noSignal: "off", minConfidence: 0.4, degraded: "off", surge: 200%, drift: "on"}
shadow: {deadline: 200ms, thresholds: {disagreement: 0.1}}
""")


def _changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    spec = copy.deepcopy(GOOD)
    for path, value in changes:
        at: Any = spec
        *parents, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        for step in parents:
            at = at[step]
        if value is _GONE and isinstance(at, dict):
            del at[last]
        else:
            at[last] = value
    return spec


_GONE = object()
_ENDPOINT = {"service": "x", "port": 1}

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no stable": (
        _changed(
            ("tracks/0/name", "canary"),
            ("tracks/0/weight", 100),
            ("tracks/1", {"name": "standby", "version": "10", "endpoint": _ENDPOINT}),
            ("plan", _GONE),
            ("pin", _GONE),
        ),
        "exactly one track named stable",
    ),
    "two stables": (
        _changed(("tracks/1/name", "stable"), ("plan", _GONE), ("pin", _GONE)),
        "exactly one track named stable",
    ),
    "two canaries": (
        _changed(("tracks/2", {"name": "canary", "version": "10", "endpoint": _ENDPOINT}), ("plan", _GONE)),
        "one track named canary at most",
    ),
    "weights": (_changed(("tracks/0/weight", 80)), "must add up to 100"),
    "no weight": (_changed(("tracks/0/weight", _GONE)), "must add up to 100"),
    "weight beyond 100": (_changed(("tracks/0/weight", 110)), "less than or equal to 100"),
    "three decimals": (_changed(("tracks/0/weight", 89.999), ("tracks/1/weight", 10.001)), "two decimals at most"),
    "mirror of three decimals": (_changed(("tracks/2/mirror", 0.125)), "two decimals at most"),
    "mirrored canary": (_changed(("tracks/1/mirror", 10)), "only a shadow is mirrored to"),
    "weighed shadow": (_changed(("tracks/2/weight", 10)), "only stable and canary take a weight"),
    "weighed standby": (_changed(("tracks/4/weight", 10)), "only stable and canary take a weight"),
    "two standbys of a version": (_changed(("tracks/5/version", "6")), "name each version once"),
    "two shadows of a version": (_changed(("tracks/3/version", "8")), "name each version once"),
    "no endpoint": (_changed(("tracks/0/endpoint", _GONE)), "exactly one of endpoint and endpoints"),
    "both": (_changed(("tracks/0/endpoints", [_ENDPOINT])), "exactly one of endpoint and endpoints"),
    "an endpoint twice": (
        _changed(("tracks/1/endpoints/1", {"service": "rb-trend-canary", "port": 8080})),
        "Duplicate value",
    ),
    "a port that is none": (_changed(("tracks/0/endpoint/port", 70000)), "less than or equal to 65535"),
    "a track that is none": (_changed(("tracks/0/name", "main")), "Unsupported value"),
    "no tracks": (_changed(("tracks", [])), "should have at least 1 items"),
    "no instruments": (_changed(("instruments", [])), "should have at least 1 items"),
    "a duration that is none": (_changed(("deadline", "100 ms")), "should match"),
    "no time": (_changed(("deadline", "0ms")), "must be more than zero"),
    "no age": (_changed(("maxAge", "0.0s")), "must be more than zero"),
    "no life": (_changed(("validFor", "0s")), "must be more than zero"),
    "no hedge": (_changed(("hedge/after", "0s")), "must be more than zero"),
    "flat at once": (_changed(("ladder/2/flat/after", "0s")), "must be more than zero"),
    "no shadow time": (_changed(("shadow/deadline", "0us")), "must be more than zero"),
    "behind skip": (_changed(("ladder/0", {"skip": {}})), "let skip be the last one"),
    "two skips": (_changed(("ladder/2", {"skip": {}})), "let skip be the last one"),
    "a rung of two": (_changed(("ladder/0/skip", {})), "exactly one of standby, model, flat and skip"),
    "a rung of none": (_changed(("ladder/0", {})), "exactly one of standby, model, flat and skip"),
    "no such standby": (_changed(("ladder/0/standby", "4")), "the version of one of the route's standby tracks"),
    "rung without endpoint": (_changed(("ladder/1/model/endpoint", _GONE)), "exactly one of endpoint and endpoints"),
    "pinned to a shadow": (_changed(("pin/rb2410.SHFE", "shadow")), "pin names tracks that decide"),
    "pinned to no canary": (
        _changed(
            ("tracks/1", {"name": "standby", "version": "8", "endpoint": _ENDPOINT}),
            ("tracks/0/weight", 100),
            ("plan", _GONE),
        ),
        "pin names tracks that decide",
    ),
    "a plan without a canary": (
        _changed(
            ("tracks/1", {"name": "standby", "version": "8", "endpoint": _ENDPOINT}),
            ("tracks/0/weight", 100),
            ("pin", _GONE),
        ),
        "a plan needs a canary",
    ),
    "nothing to disagree": (_changed(("tracks/2/version", "10")), "needs a shadow track of the canary's version"),
    "a plan that shrinks": (_changed(("plan/steps/0/canary", 50)), "must grow from step to step"),
    "a plan that stands": (_changed(("plan/steps/0/canary", 10)), "must grow from step to step"),
    "no sides": (_changed(("mapping", {})), "at least one of mapping.long and mapping.short"),
    "long exit": (_changed(("mapping/long/exit", 0.7)), "let long.exit be at most long.enter"),
    "short exit": (_changed(("mapping/short/exit", 0.3)), "let short.exit be at least short.enter"),
    "long over short": (_changed(("mapping/long/exit", 0.4)), "must lie above short.enter"),
    "short over long": (_changed(("mapping/short/exit", 0.6)), "must lie below long.enter"),
    "no directions": (_changed(("filters/directions", [])), "at least one of long, short and flat"),
    "too many signals": (_changed(("limits/signals", "100001/h")), "limits.signals counts at most 100000"),
    "too many flips": (_changed(("limits/flips", "1001/h")), "limits.flips counts at most 1000"),
    "a rate that is none": (_changed(("limits/flips", "4 per minute")), "should match"),
    "confidence": (_changed(("filters/minConfidence", 1.5)), "less than or equal to 1"),
    "alert of no duration": (_changed(("alerts/noSignal", "soon")), "should match"),
    "alert beyond 1": (_changed(("alerts/degraded", 2)), "less than or equal to 1"),
    "drift": (_changed(("alerts/drift", "maybe")), "Unsupported value"),
    "mode": (_changed(("mode", "demo")), "Unsupported value"),
    "hours": (_changed(("sessions/hours/0", "9-10")), "should match"),
    "holiday": (_changed(("sessions/holidays/0", "soon")), "must be of type date"),
}
