"""What a SignalRoute's status is to say, given what the router knows. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from signalyard.words import Track
from signalyard_router.adapters.kube.routes import NAME_TAKEN, Judgement
from signalyard_router.adapters.kube.told import (
    ACCEPTED,
    HALTED,
    OVERRIDDEN,
    TRACKS_READY,
    VERSION_DRIFT,
    Condition,
    ConditionType,
    Told,
    ToldPlan,
    ToldTrack,
    Truth,
)
from signalyard_router.router import TrackStatus
from signalyard_router.rules.levers import Lever
from signalyard_router.rules.plan import Progress
from signalyard_router.rules.route import Route

_MOST = 1_000
"""Characters of a message; what a status says is read by people, in a terminal."""


class TrackSight(msgspec.Struct, frozen=True):
    """One version, as the router sees it, and what the cluster says of its Service: ``coming`` pods that are not ready, why some of
    them fail to be, and why nothing can stand behind it at all."""

    status: TrackStatus
    coming: int = 0
    failures: tuple[str, ...] = ()
    objections: tuple[str, ...] = ()

    @property
    def ready(self) -> int:
        """How many of its pods answer."""
        return sum(endpoint.ready for endpoint in self.status.endpoints)

    @property
    def mixed(self) -> bool:
        """Whether its pods serve different things."""
        return len({(e.version, e.digest) for e in self.status.endpoints if e.ready and e.version is not None}) > 1

    @property
    def rolling(self) -> bool:
        """Whether pods are on their way: that is what a Deployment looks like that rolls, to somebody who may not read it."""
        return self.mixed or self.coming > 0

    def __str__(self) -> str:
        return f"{self.status.track} {self.status.version}"


class Sight(msgspec.Struct, frozen=True):
    """A route in force, as its status is judged by. ``levers`` are all that hold anywhere."""

    route: Route
    tracks: Sequence[TrackSight]
    levers: Sequence[Lever] = ()
    progress: Progress | None = None
    assignment: Mapping[str, int] = {}


class _Said(msgspec.Struct, frozen=True):
    status: Truth
    reason: str
    message: str


def told(
    judgement: Judgement, sight: Sight | None, before: Sequence[Condition], now: str, problem: str = ""
) -> Told | None:
    """The status of an object whose newest spec was judged so, where ``sight`` is in force; None while that is still to be seen.

    ``before`` are the conditions so far, ``now`` is the time of those that change, ``problem`` why documents are not in force.
    """
    if judgement.reason == NAME_TAKEN:
        sight = None  # what is in force under this name is another object's
    accepted = _accepted(judgement, sight, problem)
    if accepted is None:
        return None
    said: dict[ConditionType, _Said] = {
        ACCEPTED: accepted,
        TRACKS_READY: _tracks_ready(sight),
        VERSION_DRIFT: _version_drift(sight),
        OVERRIDDEN: _overridden(sight),
        HALTED: _halted(sight),
    }
    past = {condition.type: condition for condition in before}
    conditions = tuple(
        Condition(
            type=kind,
            status=one.status,
            reason=one.reason,
            message=one.message[:_MOST],
            last_transition_time=past[kind].last_transition_time
            if kind in past and past[kind].status == one.status
            else now,
            observed_generation=judgement.generation,
        )
        for kind, one in said.items()
    )
    if sight is None:
        return Told(observed_generation=judgement.generation, conditions=conditions)
    route, progress = sight.route, sight.progress
    return Told(
        observed_generation=judgement.generation,
        conditions=conditions,
        revision=route.revision,
        generation=route.generation,
        mode="paper" if route.gate.paper else "live",
        weights=_weights(route),
        tracks=tuple(_track(track) for track in sight.tracks),
        assignment=dict(sorted(sight.assignment.items())),
        plan=None
        if progress is None or route.plan is None
        else ToldPlan(
            step=progress.step + 1, state=progress.state, canary=progress.canary / 100, why=progress.why[:_MOST]
        ),
        levers=tuple(lever.id for lever in sight.levers if _holds(lever, route)) or None,
    )


def _accepted(judgement: Judgement, sight: Sight | None, problem: str) -> _Said | None:
    in_force = f"revision {sight.route.revision} stays in force" if sight is not None else "nothing of it is in force"
    if judgement.document is None:
        return _Said("False", judgement.reason, f"{judgement.message}; {in_force}")
    if sight is not None and sight.route.revision == judgement.revision:
        return _Said("True", "InForce", f"revision {judgement.revision} is in force")
    if not problem:
        return None  # it was read a moment ago
    return _Said("False", "NotTaken", f"the spec is good and could not be taken into force: {problem}; {in_force}")


def _tracks_ready(sight: Sight | None) -> _Said:
    if sight is None:
        return _Said("Unknown", "NotInForce", "no spec of this route is in force")
    live = [track for track in sight.tracks if track.status.track is not Track.SHADOW]
    missing = [track for track in live if not track.ready]
    if not missing:
        counts = ", ".join(f"{track}: {track.ready} of {len(track.status.endpoints)}" for track in live)
        others = "".join(f"; {track}: not ready: {', '.join(track.failures)}" for track in live if track.failures)
        return _Said("True", "Ready", f"pods that answer: {counts}{others}")
    reason = "NotAnswering" if any(track.status.endpoints for track in missing) else "NoEndpoints"
    return _Said("False", reason, "; ".join(f"{track}: {_why_not(track)}" for track in missing))


def _why_not(track: TrackSight) -> str:
    if track.objections:
        return ", ".join(track.objections)
    coming = _coming(track)
    if not track.status.endpoints:
        return f"no pod is ready{coming}"
    problems = sorted({endpoint.problem for endpoint in track.status.endpoints if endpoint.problem is not None})
    return f"none of {len(track.status.endpoints)} answers ({', '.join(problems) or 'not asked yet'}){coming}"


def _coming(track: TrackSight) -> str:
    if track.failures:
        return f"; {track.coming} not ready: {', '.join(track.failures)}"
    return f"; {track.coming} not ready yet, kubectl describe them to see why" if track.coming else ""


def _version_drift(sight: Sight | None) -> _Said:
    live = [track for track in sight.tracks if track.status.track is not Track.SHADOW] if sight is not None else []
    if not any(track.status.serving for track in live):
        return _Said("Unknown", "NotAnswering", "no pod has said yet what it serves")
    drifting = [track for track in live if track.status.drift]
    if drifting:
        text = "; ".join(f"{track}: its pods serve {track.status.serving}" for track in drifting)
        failures = [f"{track}: {', '.join(track.failures)}" for track in drifting if track.failures]
        if failures:
            return _Said("True", "Failing", f"{text}; others fail: {'; '.join(failures)}")
        if all(track.rolling for track in drifting):
            return _Said("True", "Progressing", f"{text}, others are on their way")
        return _Said("True", "Drift", f"{text}; roll them to the pinned version, or pin what they serve")
    mixed = [track for track in live if track.mixed]
    if mixed:
        text = "; ".join(f"{track}: pods of several versions or digests, one is asked" for track in mixed)
        return _Said("False", "Progressing", text)
    return _Said("False", "AsPinned", "every track that answers serves its pinned version")


def _overridden(sight: Sight | None) -> _Said:
    levers = [
        lever
        for lever in (sight.levers if sight is not None else ())
        if sight is not None and lever.action != "halt" and _holds(lever, sight.route)
    ]
    if not levers:
        return _Said("False", "AsDocumented", "no lever moves it")
    return _Said("True", levers[-1].action.title(), "; ".join(map(_lever, levers)))


def _halted(sight: Sight | None) -> _Said:
    levers = [
        lever
        for lever in (sight.levers if sight is not None else ())
        if sight is not None and lever.action == "halt" and _holds(lever, sight.route)
    ]
    if not levers:
        return _Said("False", "NotHalted", "no halt holds")
    return _Said("True", "Halted", "; ".join(map(_lever, levers)))


def _holds(lever: Lever, route: Route) -> bool:
    if lever.action in ("weight", "rollback"):
        return lever.id == route.override
    return lever.route in (None, route.name)


def _lever(lever: Lever) -> str:
    where = f" of {lever.symbol}" if lever.symbol else "" if lever.route else " of everything"
    what = {"weight": f" to canary {lever.canary or 0:g}%", "rollback": f" to version {lever.version}"}
    return f"{lever.id}: {lever.action}{what.get(lever.action, '')}{where} by {lever.by}: {lever.why}"


def _weights(route: Route) -> str:
    if route.rolled_back is not None:
        return f"standby {route.rolled_back.target.version} 100"
    return ", ".join(f"{track} {slots / 100:g}" for track, slots in sorted(route.weights.items(), reverse=True))


def _track(track: TrackSight) -> ToldTrack:
    status = track.status
    decides = status.track in (Track.STABLE, Track.CANARY)
    return ToldTrack(
        name=status.track,
        version=status.version,
        serving=status.serving,
        digest=status.digest,
        weight=status.weight if decides else None,
        mirror=status.mirror,
        endpoints=len(status.endpoints),
        ready=track.ready,
    )
