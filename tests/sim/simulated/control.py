"""What decides which version is asked, written a second time from docs/levers.md and docs/delivery.md: the document, a plan above it,
levers above both.

It shares no code with the router. Times named ``at`` are the simulation's, ``t`` the journal's, both nanoseconds.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from simulated.history import Json
from simulated.units import duration

_SECOND = 1_000_000_000
_HAND = ("weight", "rollback")


@dataclass(frozen=True)
class Force:
    """What holds: the canary's slots, or the ``version`` that was rolled back to. ``now``: open positions change hands at once.

    At the journal's time ``until`` a lever ends by itself, and ``after`` holds.
    """

    canary: int
    version: str | None
    pin: dict[str, str]
    now: bool
    until: int | None = None
    after: "Force | None" = None

    def assigned(self, spec: Json, symbol: str) -> str:
        """The version that decides for an instrument whose position is nobody's."""
        if self.version is not None:
            return self.version
        track = self.pin.get(symbol)
        if track is None:
            key = f"{spec['model']}\0{symbol}".encode()
            slot = int.from_bytes(blake2b(key, digest_size=8).digest(), "big") % 10_000
            track = "canary" if slot < self.canary else "stable"
        return _version(spec, track)


@dataclass(frozen=True)
class Progress:
    """Where a plan stands, since ``t``. ``key`` is the plan and the versions that it is for."""

    key: str
    step: int
    state: str
    canary: int
    t: int
    tied: bool = False


@dataclass
class Counted:
    """A decision of the canary since a step began."""

    at: int
    error: bool
    degraded: bool


@dataclass
class Control:
    """One route's. ``changes`` lists what has come into force, when, and under which document."""

    spec: Json
    lever: Json | None = None
    progress: Progress | None = None
    counted: list[Counted] = field(default_factory=list)
    changes: list[tuple[int, Force, Json]] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    newest: int = 0

    # What comes into force

    def document(self, spec: Json, at: int) -> None:
        """Another document was accepted."""
        self.spec = spec
        self._change(at)

    def pull(self, record: Json, at: int) -> None:
        """A lever was recorded."""
        action = record["action"]
        if action in _HAND:
            self.lever = record
            if self.progress is not None and self.progress.state == "running":
                # for good, however soon the lever ends
                self.progress = replace(self.progress, state="interrupted")
        elif action == "end" and self.lever is not None and self.lever["id"] == record["lever"]:
            self.lever = None
        elif action == "replan":
            self.progress = None
        self._change(at)

    def _change(self, at: int) -> None:
        self.changes.append((at, self._force(), self.spec))

    def _force(self) -> Force:
        below, lever = self._below(), self.lever
        if lever is None or not self._stands(lever):
            return below
        if lever["action"] == "rollback":
            force = Force(0, lever["version"], {}, True)
        else:
            force = Force(round(lever["canary"] * 100), None, self.spec["pin"], self.spec["handover"] == "now")
        if lever.get("expires") is None:
            return force
        return replace(force, until=lever["expires"], after=below)

    def _below(self) -> Force:
        """The plan's weights, or the document's."""
        spec, progress = self.spec, self.progress
        now = spec["handover"] == "now"
        if progress is not None and progress.key == self._key() and progress.state != "interrupted":
            return Force(progress.canary, None, spec["pin"], now or progress.state == "back")
        canary = sum(track["weight"] for track in spec["tracks"] if track["name"] == "canary")
        return Force(round(canary * 100), None, spec["pin"], now)

    def _stands(self, lever: Json) -> bool:
        """A weight or rollback ends when the document's weights change, or the versions that carry them, or its own version goes."""
        weights = {
            f"{track['name']}:{track['version']}={round(track['weight'] * 100)}"
            for track in self.spec["tracks"]
            if track["name"] in ("stable", "canary")
        }
        if {word for word in lever["base"].split() if not word.startswith("standby:")} != weights:
            return False
        return lever["action"] == "weight" or lever["version"] in {track["version"] for track in self.spec["tracks"]}

    def forces(self, received: int, t: int, *, vague: bool) -> Iterator[Force]:
        """What may have been in force when a snapshot was received, at the journal's time ``t``; mostly one thing. ``vague``: the
        clock or the disk may have put the end of a lever off."""
        first = 0
        for index, (at, _, _) in enumerate(self.changes):
            if at < received - 1_000:
                first = index
        for at, force, _ in self.changes[first:]:
            if at > received:
                break
            over = force.until is not None and t >= force.until
            if not over or vague or force.until is None or t < force.until + _SECOND:
                yield force
            if force.after is not None and (over or vague):
                yield force.after

    # Plans

    def decided(self, record: Json, at: int) -> None:
        """A decision; the canary's are what a step is judged by."""
        self.newest = record["t"]
        if self.progress is None or self.progress.key != self._key() or record["assigned"] != self._canary():
            return
        degraded = record.get("degraded", False)
        error = degraded or record.get("failover", False) or record.get("reason") == "row_error"
        self.counted.append(Counted(at, error, degraded))

    def step(self, record: Json, at: int, *, complete: bool, prompt: int) -> Iterator[str]:
        """A plan's record. ``complete``: no decision can have been dropped with its segment; ``prompt`` is how long a decision may
        wait to be counted."""
        key, part = self._key(), self.spec["plan"]
        if part is None:
            yield "plan: a step, and the route has no plan"
            return
        if self.keys.setdefault(record["plan"], key) != key:
            yield "plan: two plans under one id"
        before = self.progress if self.progress is not None and self.progress.key == key else None
        steps, state = part["steps"], record["state"]
        canary = 0 if state == "back" else round(steps[record["step"]]["canary"] * 100)
        if record["canary"] != canary:
            yield f"plan: the canary has {record['canary']} slots at step {record['step']}, not {canary}"
        by_hand = self._by_hand(record["t"])
        if before is None:
            if state != "running" or record["step"] != 0:
                yield f"plan: it begins as {state} at step {record['step']}"
            if by_hand:
                yield "plan: it begins under a weight pulled by hand"
        elif before.state != "running" or by_hand:
            yield f"plan: {state} at step {record['step']}, although it was {before.state}"
        else:
            yield from self._moved(record, before, at, part, complete=complete, prompt=prompt)
        self.progress = Progress(
            key, record["step"], state, record["canary"], record["t"], tied=self.newest == record["t"]
        )
        self.counted = []
        self._change(at)

    def _moved(
        self, record: Json, before: Progress, at: int, part: Json, *, complete: bool, prompt: int
    ) -> Iterator[str]:
        evidence, checks, state = record.get("evidence"), part["checks"], record["state"]
        if evidence is None:
            yield f"plan: {state} at step {record['step']} after step {before.step}, without evidence"
            return
        number = int(evidence["decisions"])
        if not before.tied and complete:
            counted = self.counted[:number]
            found = (len(counted), sum(one.error for one in counted), sum(one.degraded for one in counted))
            told = (number, int(evidence["errors"]), int(evidence["degraded"]))
            if found != told:
                yield f"plan: judged by {told} decisions, errors and degraded, and there were {found}"
            if any(one.at < at - prompt for one in self.counted[number:]):
                yield f"plan: judged by {number} decisions, and there had been {len(self.counted)}"
        objections = _objections(checks, evidence)
        if number < checks["decisions"]:
            yield f"plan: {state} after {number} decisions, and {checks['decisions']} are asked for"
        if state == "back":
            if record["step"] != before.step or objections is False:
                yield "plan: it steps back, and the checks are good"
            return
        if objections is True:
            yield f"plan: {state}, although a check fails"
        if record["t"] - before.t < duration(part["steps"][before.step]["hold"]):
            yield f"plan: {state} before its time"
        last = before.step + 1 == len(part["steps"])
        if (state, record["step"]) != (("done", before.step) if last else ("running", before.step + 1)):
            yield f"plan: {state} at step {record['step']} after step {before.step}"

    def stuck(self, at: int, t: int) -> Iterator[str]:
        """What should have moved by now: at ``at`` all has been well for seconds."""
        progress, part = self.progress, self.spec["plan"]
        if part is None or self._by_hand(t - _SECOND):
            return
        if progress is None or progress.key != self._key():
            if not any(since > at - _SECOND for since, _, _ in self.changes):
                yield "plan: it does not begin"
            return
        if progress.state != "running" or progress.tied:
            return
        seen = [one for one in self.counted if one.at < at - _SECOND]
        if (
            len(seen) >= part["checks"]["decisions"]
            and t - progress.t > duration(part["steps"][progress.step]["hold"]) + _SECOND
        ):
            yield f"plan: it stands at step {progress.step}, after {len(seen)} decisions"

    def _by_hand(self, t: int) -> bool:
        lever = self.lever
        return (
            lever is not None
            and self._stands(lever)
            and not (lever.get("expires") is not None and t >= lever["expires"])
        )

    def _key(self) -> str:
        versions = [_version(self.spec, name) for name in ("stable", "canary") if self._has(name)]
        return json.dumps([self.spec["plan"], versions], sort_keys=True)

    def _canary(self) -> str | None:
        return _version(self.spec, "canary") if self._has("canary") else None

    def _has(self, name: str) -> bool:
        return any(track["name"] == name for track in self.spec["tracks"])

    # Promotion

    def promoted(self, at: int, done: int) -> Iterator[str]:
        """Somebody was told that so many steps of a promotion are done, the last of them that the old version is ready as a standby."""
        if done < 2:
            return
        standing = [(force, spec) for since, force, spec in self.changes if since <= at][-1:]
        for force, spec in standing:
            standbys = {track["version"] for track in spec["tracks"] if track["name"] == "standby"}
            if force.canary != 10_000 or force.version is not None:
                yield f"promotion: said to have all weight, and it has {force.canary} slots"
            if _version(spec, "stable") not in standbys:
                yield "promotion: a step further, and the way back is not loaded"


def _version(spec: Json, name: str) -> str:
    return str(next(track["version"] for track in spec["tracks"] if track["name"] == name))


def _objections(checks: Json, evidence: Json) -> bool | None:
    """Whether a check fails; None where it lies so near that rounding decides."""
    for name in ("errors", "degraded"):
        if checks[name] is not None and evidence[name] > float(checks[name][:-1]) / 100 * evidence["decisions"]:
            return True
    least, mean = checks["confidence"], evidence["confidence"]
    if least is None or not mean:
        return False
    return None if abs(mean - least) < 1e-5 else mean < least


def owned(owners: Sequence[tuple[int, str | None]], received: int) -> list[str | None]:
    """Who may have held a position when a snapshot was received."""
    places = [index for index, (at, _) in enumerate(owners) if at < received - 1_000]
    return [owner for _, owner in owners[places[-1] :]]
