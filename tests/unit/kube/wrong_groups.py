"""Specs of groups that are wrong, each in one way, and what the API server has to say of it. The router refuses every one of them, too."""

from typing import Any

GOOD: dict[str, Any] = {
    "routes": ["rb", "rb-fast"],
    "conflict": "agree",
    "freshness": "2s",
    "dedupe": {"window": "500ms"},
    "limits": {"signals": "60/min", "flips": "4/min"},
}

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a route twice": ({**GOOD, "routes": ["rb", "cu", "rb"]}, "name each route once"),
    "alone": ({**GOOD, "routes": ["rb"]}, "should have at least 2 items"),
    "nobody": ({"conflict": "agree"}, "spec.routes: Required value"),
    "a crowd": ({**GOOD, "routes": [f"r{number}" for number in range(33)]}, "must have at most 32 items"),
    "a route that is no name": ({**GOOD, "routes": ["rb", "RB"]}, "should match"),
    "a conflict that is none": ({**GOOD, "conflict": "fight"}, "Unsupported value"),
    "no freshness": ({**GOOD, "freshness": "0s"}, "must be more than zero"),
    "a window that is none": ({**GOOD, "dedupe": {"window": "5 s"}}, "should match"),
    "a rate that is none": ({**GOOD, "limits": {"signals": "0/min"}}, "should match"),
    "too many signals": ({**GOOD, "limits": {"signals": "100001/h"}}, "limits.signals counts at most 100000"),
    "too many flips": ({**GOOD, "limits": {"flips": "1001/h"}}, "limits.flips counts at most 1000"),
}
