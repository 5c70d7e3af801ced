"""A route, ready to be used: a document checked as a whole and turned into numbers."""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from signalyard.problems import Problem, SignalyardError, error
from signalyard.words import Direction, Track
from signalyard_router.rules.calendar import sessions_of
from signalyard_router.rules.documents import (
    HedgePart,
    MappingPart,
    PlanPart,
    RouteDocument,
    Rung,
    ShadowPart,
    Threshold,
    TrackPart,
    revision,
)
from signalyard_router.rules.documents import ModelRung as ModelPart
from signalyard_router.rules.patterns import matcher
from signalyard_router.rules.plan import Plan, compile_plan
from signalyard_router.rules.sessions import Sessions
from signalyard_router.rules.split import SLOTS
from signalyard_router.rules.thresholds import AlertRules, alert_rules
from signalyard_router.rules.units import MAX_FLIPS_COUNT, MAX_RATE_COUNT, Rate, nanoseconds, rate


class Endpoint(msgspec.Struct, frozen=True):
    """Where a model server listens; ``grpc``: for that protocol, and not for REST."""

    host: str
    port: int
    grpc: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Hedge(msgspec.Struct, frozen=True):
    """Ask a second endpoint after ``after`` nanoseconds without an answer; None stands for the observed 95th percentile."""

    after: int | None


class Target(msgspec.Struct, frozen=True, cache_hash=True):
    """One version of a model and the endpoints that are to serve it: what a scoring call is addressed to."""

    model: str
    version: str
    endpoints: tuple[Endpoint, ...]
    hedge: Hedge | None = None

    def __str__(self) -> str:
        return f"{self.model}:{self.version} at {', '.join(map(str, self.endpoints))}"


Refuse = Callable[[str, str], SignalyardError]
OnDrift = Literal["serve", "standby", "refuse"]
"""What to do where no endpoint of a track has its version: take the answers of the one that they have, marked; pass the track over; or
ask nobody."""


class TrackRung(msgspec.Struct, frozen=True):
    """A call to one of the model's tracks; the first is the track that the split assigns."""

    track: Track
    target: Target


class ModelRung(msgspec.Struct, frozen=True):
    """A call to a strategy that is served as a model of its own."""

    target: Target


class FlatRung(msgspec.Struct, frozen=True):
    """Close what is open once the outage has lasted ``after`` nanoseconds."""

    after: int
    instruments_per_minute: int


LadderRung = TrackRung | ModelRung | FlatRung


class ShadowRung(msgspec.Struct, frozen=True):
    """A version that gets copies of ``mirror`` of 10,000 snapshots."""

    track: Track
    target: Target
    mirror: int


class Thresholds(msgspec.Struct, frozen=True):
    """When a comparison passes; None where nothing is asked."""

    disagreement: float = 0.05
    coverage: float = 0.9
    score_difference: float | None = None
    confidence_difference: float | None = None
    minimum: int = 1000


class ShadowRules(msgspec.Struct, frozen=True):
    """What mirrored calls may take, for each shadow. ``deadline`` is nanoseconds, ``queue`` rows, ``concurrency`` calls."""

    deadline: int
    queue: int
    concurrency: int
    thresholds: Thresholds
    journal: bool


class Mapping(msgspec.Struct, frozen=True):
    """The thresholds; an absent direction has an ``enter`` that no score reaches."""

    long_enter: float
    long_exit: float
    short_enter: float
    short_exit: float
    flat_between: bool
    position_max: float | None


class Filters(msgspec.Struct, frozen=True):
    """What may pass; that exits are exempt is a rule of the gate."""

    directions: frozenset[Direction]
    min_confidence: float | None


class GateRules(msgspec.Struct, frozen=True):
    """What settling a proposal needs of a route. Durations are nanoseconds. ``paper``: signals are not to leave."""

    mapping: Mapping | None = None
    filters: Filters | None = None
    window: int = 0
    valid_for: int = 0
    filter_exits: bool = False
    signals: Rate | None = None
    flips: Rate | None = None
    flats_per_minute: int = 0
    paper: bool = False


class Route(msgspec.Struct, frozen=True):
    """All that one decision needs to know. Durations are nanoseconds.

    ``generation`` orders the revisions of one route: a later accepted document has a higher one.
    ``ladder`` holds the rungs after the assigned track; where it ends, the route skips. ``override`` names the lever that
    changed weights; after a rollback to a standby every instrument begins with ``rolled_back``. ``handover_now``: instruments
    move between versions at once, not when they are flat. Without ``sessions`` it is always open.
    """

    name: str
    revision: str
    generation: int
    model: str
    instruments: tuple[str, ...]
    tracks: dict[Track, TrackRung]
    weights: dict[Track, int]
    pin: dict[str, Track]
    standbys: tuple[TrackRung, ...]
    ladder: tuple[LadderRung, ...]
    deadline: int
    max_age: int
    max_skew: int
    gate: GateRules
    commit_reserve: float
    commit_reserve_max: int
    rung_share: float
    on_drift: OnDrift
    sessions: Sessions | None
    alerts: AlertRules
    shadows: tuple[ShadowRung, ...]
    shadow: ShadowRules
    plan: Plan | None = None
    handover_now: bool = False
    rolled_back: TrackRung | None = None
    override: str = ""

    def rung(self, track: Track) -> TrackRung:
        """The rung that a track's instruments begin with."""
        return self.rolled_back or self.tracks[track]

    def rung_of(self, version: str) -> TrackRung | None:
        """The rung of a version, or None where the route has it no more."""
        for rung in (*self.tracks.values(), *self.standbys):
            if rung.target.version == version:
                return rung
        return None

    def targets(self) -> Iterator[Target]:
        """Every target that the route may call, shadows included."""
        yield from self.live_targets()
        for shadow in self.shadows:
            yield shadow.target

    def live_targets(self) -> Iterator[Target]:
        """Every target whose answer may become a decision."""
        for track in self.tracks.values():
            yield track.target
        for rung in (*self.standbys, *self.ladder):
            if not isinstance(rung, FlatRung):
                yield rung.target


def compile_route(document: RouteDocument, generation: int = 0, place: str = "") -> Route:
    """Check a document as a whole.

    Raises CallerError (invalid_document) with a pointer to the field.
    """
    spec = document.spec
    where = f"{place}: " if place else ""

    def refuse(text: str, pointer: str) -> SignalyardError:
        return error(Problem.INVALID_DOCUMENT, f"{where}{text}", pointer)

    namespace = document.metadata.namespace
    hedge = _hedge(spec.hedge, refuse)
    for pattern in spec.instruments:
        matcher(pattern)  # compiled now, not when the first snapshot comes
    tracks: dict[Track, TrackRung] = {}
    weights: dict[Track, int] = {}
    standbys: dict[str, TrackRung] = {}
    shadows: dict[str, ShadowRung] = {}
    for index, part in enumerate(spec.tracks):
        pointer = f"/spec/tracks/{index}"
        # A shadow is not worth a second call.
        target = _target(spec.model, part, None if part.name is Track.SHADOW else hedge, namespace, pointer, refuse)
        if part.name is Track.SHADOW:
            if part.version in shadows:
                raise refuse(f"version {part.version!r} is a shadow already", f"{pointer}/version")
            if part.weight:
                raise refuse("a shadow takes no weight: it decides nothing; say mirror", f"{pointer}/weight")
            shadows[part.version] = _shadow(part, target, refuse, f"{pointer}/mirror")
            continue
        if part.mirror is not None:
            raise refuse(f"only a shadow is mirrored to, not {part.name}", f"{pointer}/mirror")
        rung = TrackRung(part.name, target)
        if part.name is Track.STANDBY:
            if part.version in standbys:
                raise refuse(f"version {part.version!r} is a standby already", f"{pointer}/version")
            if part.weight:
                raise refuse("a standby takes no weight: it answers only for tracks that do not", f"{pointer}/weight")
            standbys[part.version] = rung
            continue
        if part.name in tracks:
            raise refuse(f"there is a {part.name} track already", f"{pointer}/name")
        if not math.isclose(part.weight * 100, round(part.weight * 100), abs_tol=1e-6):
            raise refuse(f"a weight has at most two decimals, {part.weight} has more", f"{pointer}/weight")
        tracks[part.name] = rung
        weights[part.name] = round(part.weight * 100)
    if Track.STABLE not in tracks:
        raise refuse("there must be a track named stable", "/spec/tracks")
    if sum(weights.values()) != SLOTS:
        shown = " + ".join(f"{part.weight:g}" for part in spec.tracks if part.name in tracks)
        raise refuse(f"the weights must add up to 100, they are {shown}", "/spec/tracks")

    for instrument, track in spec.pin.items():
        if track not in tracks:
            raise refuse(f"{instrument!r} is pinned to {track}, and the route has no such track", "/spec/pin")

    for name, text in (
        ("deadline", spec.deadline),
        ("maxAge", spec.max_age),
        ("validFor", spec.valid_for),
        ("shadow/deadline", spec.shadow.deadline),
    ):
        if nanoseconds(text) <= 0:
            raise refuse("must be more than zero", f"/spec/{name}")
    if not spec.filters.directions:
        raise refuse("name at least one of long, short, flat", "/spec/filters/directions")

    live = [rung.target for rung in (*tracks.values(), *standbys.values())]
    for index, part in enumerate(spec.tracks):
        if part.name is Track.SHADOW and any(_shared(shadows[part.version].target, target) for target in live):
            text = f"version {part.version!r} decides at this endpoint: a shadow's time-outs would open its breaker"
            raise refuse(text, f"/spec/tracks/{index}")

    mapping = _mapping(spec.mapping, refuse)
    ladder = _ladder(spec.ladder, standbys, hedge, namespace, refuse)

    return Route(
        name=document.metadata.name,
        revision=revision(document),
        generation=generation,
        model=spec.model,
        instruments=spec.instruments,
        tracks=tracks,
        weights=weights,
        pin=spec.pin,
        standbys=tuple(standbys.values()),
        ladder=ladder,
        deadline=nanoseconds(spec.deadline),
        max_age=nanoseconds(spec.max_age),
        max_skew=nanoseconds(spec.max_skew),
        gate=GateRules(
            mapping=mapping,
            filters=Filters(frozenset(spec.filters.directions), spec.filters.min_confidence),
            window=nanoseconds(spec.dedupe.window),
            valid_for=nanoseconds(spec.valid_for),
            filter_exits=spec.filters.filter_exits,
            signals=limit(spec.limits.signals, MAX_RATE_COUNT, "signals", refuse),
            flips=limit(spec.limits.flips, MAX_FLIPS_COUNT, "flips", refuse),
            flats_per_minute=sum(rung.instruments_per_minute for rung in ladder if isinstance(rung, FlatRung)),
            paper=spec.mode == "paper",
        ),
        commit_reserve=spec.budget.commit_reserve,
        commit_reserve_max=nanoseconds(spec.budget.commit_reserve_max),
        rung_share=spec.budget.rung_share,
        sessions=sessions_of(spec.sessions, refuse) if spec.sessions is not None else None,
        alerts=alert_rules(spec.alerts, refuse),
        handover_now=spec.handover == "now",
        plan=_plan(spec.plan, tracks, shadows, refuse),
        on_drift=spec.on_drift,
        shadows=tuple(shadows.values()),
        shadow=_shadow_rules(spec.shadow),
    )


def _shared(one: Target, other: Target) -> bool:
    """Whether two targets have a version at an endpoint in common."""
    return one.version == other.version and not set(one.endpoints).isdisjoint(other.endpoints)


def _shadow(part: TrackPart, target: Target, refuse: Refuse, pointer: str) -> ShadowRung:
    percent = 100.0 if part.mirror is None else part.mirror
    if not math.isclose(percent * 100, round(percent * 100), abs_tol=1e-6):
        raise refuse(f"a share has at most two decimals, {percent} has more", pointer)
    return ShadowRung(Track.SHADOW, target, round(percent * 100))


def _shadow_rules(part: ShadowPart) -> ShadowRules:
    asked = part.thresholds
    return ShadowRules(
        deadline=nanoseconds(part.deadline),
        queue=part.queue,
        concurrency=part.concurrency,
        thresholds=Thresholds(
            asked.disagreement, asked.coverage, asked.score_difference, asked.confidence_difference, asked.minimum
        ),
        journal=part.journal,
    )


def limit(text: str | None, most: int, name: str, refuse: Refuse) -> Rate | None:
    """The limit of this name as a document writes it; ``most`` is what the gate can count."""
    if text is None:
        return None
    found = rate(text)
    if found.count > most:
        raise refuse(f"at most {most} can be counted, not {found.count}", f"/spec/limits/{name}")
    return found


def _target(
    model: str, part: TrackPart | ModelPart, hedge: Hedge | None, namespace: str, pointer: str, refuse: Refuse
) -> Target:
    if (part.endpoint is None) == (part.endpoints is None):
        raise refuse("give exactly one of endpoint and endpoints", pointer)
    given = (part.endpoint,) if part.endpoint is not None else part.endpoints or ()
    endpoints = tuple(
        Endpoint(_host(endpoint.service, namespace), endpoint.port, endpoint.protocol == "grpc") for endpoint in given
    )
    for index, endpoint in enumerate(endpoints):
        if endpoint in endpoints[:index]:
            raise refuse(f"{endpoint} is given twice", f"{pointer}/endpoints/{index}")
    return Target(model, part.version, endpoints, hedge)


def _host(service: str, namespace: str) -> str:
    """A Service of the document's namespace by its name in the cluster's DNS; what is no Service's name is a host already."""
    return f"{service}.{namespace}.svc" if namespace and not set(service) & {".", ":"} else service


def _hedge(part: HedgePart | None, refuse: Refuse) -> Hedge | None:
    if part is None:
        return None
    if part.after == "p95":
        return Hedge(None)
    after = nanoseconds(part.after)
    if after <= 0:
        raise refuse("must be more than zero", "/spec/hedge/after")
    return Hedge(after)


def _plan(
    part: PlanPart | None, tracks: dict[Track, TrackRung], shadows: dict[str, ShadowRung], refuse: Refuse
) -> Plan | None:
    if part is None:
        return None
    canary = tracks.get(Track.CANARY)
    if canary is None:
        raise refuse("a plan needs a canary track", "/spec/plan")
    if part.checks.disagreement is not None and canary.target.version not in shadows:
        raise refuse("needs a shadow track of the canary's version", "/spec/plan/checks/disagreement")
    try:
        return compile_plan(part, tracks[Track.STABLE].target.version, canary.target.version)
    except ValueError as exc:
        raise refuse(str(exc), "/spec/plan/steps") from exc


def _mapping(part: MappingPart, refuse: Refuse) -> Mapping:
    if part.long is None and part.short is None:
        raise refuse("give at least one of long and short", "/spec/mapping")
    for side in ("long", "short"):
        threshold: Threshold | None = getattr(part, side)
        for name in ("enter", "exit"):
            value = getattr(threshold, name, None)
            if value is not None and not math.isfinite(value):
                raise refuse(f"must be a finite number, not {value}", f"/spec/mapping/{side}/{name}")
    long_enter = part.long.enter if part.long else math.inf
    long_exit = part.long.exit if part.long and part.long.exit is not None else long_enter
    short_enter = part.short.enter if part.short else -math.inf
    short_exit = part.short.exit if part.short and part.short.exit is not None else short_enter
    if long_exit > long_enter:
        raise refuse(
            f"a held long ends at or below where it begins ({long_enter}), not at {long_exit}",
            "/spec/mapping/long/exit",
        )
    if short_exit < short_enter:
        raise refuse(
            f"a held short ends at or above where it begins ({short_enter}), not at {short_exit}",
            "/spec/mapping/short/exit",
        )
    # A score may not ask to hold one side and to enter the other.
    if long_exit <= short_enter:
        raise refuse(f"must lie above short.enter ({short_enter}), or one score means both", "/spec/mapping/long/exit")
    if short_exit >= long_enter:
        raise refuse(f"must lie below long.enter ({long_enter}), or one score means both", "/spec/mapping/short/exit")
    return Mapping(
        long_enter,
        long_exit,
        short_enter,
        short_exit,
        part.otherwise == "flat",
        part.position.max if part.position else None,
    )


def _ladder(
    parts: tuple[Rung, ...] | None,
    standbys: dict[str, TrackRung],
    hedge: Hedge | None,
    namespace: str,
    refuse: Refuse,
) -> tuple[LadderRung, ...]:
    """The rungs, ``skip`` being the end. The shipped default is each standby, then skip."""
    if parts is None:
        return tuple(standbys.values())
    rungs: list[LadderRung] = []
    ended_by: int | None = None
    for index, part in enumerate(parts):
        pointer = f"/spec/ladder/{index}"
        given = [name for name in ("standby", "model", "flat", "skip") if getattr(part, name) is not None]
        if len(given) != 1:
            raise refuse("name exactly one of standby, model, flat, skip", pointer)
        if ended_by is not None:
            raise refuse(f"this rung is never reached: rung {ended_by} (skip) always answers", pointer)
        if part.standby is not None:
            if part.standby not in standbys:
                known = ", ".join(sorted(standbys)) or "none"
                raise refuse(
                    f"no standby track has version {part.standby!r}; those that are there: {known}",
                    f"{pointer}/standby",
                )
            rungs.append(standbys[part.standby])
        elif part.model is not None:
            rungs.append(ModelRung(_target(part.model.name, part.model, hedge, namespace, f"{pointer}/model", refuse)))
        elif part.flat is not None:
            if nanoseconds(part.flat.after) <= 0:
                raise refuse("state how long the outage must have lasted, more than zero", f"{pointer}/flat/after")
            rungs.append(FlatRung(nanoseconds(part.flat.after), part.flat.instruments_per_minute))
        else:
            ended_by = index
    return tuple(rungs)
