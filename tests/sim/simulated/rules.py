"""The rules of a decision, written a second time from their description in docs/architecture.md.

It folds a journal record by record and says what each should have said. It shares no code with the router.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from simulated.control import Control, owned
from simulated.history import Json
from simulated.models import confidence_of, digest_of, score_of
from simulated.plan import BUNDLES, HOMES, VERSIONS, Plan
from simulated.reading import Line
from simulated.units import duration, rate

_MINUTE = 60_000_000_000
_TRACKS = {"stable": "stable", "canary": "canary", "standby": "standby", "spare": "standby"}
_UNMAPPED = ("no_answer", "row_error", "version_drift")
"""Abstentions that no mapping made."""
_PLACELESS = ("past_commit_by", "superseded", "out_of_order")


@dataclass
class Signal:
    """The last signal of an instrument on a route."""

    direction: str
    position: float | None
    id: str
    t: int
    seq: int


@dataclass
class Book:
    """One instrument on one route. ``held`` lists what the mapping's memory was, ``owners`` who held the position since when, ``words``
    what the model said when: a direction, None, or "nobody" where there was no answer."""

    newest: tuple[int, int] | None = None
    held: list[str | None] = field(default_factory=lambda: [None])
    owners: list[tuple[int, str | None]] = field(default_factory=lambda: [(-(1 << 62), None)])
    last: Signal | None = None
    side: str | None = None
    flips: list[int] = field(default_factory=list)
    latched: bool = False
    words: list[tuple[int, str | None]] = field(default_factory=list)


@dataclass
class GroupBook:
    """One group: its newest document, and what was counted for it. ``sides`` and ``flips`` are each instrument's."""

    spec: Json | None = None
    signals: list[int] = field(default_factory=list)
    throttled: bool = False
    sides: dict[str, str] = field(default_factory=dict)
    flips: dict[str, list[int]] = field(default_factory=dict)
    latched: set[str] = field(default_factory=set)


@dataclass
class RouteBook:
    """One route."""

    spec: Json
    revision: str
    generation: int
    control: Control
    signals: list[int] = field(default_factory=list)
    flats: list[int] = field(default_factory=list)


class Rules:
    """Goes through a journal. `wrong` yields what it finds wrong, and every finding begins with its kind."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.routes: dict[str, RouteBook] = {}
        self.groups: dict[str, GroupBook] = {}
        self.books: dict[tuple[str, str], Book] = {}
        self.proposals: dict[str, list[Line]] = {}
        self.emitted: dict[tuple[str, str], list[Line]] = {}
        self.stops: list[Json] = []
        self.pulled: list[str] = []
        self.served: list[tuple[int, int, str, Json]] = []
        self._throttled: set[str] = set()
        self._keys: dict[object, str] = {}
        self._answers: dict[tuple[str, str], list[tuple[int, int]]] = {}
        self._epoch = 0
        self._t = 0
        kinds = {fault.kind for fault in plan.faults}
        self._vague = bool(kinds.intersection(("clock", "disk")))
        self._prompt = 2_000_000_000 if "disk" in kinds else 50_000_000

    def wrong(self, lines: list[Line]) -> Iterator[str]:
        """Every way in which a record is not what it should be."""
        for line in lines:
            record = line.record
            if record["t"] < self._t:
                yield f"clock: {line.place}: the journal's time steps back"
            self._t = record["t"]
            match record["kind"]:
                case "start":
                    if self._epoch not in (0, record["epoch"]):
                        yield f"epoch: {line.place}: another one in the same journal"
                    self._epoch = record["epoch"]
                case "route":
                    yield from self._route(line)
                case "group":
                    document = record["document"]
                    self.groups.setdefault(record["name"], GroupBook()).spec = document and document["spec"]
                case "lever":
                    self._lever(record, self._ready(line))
                case "plan":
                    control = self.routes[record["route"]].control
                    complete = self.plan.keep_bytes is None
                    at = self._ready(line)
                    for text in control.step(record, at, complete=complete, prompt=self._prompt):
                        yield f"{text} ({line.place}, {record['route']})"
                case "decision":
                    for text in self._decision(line):
                        yield f"{text} ({line.place}, {record['symbol']} {record.get('route')})"

    def _route(self, line: Line) -> Iterator[str]:
        record = line.record
        book = self.routes.get(record["name"])
        if book is not None and record["generation"] <= book.generation:
            yield f"generation: {line.place}: not newer than {book.generation}"
        spec = record["document"]["spec"]
        control = Control(spec) if book is None else book.control
        made = RouteBook(spec, record["revision"], record["generation"], control)
        control.document(spec, self._ready(line))
        if book is not None:
            made.signals, made.flats = book.signals, book.flats
        self.routes[record["name"]] = made

    def _ready(self, line: Line) -> int:
        """When a record became safe, and so had its effect."""
        return (line.written if self.plan.durability == "os" else line.synced or line.written).at

    def _lever(self, record: Json, at: int) -> None:
        self.pulled.append(record["id"])
        route = record.get("route")
        for name, book in self.routes.items():
            if route is None or name == route:
                book.control.pull(record, at)
        group = self._group(record["route"]) if record["action"] == "reset" else None
        if group is not None and record["latch"] == "throttle":
            group.throttled = False
        elif group is not None:
            group.latched.discard(record["symbol"])
            group.flips.pop(record["symbol"], None)
        if record["action"] == "reset" and record["latch"] == "throttle":
            self._throttled.discard(record["route"])
        elif record["action"] == "reset":
            latched = self.books.get((record["route"], record["symbol"]))
            if latched is not None:
                latched.latched, latched.flips = False, []
        if record["action"] in ("resume", "end"):
            self.stops = [stop for stop in self.stops if stop["id"] != record["lever"]]
        elif record["action"] in ("halt", "pause"):
            self.stops.append(record)

    def _decision(self, line: Line) -> Iterator[str]:
        record = line.record
        if record["outcome"] == "rejected":
            if "problem" not in record or "signal_id" in record:
                yield "rejection: without a problem, or with a signal"
            self.proposals.setdefault(record["proposal_id"], []).append(line)
            return
        yield from self._identity(line)
        route = self.routes.get(record["route"])
        if route is None:
            yield "route: a decision on a route that the journal does not know"
            return
        book = self.books.setdefault((record["route"], record["symbol"]), Book())
        received = line.written.at - record.get("elapsed_us", 0) * 1000
        self.served.append((received, line.written.at, record["route"], route.spec))
        if record.get("generation") == route.generation:
            yield from self._assigned(record, book, route, received)
        route.control.decided(record, self._ready(line))
        yield from self._answer(record, route)
        if record.get("reduce_only") or "score" not in record:
            wanted = "flat" if record.get("reduce_only") else None
        else:
            if record.get("held") != book.held[-1]:
                yield f"hysteresis: held was {record.get('held')}, the mapping said {book.held[-1]} last"
            wanted = _mapped(record["score"], record.get("held"), route.spec["mapping"])
        if record.get("direction") != wanted:
            yield f"mapping: {record.get('direction')} where the score means {wanted}"
        if wanted is not None:
            yield from self._size(record, wanted, route.spec)
        if record.get("reduce_only") and record["outcome"] == "emitted":
            yield from self._outage(line, route.spec, received)
        elif "score" in record:
            answers = self._answers.setdefault((record["route"], record["assigned"]), [])
            answers.append((received, line.written.at))
        expected = self._settle(record, book, route)
        found = (record["outcome"], record.get("reason"), record.get("duplicate_of"))
        if record.get("group"):
            found = (*found[:1], f"{record['reason']} {record['group']} {record.get('against', '')}", found[2])
        if found not in expected:
            yield f"gate: {_shown(found)}, not {' or '.join(map(_shown, expected))}"
        yield from self._apply(line, book, route)

    def _identity(self, line: Line) -> Iterator[str]:
        record = line.record
        pid = record["proposal_id"]
        content = record["input"]
        named = tuple(sorted(zip(content["columns"], content["values"], strict=True)))
        key = (record.get("route"), record["symbol"], record["ts_event"], record.get("sequence", 0))
        key += (record.get("consumer", ""), named)
        told = repr(key)
        if self._keys.setdefault(key, pid) != pid or self._keys.setdefault(pid, told) != told:
            yield "identity: one proposal under two ids, or two under one"
        known = self.proposals.setdefault(pid, [])
        before = [other.record for other in known if other.record["outcome"] != "rejected"]
        if before and self.plan.remember > 1000:
            yield "repetition: the same proposal was settled twice"
        if record["outcome"] == "emitted" and any(other["outcome"] == "emitted" for other in before):
            yield "repetition: the same proposal became two signals"
        known.append(line)

    def _answer(self, record: Json, route: RouteBook) -> Iterator[str]:
        """The score is this row's, of the version that is named, and it is marked where it did not come from its track."""
        if "score" not in record:
            if record["outcome"] == "emitted" and not record.get("reduce_only"):
                yield "degraded: a signal without an answer that does not merely reduce"
            return
        row = dict(zip(record["input"]["columns"], record["input"]["values"], strict=True))
        mark = next((mark for mark in BUNDLES if digest_of(mark) == record.get("digest")), None)
        if (
            mark is None
            or BUNDLES[mark] != record.get("version")
            or record["score"] != score_of(row["p"], row["tag"], mark)
        ):
            yield f"score: {record['score']!r} is not what {record.get('version')} {record.get('digest')} says of this row"
            return
        home = HOMES[mark]
        sure = confidence_of(record["score"]) if self.plan.calibrated[home] else None
        if record.get("confidence") != sure:
            yield f"score: the confidence is {record.get('confidence')}, the model said {sure}"
        track = _TRACKS.get(home)
        if record.get("track") != track:
            yield f"mark: answered by {home}, and the track is said to be {record.get('track')}"
        if record.get("failover", False) is not (VERSIONS[home] != record["assigned"]):
            yield f"mark: answered by {home}, assigned was {record['assigned']}, and failover is wrong"
        if record.get("degraded", False) is not (track is None):
            yield f"mark: answered by {home}, and degraded is wrong"
        if record.get("drift", False) is not (record["version"] != VERSIONS[home]):
            yield f"mark: {record['version']} answered for {VERSIONS[home]}, and drift is wrong"
        if record.get("drift") and record.get("generation") == route.generation and route.spec["onDrift"] != "serve":
            yield f"drift: {record['version']} answered, and onDrift is {route.spec['onDrift']}"

    def _assigned(self, record: Json, book: Book, route: RouteBook, received: int) -> Iterator[str]:
        """What is in force assigns; but who holds an open position keeps it, unless it changes hands now."""
        spec = route.spec
        versions = {track["version"] for track in spec["tracks"]}
        possible: set[str] = set()
        elapsed = record.get("elapsed_us", 0) * 1000
        for force in route.control.forces(received, record["t"] - elapsed, vague=self._vague):
            owners = [None] if force.now else owned(book.owners, received)
            for owner in owners:
                possible.add(
                    owner if owner in versions and owner is not None else force.assigned(spec, record["symbol"])
                )
        if record["assigned"] not in possible:
            yield f"handover: version {record['assigned']} was to decide, not {sorted(possible)}"

    def _size(self, record: Json, direction: str, spec: Json) -> Iterator[str]:
        part = spec["mapping"]["position"]
        sure = record.get("confidence")
        wanted = None
        if part is not None:
            if direction == "flat":
                wanted = 0.0
            elif sure is not None:
                wanted = {"long": 1, "short": -1}[direction] * part["max"] * max(0.0, 2 * sure - 1)
        if record.get("position") != wanted:
            yield f"position: {record.get('position')}, not {wanted}"
        if record.get("objection") != _objection(record, direction, spec["filters"]):
            yield f"filters: objection {record.get('objection')}, not {_objection(record, direction, spec['filters'])}"

    def _outage(self, line: Line, spec: Json, received: int) -> Iterator[str]:
        """A flat by rule comes only after a time in which the track gave no answer."""
        after = max(duration(rung["flat"]["after"]) for rung in spec["ladder"] if rung.get("flat"))
        for asked, settled in self._answers.get((line.record["route"], line.record["assigned"]), ()):
            if asked > line.written.at - after and settled < received:
                yield f"degraded: flat, and {(line.written.at - asked) / 1e6:.1f} ms ago the track was asked and answered"
                return

    def _settle(self, record: Json, book: Book, route: RouteBook) -> list[tuple[str, str | None, str | None]]:
        """What the gate may say: mostly one thing; two where a microsecond decides."""
        spec, t = route.spec, record["t"]
        expected: list[tuple[str, str | None, str | None]] = []
        budget = record.get("budget_us", 0) * 1000
        limit = budget - min(1_000_000, budget // 10)
        elapsed = record.get("elapsed_us", 0) * 1000
        if elapsed + 1_000 > limit:
            expected.append(("suppressed", "past_commit_by", None))
            if elapsed > limit + 1_000:
                return expected
        if record.get("generation", 0) < route.generation:
            return [*expected, ("suppressed", "superseded", None)]
        if record.get("revision") != route.revision:
            return [("route", "of another revision", None)]
        if book.newest is not None and (record["ts_event"], record.get("sequence", 0)) < book.newest:
            return [*expected, ("suppressed", "out_of_order", None)]
        return [*expected, self._direction(record, book, route, spec, t)]

    def _direction(
        self, record: Json, book: Book, route: RouteBook, spec: Json, t: int
    ) -> tuple[str, str | None, str | None]:
        direction = record.get("direction")
        if direction is None:
            if "score" not in record and record.get("reason") == "version_drift" and spec["onDrift"] == "refuse":
                return ("abstained", "version_drift", None)
            return ("abstained", "no_direction" if "score" in record else "no_answer", None)
        last = book.last
        position = record.get("position")
        smaller = last is not None and last.direction == direction and None not in (position, last.position)
        smaller = smaller and abs(position or 0.0) < abs(last.position or 0.0) if last else False
        exempt = (direction == "flat" or smaller) and not spec["filters"]["filterExits"]
        for stop in self.stops:
            if stop.get("expires") is not None and t >= stop["expires"]:
                continue
            if (
                stop.get("route", record["route"]) == record["route"]
                and stop.get("symbol", record["symbol"]) == record["symbol"]
            ):
                if stop["action"] == "halt":
                    return ("suppressed", "halted", None)
                if not (direction == "flat" or smaller):
                    return ("suppressed", "paused", None)
        if record.get("reduce_only"):
            if last is None or last.direction == "flat":
                return ("abstained", "no_answer", None)
            ceiling = sum(rung["flat"]["instrumentsPerMinute"] for rung in spec["ladder"] if rung.get("flat"))
            if sum(1 for at in route.flats if at > t - _MINUTE) >= ceiling:
                return ("suppressed", "flat_ceiling", None)
        if record.get("objection") is not None and not exempt:
            return ("suppressed", record["objection"], None)
        group = self._group(record["route"])
        window = spec if group is None or group.spec is None else group.spec
        if last is not None and last.direction == direction and t < last.t + duration(window["dedupe"]["window"]):
            return ("suppressed", "duplicate" if group is None else "duplicate both ", last.id)
        if group is not None:
            refused = self._others(group, record, last, smaller=smaller)
            if refused is not None:
                return refused
        flips = rate(spec["limits"]["flips"])
        if flips is not None and direction != "flat" and book.side not in (None, direction):
            many = sum(1 for at in book.flips if at > t - flips[1]) >= flips[0]
            if many or book.latched:
                return ("suppressed", "flip_latched", None)
        signals = rate(spec["limits"]["signals"])
        if signals is not None and not exempt:
            many = sum(1 for at in route.signals if at > t - signals[1]) >= signals[0]
            if many or record["route"] in self._throttled:
                return ("suppressed", "rate_limited", None)
        if group is not None and group.spec is not None:
            flips, signals = rate(group.spec["limits"]["flips"]), rate(group.spec["limits"]["signals"])
            symbol = record["symbol"]
            if flips is not None and direction != "flat" and group.sides.get(symbol, direction) != direction:
                many = sum(1 for at in group.flips.get(symbol, ()) if at > t - flips[1]) >= flips[0]
                if many or symbol in group.latched:
                    return ("suppressed", "flip_latched both ", None)
            if signals is not None and not exempt:
                many = sum(1 for at in group.signals if at > t - signals[1]) >= signals[0]
                if many or group.throttled:
                    return ("suppressed", "rate_limited both ", None)
        return ("emitted", None, None)

    def _group(self, route: str) -> GroupBook | None:
        """The group that a route is in now."""
        for group in self.groups.values():
            if group.spec is not None and route in group.spec["routes"] and route in self.routes:
                return group
        return None

    def _others(
        self, group: GroupBook, record: Json, last: Signal | None, *, smaller: bool
    ) -> tuple[str, str | None, str | None] | None:
        """What the other routes of the group have against a signal."""
        assert group.spec is not None
        t, direction, order = record["t"], record["direction"], group.spec["routes"]
        carried = last is not None and last.direction != "flat"
        if carried and (direction == "flat" or smaller):
            return None  # what is open may be closed
        turns = carried and last is not None and last.direction != direction
        books = [(name, self.books.get((name, record["symbol"]))) for name in order if name != record["route"]]
        others = [(name, book) for name, book in books if book is not None and name in self.routes]
        said = [book.last for _, book in others if book.last is not None and book.last.direction == direction]
        said = [signal for signal in said if t < signal.t + duration(group.spec["dedupe"]["window"])]
        if said and not turns:
            return ("suppressed", "duplicate both ", max(said, key=lambda signal: signal.t).id)
        for name, book in others:
            if group.spec["conflict"] == "priority":
                above = order.index(name) < order.index(record["route"])
                against = above and book.last is not None and book.last.direction not in ("flat", direction)
            elif group.spec["conflict"] == "agree" and direction != "flat":
                fresh = t - duration(group.spec["freshness"])
                heard = [word for at, word in book.words if at > fresh]
                word = heard[-1] if heard else None
                against = word in ("long", "short") and word != direction if turns else word not in (None, direction)
            else:
                against = False
            if against:
                return ("suppressed", f"conflict both {name}", None)
        return None

    def _apply(self, line: Line, book: Book, route: RouteBook) -> Iterator[str]:
        record, t = line.record, line.record["t"]
        reason = record.get("reason")
        if reason in _PLACELESS:
            return
        ready = line.written if self.plan.durability == "os" else line.synced
        if ready is None:
            yield "durability: settled, and never on the medium"
            ready = line.written
        book.newest = (record["ts_event"], record.get("sequence", 0))
        if reason not in _UNMAPPED and not record.get("reduce_only"):
            book.held.append(record.get("direction"))
        answered = reason not in _UNMAPPED and not record.get("reduce_only")
        book.words.append((t, record.get("direction") if answered else "nobody"))
        group = self._group(record["route"])
        if record.get("group") and group is not None:
            group.throttled |= reason == "rate_limited"
            group.latched |= {record["symbol"]} if reason == "flip_latched" else set()
        elif reason == "flip_latched":
            book.latched = True
        elif reason == "rate_limited":
            self._throttled.add(record["route"])
        if record["outcome"] != "emitted":
            return
        seq = book.last.seq if book.last else 0
        if (record["signal_seq"], record.get("prev_seq", 0)) != (seq + 1, seq):
            yield f"sequence: {record['signal_seq']} after {record.get('prev_seq', 0)}, where {seq} was the last"
        if record["epoch"] != self._epoch:
            yield f"epoch: {record['epoch']} in a journal of {self._epoch}"
        if record["ts_expire"] != t + duration(route.spec["validFor"]):
            yield "expiry: not validFor after the journal's time"
        direction = record["direction"]
        holder = book.owners[-1][1]
        if record.get("handover", False) is not (holder is not None and holder != record["assigned"]):
            yield f"mark: the position was held by {holder}, {record['assigned']} decides, and handover is wrong"
        book.owners.append((ready.at, None if direction == "flat" else record["assigned"]))
        if direction != "flat":
            if book.side not in (None, direction):
                book.flips.append(t)
            book.side = direction
        if group is not None:
            group.signals.append(t)
            if direction != "flat" and group.sides.get(record["symbol"], direction) != direction:
                group.flips.setdefault(record["symbol"], []).append(t)
            if direction != "flat":
                group.sides[record["symbol"]] = direction
        book.last = Signal(direction, record.get("position"), record["signal_id"], t, record["signal_seq"])
        route.signals.append(t)
        if record.get("reduce_only"):
            route.flats.append(t)
        self.emitted.setdefault((record["route"], record["symbol"]), []).append(line)


def _mapped(score: float, held: str | None, mapping: Json) -> str | None:
    long, short = mapping["long"], mapping["short"]
    if long is not None:
        stays = long["enter"] if long["exit"] is None else long["exit"]
        if held == "long" and score >= stays:
            return "long"
    if short is not None:
        stays = short["enter"] if short["exit"] is None else short["exit"]
        if held == "short" and score <= stays:
            return "short"
    if long is not None and score >= long["enter"]:
        return "long"
    if short is not None and score <= short["enter"]:
        return "short"
    return "flat" if mapping["otherwise"] == "flat" else None


def _objection(record: Json, direction: str, filters: Json) -> str | None:
    if record.get("reduce_only"):
        return None
    if direction not in filters["directions"]:
        return "direction_filtered"
    least, sure = filters["minConfidence"], record.get("confidence")
    if least is None:
        return None
    if sure is None:
        return "no_confidence"
    return "low_confidence" if sure < least else None


def _shown(settled: tuple[str, str | None, str | None]) -> str:
    return " ".join(str(part) for part in settled if part is not None)
