"""The demonstration's route: the document that the router reads, and the same rules as numbers for the audit."""

from collections.abc import Mapping

from signalyard_demo.audit import Rules
from signalyard_demo.train import MODEL

STABLE, CANARY, STANDBY = "stable", "canary", "standby"
VERSIONS = {STABLE: "7", CANARY: "8", STANDBY: "6"}

RULES = Rules(
    window=5_000_000_000,
    valid_for=5_000_000_000,
    deadline_us=100_000,
    long_enter=0.53,
    long_exit=0.51,
    short_enter=0.47,
    short_exit=0.49,
    min_confidence=0.55,
    signals=600,
    flips=60,
    tracks={STABLE: VERSIONS[STABLE], CANARY: VERSIONS[CANARY]},
    standbys=(VERSIONS[STANDBY],),
)


def document(
    instruments: str,
    ports: Mapping[str, int],
    host: str = "127.0.0.1",
    deadline: str = f"{RULES.deadline_us // 1_000}ms",
) -> str:
    """The SignalRoute as YAML. ``ports`` holds the port of each track's model server."""
    return f"""\
apiVersion: signalyard.io/v1alpha1
kind: SignalRoute
metadata: {{name: {MODEL}}}
spec:
  model: {MODEL}
  instruments: ["{instruments}"]
  deadline: {deadline}
  maxAge: 60s
  validFor: {RULES.valid_for // 1_000_000_000}s
  tracks:
    - {{name: stable,  version: "{VERSIONS[STABLE]}", weight: 80, endpoint: {{service: {host}, port: {ports[STABLE]}}}}}
    - {{name: canary,  version: "{VERSIONS[CANARY]}", weight: 20, endpoint: {{service: {host}, port: {ports[CANARY]}}}}}
    - {{name: standby, version: "{VERSIONS[STANDBY]}", endpoint: {{service: {host}, port: {ports[STANDBY]}}}}}
  ladder: [{{standby: "{VERSIONS[STANDBY]}"}}, {{skip: {{}}}}]
  mapping:
    long: {{enter: {RULES.long_enter}, exit: {RULES.long_exit}}}
    short: {{enter: {RULES.short_enter}, exit: {RULES.short_exit}}}
    otherwise: abstain
    position: {{scale: linear, max: 1.0}}
  filters: {{directions: [long, short, flat], minConfidence: {RULES.min_confidence}}}
  dedupe: {{window: {RULES.window // 1_000_000_000}s}}
  limits: {{signals: {RULES.signals}/min, flips: {RULES.flips}/min}}
"""
