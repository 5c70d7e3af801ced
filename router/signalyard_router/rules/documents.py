"""Documents as people write them: routes and groups. What they mean together is `route.compile_route`'s to say, and
`groups.compile_group`'s.

The names on the wire are camelCase, as Kubernetes writes them; unknown fields are refused.
"""

import hashlib
import math
import re
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from signalyard.problems import Problem, error, escape_pointer
from signalyard.words import Direction, Track
from signalyard_router.rules.sessions import HoursText, Weekday
from signalyard_router.rules.units import DURATION_PATTERN, Duration, DurationOrOff, IncreaseOrOff, RateText

API_VERSION = "signalyard.io/v1alpha1"

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$", description="a DNS label")]
NamespaceName = Annotated[
    str, msgspec.Meta(pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$", description="a namespace's name")
]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
HedgeText = Annotated[str, msgspec.Meta(pattern=rf"^p95$|{DURATION_PATTERN}", description="p95, or such as 10ms")]
Unit = Annotated[float, msgspec.Meta(ge=0, le=1)]
NonEmpty = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
UnitOrOff = Unit | Literal["off"]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    pass


class Endpoint(_Part, frozen=True):
    """Where a track's model server listens: a host or service name, and a port. ``protocol`` is what it speaks there, rest where
    nothing is said."""

    service: NonEmpty
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    # left out where it is not given: the revisions of documents without it stay what they are
    protocol: Literal["rest", "grpc"] | UnsetType = UNSET


Endpoints = Annotated[tuple[Endpoint, ...], msgspec.Meta(min_length=1, max_length=256)]


class TrackPart(_Part, frozen=True):
    """One version of the model and its role.

    ``weight`` is the percentage of instruments that the track decides for; ``mirror`` is a shadow's alone: the percentage of
    snapshots of which it gets a copy. Exactly one of ``endpoint`` and ``endpoints`` is given.
    """

    name: Track
    version: NonEmpty
    endpoint: Endpoint | None = None
    endpoints: Endpoints | None = None
    weight: Percent = 0.0
    mirror: Percent | None = None


class ModelRung(_Part, frozen=True):
    """A rule-based strategy that is served as a model of its own. Its endpoints are given as a track's are."""

    name: NonEmpty
    version: NonEmpty
    endpoint: Endpoint | None = None
    endpoints: Endpoints | None = None


class FlatRung(_Part, frozen=True):
    """Close what is open, after ``after`` of continuous outage, at most ``instruments_per_minute`` of them a minute."""

    after: Duration
    instruments_per_minute: Annotated[int, msgspec.Meta(ge=1)] = 10


class Skip(_Part, frozen=True):
    """Give no signal."""


class Rung(_Part, frozen=True):
    """What to try next when there is no answer; exactly one of the fields is set."""

    standby: NonEmpty | None = None
    model: ModelRung | None = None
    flat: FlatRung | None = None
    skip: Skip | None = None


class Threshold(_Part, frozen=True):
    """Where a direction begins (``enter``) and where a held one ends (``exit``, by default the same place)."""

    enter: float
    exit: float | None = None


class PositionPart(_Part, frozen=True):
    """``linear``: the position is ``max`` times twice the confidence less one, with the direction's sign."""

    scale: Literal["linear"] = "linear"
    max: Annotated[float, msgspec.Meta(gt=0)] = 1.0


class MappingPart(_Part, frozen=True):
    """From score to direction."""

    long: Threshold | None = None
    short: Threshold | None = None
    otherwise: Literal["abstain", "flat"] = "abstain"
    position: PositionPart | None = None


class FilterPart(_Part, frozen=True):
    """What may pass. Signals that reduce a position pass in any case, unless ``filter_exits``."""

    directions: Annotated[tuple[Direction, ...], msgspec.Meta(max_length=3)] = (
        Direction.LONG,
        Direction.SHORT,
        Direction.FLAT,
    )
    min_confidence: Unit | None = None
    filter_exits: bool = False


class DedupePart(_Part, frozen=True):
    """How long an emitted signal keeps the same direction of the same instrument from leaving again."""

    window: Duration = "5s"


class LimitPart(_Part, frozen=True):
    """Ceilings on emitted signals: ``signals`` of the whole route, ``flips`` between long and short of one instrument."""

    signals: RateText | None = None
    flips: RateText | None = None


class BudgetPart(_Part, frozen=True):
    """How the deadline is shared: what is kept back for the commit, and each calling rung's share of the rest."""

    commit_reserve: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.2
    commit_reserve_max: Duration = "20ms"
    rung_share: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.6


Ratio = Annotated[str, msgspec.Meta(pattern=r"^\d{1,3}(\.\d{1,4})?%$", description="such as 5%, 0.5%")]


class PlanStep(_Part, frozen=True):
    """The canary's weight, a percentage, and how long it is held at least; the last step's need not be given."""

    canary: Percent
    hold: Duration = "0s"


class PlanChecks(_Part, frozen=True):
    """What must be true of the canary's decisions since the step began, before the next one is taken.

    ``decisions``: as many must have been made; before that nothing is judged. ``errors``: share that another rung had to answer;
    ``degraded``: share that no version answered; ``latency``: the 99th percentile; ``confidence``: the mean, before the filters;
    ``disagreement``: share of a shadow of the same version.
    """

    decisions: Annotated[int, msgspec.Meta(ge=1)] = 100
    errors: Ratio | None = "1%"
    degraded: Ratio | None = "1%"
    latency: Duration | None = None
    confidence: Unit | None = None
    disagreement: Ratio | None = None


class PlanPart(_Part, frozen=True):
    """How the canary's weight grows by itself, and what makes it step back."""

    steps: Annotated[tuple[PlanStep, ...], msgspec.Meta(min_length=1, max_length=64)]
    checks: PlanChecks = PlanChecks()


class HedgePart(_Part, frozen=True):
    """Ask a second endpoint where the first has not answered after a fixed time, or after the time that 95 in 100 calls take."""

    after: HedgeText


class SessionPart(_Part, frozen=True):
    """When the market is open; `rules.sessions` says what night hours and holidays mean. ``eve`` is when night hours open:
    on the trading day before theirs, or on the calendar day before."""

    timezone: NonEmpty
    hours: Annotated[tuple[HoursText, ...], msgspec.Meta(min_length=1, max_length=24)]
    days: Annotated[tuple[Weekday, ...], msgspec.Meta(min_length=1, max_length=7)] = ("mon", "tue", "wed", "thu", "fri")
    holidays: Annotated[tuple[date, ...], msgspec.Meta(max_length=1000)] = ()
    eve: Literal["tradingDay", "calendarDay"] = "tradingDay"


class AlertPart(_Part, frozen=True):
    """When the router itself says that something is wrong with a route.

    ``window`` is what confidence, degraded and late are taken over, and ``at_least`` how many there must be in it.
    """

    no_signal: DurationOrOff = "10m"
    min_confidence: UnitOrOff = 0.5
    surge: IncreaseOrOff = "300%"
    surge_floor: Annotated[int, msgspec.Meta(ge=1)] = 10
    surge_part: Duration = "15m"
    degraded: UnitOrOff = 0.05
    late: UnitOrOff = 0.01
    window: Duration = "10m"
    at_least: Annotated[int, msgspec.Meta(ge=1)] = 20
    drift: Literal["on", "off"] = "on"


class ThresholdPart(_Part, frozen=True):
    """When a comparison passes: at most, or for ``coverage`` at least, so much; ``minimum`` pairs, or there is no verdict."""

    disagreement: Unit = 0.05
    coverage: Unit = 0.9
    score_difference: Annotated[float, msgspec.Meta(ge=0)] | None = None
    confidence_difference: Unit | None = None
    minimum: Annotated[int, msgspec.Meta(ge=1)] = 1000


class ShadowPart(_Part, frozen=True):
    """What mirrored calls may take of the router, for each shadow, and how their answers are judged.

    ``deadline`` counts from the live decision; ``queue`` bounds the rows that wait or are under way, ``concurrency`` the calls.
    """

    deadline: Duration = "200ms"
    queue: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    thresholds: ThresholdPart = ThresholdPart()
    journal: bool = False


class RouteSpec(_Part, frozen=True):
    """How the snapshots of a set of instruments go to the tracks of one model, and all the rules on the way."""

    model: NonEmpty
    instruments: Annotated[tuple[NonEmpty, ...], msgspec.Meta(min_length=1, max_length=1024)]
    tracks: Annotated[tuple[TrackPart, ...], msgspec.Meta(min_length=1, max_length=32)]
    mapping: MappingPart
    mode: Literal["live", "paper"] = "live"
    deadline: Duration = "100ms"
    max_age: Duration = "2s"
    max_skew: Duration = "250ms"
    valid_for: Duration = "5s"
    pin: Annotated[dict[str, Track], msgspec.Meta(max_length=1024)] = {}
    handover: Literal["whenFlat", "now"] = "whenFlat"
    ladder: Annotated[tuple[Rung, ...], msgspec.Meta(max_length=32)] | None = None
    filters: FilterPart = FilterPart()
    dedupe: DedupePart = DedupePart()
    limits: LimitPart = LimitPart()
    budget: BudgetPart = BudgetPart()
    plan: PlanPart | None = None
    on_drift: Literal["serve", "standby", "refuse"] = "serve"
    hedge: HedgePart | None = None
    sessions: SessionPart | None = None
    alerts: AlertPart = AlertPart()
    shadow: ShadowPart = ShadowPart()


class Metadata(_Part, frozen=True, omit_defaults=True):
    """What a document is called, and the namespace that a custom resource lives in. What else Kubernetes keeps of an object (labels,
    annotations) says nothing to a router.
    """

    name: Name
    namespace: NamespaceName = ""


class RouteDocument(_Part, frozen=True):
    """A SignalRoute."""

    api_version: Literal["signalyard.io/v1alpha1"]
    kind: Literal["SignalRoute"]
    metadata: Metadata
    spec: RouteSpec


class GroupSpec(_Part, frozen=True):
    """Routes on the same instruments whose signals must not repeat or contradict each other.

    ``routes`` names them in order of priority. ``dedupe`` takes the place of their own windows, ``limits`` counts beside their own. ``freshness``
    is for how long a direction binds the others under ``agree``.
    """

    routes: Annotated[tuple[Name, ...], msgspec.Meta(min_length=2, max_length=32)]
    conflict: Literal["priority", "agree", "independent"] = "priority"
    freshness: Duration = "5s"
    dedupe: DedupePart = DedupePart()
    limits: LimitPart = LimitPart()


class GroupDocument(_Part, frozen=True):
    """A SignalGroup."""

    api_version: Literal["signalyard.io/v1alpha1"]
    kind: Literal["SignalGroup"]
    metadata: Metadata
    spec: GroupSpec


Document = RouteDocument | GroupDocument
_Document = TypeVar("_Document", RouteDocument, GroupDocument)

_LABELS = ("labels", "annotations")
_encoder = msgspec.json.Encoder(order="sorted")


def canonical(document: Document) -> bytes:
    """The document with every default written out, in one order: equal documents give equal bytes."""
    return _encoder.encode(document)


def revision(document: Document) -> str:
    """The name of what the document says, the same for a file and a custom resource of any namespace: 16 hexadecimal digits of the
    canonical form's sha256.
    """
    bare = msgspec.structs.replace(document, metadata=Metadata(name=document.metadata.name))
    return hashlib.sha256(canonical(bare)).hexdigest()[:16]


def in_namespace(document: _Document, namespace: str) -> _Document:
    """The document as one of this namespace; "" for one that lives in none, as in a folder."""
    if document.metadata.namespace == namespace:
        return document
    return msgspec.structs.replace(document, metadata=Metadata(name=document.metadata.name, namespace=namespace))


def parse_document(data: Any, place: str) -> RouteDocument:
    """A route's document from plain builtins (as YAML and JSON decode to).

    ``place`` names where it came from. Raises CallerError (invalid_document) that names the field.
    """
    return _parse(_off_in_words(data), place, RouteDocument)


def parse_group(data: Any, place: str) -> GroupDocument:
    """A group's document; see `parse_document`."""
    return _parse(data, place, GroupDocument)


def parse_any(data: Any, place: str) -> Document:
    """A document of either kind; see `parse_document`."""
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind not in ("SignalRoute", "SignalGroup") and isinstance(kind, str):
        raise error(Problem.INVALID_DOCUMENT, f"{place}: must be SignalRoute or SignalGroup, not {kind!r}", "/kind")
    return parse_group(data, place) if kind == "SignalGroup" else parse_document(data, place)


def _parse(data: Any, place: str, kind: type[_Document]) -> _Document:
    try:
        document = msgspec.convert(_bare(data), kind, strict=True)
    except msgspec.ValidationError as exc:
        text, pointer = explain_validation(exc)
        raise error(Problem.INVALID_DOCUMENT, f"{place}: {text}", pointer) from exc
    except (UnicodeEncodeError, OverflowError) as exc:
        raise error(Problem.INVALID_DOCUMENT, f"{place}: a value cannot be written as JSON: {exc}") from exc
    # Of the document, not of the data: an alias in YAML can make a few lines as wide as one likes.
    for value, pointer in _leaves(msgspec.to_builtins(document), ""):
        if isinstance(value, str) and not value.isprintable():
            raise error(
                Problem.INVALID_DOCUMENT, f"{place}: {value!r} holds characters that cannot be printed", pointer
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise error(Problem.INVALID_DOCUMENT, f"{place}: must be a finite number, not {value}", pointer)
    return document


def _leaves(tree: Any, pointer: str) -> Iterator[tuple[Any, str]]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield name, pointer
            yield from _leaves(value, f"{pointer}/{escape_pointer(name)}")
    elif isinstance(tree, (list, tuple)):
        for index, value in enumerate(tree):
            yield from _leaves(value, f"{pointer}/{index}")
    else:
        yield tree, pointer


def _bare(data: Any) -> Any:
    """Without the labels and annotations that a document carries for Kubernetes' sake."""
    metadata = data.get("metadata") if isinstance(data, dict) else None
    if not isinstance(metadata, dict) or metadata.keys().isdisjoint(_LABELS):
        return data
    return {**data, "metadata": {name: value for name, value in metadata.items() if name not in _LABELS}}


def _off_in_words(data: Any) -> Any:
    """YAML reads an unquoted ``off`` as false; where a field may be ``off``, that is what it says, and so with ``on``."""
    spec = data.get("spec") if isinstance(data, dict) else None
    alerts = spec.get("alerts") if isinstance(spec, dict) else None
    if not isinstance(alerts, dict):
        return data
    words = {False: "off", True: "on"}
    said = {name: words[value] if isinstance(value, bool) else value for name, value in alerts.items()}
    return {**data, "spec": {**spec, "alerts": said}}  # type: ignore[dict-item]  # it is a dict, or there were no alerts


_PATH = re.compile(r"^(?P<text>.*?)(?: - at (?P<key>`key` in )?`(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[(\d+|\.\.\.)\]")
_KNOWN_PATTERNS = {
    r"^p95$": "write p95, or a duration such as 10ms",
    r"|^off)$": "write a duration such as 10m, or off",
    r"%|off": "write an increase such as 300%, or off",
    r"2[0-4]):": "write hours such as 09:00-10:15, 21:00-02:30 or 00:00-24:00",
    r"[0-9]{1,9}": "write a duration such as 100ms, 2.5s or 10m",
    r"/(s|min|h)": "write a rate such as 60/min, 10/s or 500/h",
    r"%$": "write a share such as 5% or 0.5%",
    r"^([a-z0-9]([": "write a namespace's name: lower-case letters, digits and '-', at most 63",
    r"[a-z0-9]([": "write lower-case letters, digits, '-' and '.', at most 63",
}


def explain_validation(exc: msgspec.ValidationError) -> tuple[str, str]:
    """msgspec's message as a text and a JSON pointer."""
    match = _PATH.match(str(exc))
    text, path = (match["text"], match["path"] or "$") if match else (str(exc), "$")
    if match and match["key"]:
        text = "a field's name is a string; YAML reads on, off, yes and no as true and false unless they are quoted"
    for part, advice in _KNOWN_PATTERNS.items():
        if part in text:
            text = advice
            break
    pointer = "".join("/" + escape_pointer(step[1] or step[2]) for step in _STEP.finditer(path))
    return text, pointer
