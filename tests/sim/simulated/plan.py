"""What a seed decides. A plan is data: it can be printed, made smaller and played again."""

import random
from dataclasses import dataclass
from typing import Any

from signalyard_router.testing.model_server import Behaviour

MODELS = ("stable", "stable-2", "canary", "standby", "spare", "rules")
"""The nodes of the model servers. The first two are endpoints of one track."""

VERSIONS = {"stable": "7", "stable-2": "7", "canary": "8", "standby": "6", "spare": "5", "rules": "1"}
MARKS = {"stable": 1, "stable-2": 1, "canary": 2, "standby": 3, "spare": 4, "rules": 5}
"""Each bundle's mark, in its digest and its scores; these are the ones that the nodes serve when nothing is wrong."""
REBUILT, OLDER = 6, 7
"""What pods of stable may serve while they roll: the same version rebuilt, so under another digest; and an older version."""
BUNDLES = {1: "7", 2: "8", 3: "6", 4: "5", 5: "1", REBUILT: "7", OLDER: "4"}
"""The version that each mark is a bundle of."""
HOMES = {1: "stable", 2: "canary", 3: "standby", 4: "spare", 5: "rules", REBUILT: "stable", OLDER: "stable"}
"""Whose bundles they are."""

FINAL = 90_000
"""Tags from here on belong to the snapshots that are sent when everything is mended."""

BEHAVIOURS = tuple(behaviour.value for behaviour in Behaviour if behaviour not in (Behaviour.GOOD, Behaviour.BAD_INPUT))


@dataclass(frozen=True)
class Snap:
    """One snapshot; ``p`` is its score in thousandths, ``tag`` its number, ``age`` milliseconds. Equal tags are the same one."""

    tag: int
    symbol: str
    p: int
    age: int = 0
    sequence: int = 0
    consumer: str = ""
    route: str | None = None
    flaw: str = ""


@dataclass(frozen=True)
class Send:
    """One request. Times are milliseconds; ``budget`` is what the header says, None for none; ``tries`` with the retries."""

    at: float
    client: int
    snaps: tuple[Snap, ...]
    form: str = "list"
    budget: float | None = None
    patience: int = 300
    tries: int = 1


@dataclass(frozen=True)
class Fault:
    """Something goes wrong at ``at``, and is mended after ``span`` milliseconds. What ``amount`` means depends on the kind."""

    at: float
    kind: str
    span: float = 0
    target: str = ""
    amount: float = 0
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A world."""

    seed: int
    http: bool
    durability: str
    shared_clock: bool
    calibrated: dict[str, bool]
    stages: tuple[tuple[dict[str, Any], ...], ...]
    groups: tuple[tuple[dict[str, Any], ...], ...]
    split: float
    slow: float
    reset: float
    vanish: float
    sync_ms: float
    late_ms: float
    segment_bytes: int
    remember: int
    keep_bytes: int | None
    archive: bool
    refresh: float
    sends: tuple[Send, ...]
    final: tuple[Send, ...]
    faults: tuple[Fault, ...]
    ends: float


def plan_of(seed: int) -> Plan:
    """The plan of a seed."""
    return _Planner(seed).plan()


class _Planner:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(f"plan {seed}")
        self.tags = 0
        self.routes: list[dict[str, Any]] = []

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def plan(self) -> Plan:
        rng = self.rng
        http = self.seed % 2 == 0
        fsync = self.chance(0.5)
        calm = self.chance(0.12)
        routes = [self.route("one", ["a*.X"] if self.chance(0.6) else ["*.X"])]
        if self.chance(0.4):
            routes.append(self.route("two", ["*.X"]))
        self.routes = routes
        later = tuple(self.changed(route) for route in routes)
        symbols = ["a1.X", "a2.X", "b1.X", "a3.X"][: rng.choice((1, 2, 2, 3, 4))]
        lasts = rng.choice((1_500, 2_500, 4_000, 6_000))
        small = rng.choice((0, 0, 0, 4_000, 12_000))
        archive = bool(small) and self.chance(0.5)
        faults = () if calm else self.faults(lasts, fsync=fsync, archive=archive)
        faults = self.leap(faults, routes, lasts) if faults else faults
        storms = [fault.at + rng.uniform(-15, 5) for fault in faults] + [rng.uniform(0, lasts) for _ in range(2)]
        sends = self.sends(symbols, [route["metadata"]["name"] for route in routes], lasts, storms)
        final = tuple(self.final(symbols, lasts))
        return Plan(
            seed=self.seed,
            http=http,
            durability="fsync" if fsync else "os",
            shared_clock=self.chance(0.7),
            calibrated={name: self.chance(0.85) for name in MODELS if name != "stable-2"},
            stages=(tuple(routes), later),
            groups=self.groups(),
            split=0 if calm else rng.choice((0, 0.1, 0.5)),
            slow=0 if calm else rng.choice((0, 0, 0.02, 0.1)),
            reset=0 if calm else rng.choice((0, 0, 0.002, 0.01)),
            vanish=0 if calm else rng.choice((0, 0, 0.002, 0.01)),
            sync_ms=rng.choice((0.1, 0.3, 2.0)),
            late_ms=rng.choice((0.4, 3.0, 30.0, 200.0)),
            segment_bytes=small or 1 << 28,
            remember=rng.choice((65_536, 65_536, 65_536, 3)),
            keep_bytes=rng.choice((None, 0, 3 * small)) if small else None,
            archive=archive,
            refresh=1.0 if any(fault.kind == "roll" for fault in faults) else 10.0,
            sends=sends,
            final=final,
            faults=faults,
            ends=lasts,
        )

    # Routes

    def route(self, name: str, instruments: list[str]) -> dict[str, Any]:
        rng = self.rng
        weight = rng.choice((0, 0, 10, 50))
        tracks: list[dict[str, Any]] = [self.track("stable", "stable", 100 - weight)]
        if self.chance(0.35):
            del tracks[0]["endpoint"]
            tracks[0]["endpoints"] = [{"service": node, "port": 80} for node in ("stable", "stable-2")]
        if weight or self.chance(0.4):
            tracks.append(self.track("canary", "canary", weight))
        standbys = rng.choice(((), ("standby",), ("standby",), ("standby", "spare")))
        tracks += [self.track("standby", node) for node in standbys]
        mapping: dict[str, Any] = {"otherwise": rng.choice(("abstain", "flat"))}
        mapping["long"] = {"enter": 0.6, "exit": 0.52} if self.chance(0.7) else {"enter": 0.6}
        if self.chance(0.9):
            mapping["short"] = {"enter": 0.4, "exit": 0.48} if self.chance(0.7) else {"enter": 0.4}
        if self.chance(0.6):
            mapping["position"] = {"max": rng.choice((1.0, 0.5))}
        filters: dict[str, Any] = {}
        if self.chance(0.4):
            filters["minConfidence"] = rng.choice((0.55, 0.7))
        if self.chance(0.2):
            filters["directions"] = list(rng.choice((("long", "flat"), ("long", "short"), ("short",))))
        if self.chance(0.2):
            filters["filterExits"] = True
        limits: dict[str, Any] = {}
        if self.chance(0.3):
            limits["signals"] = rng.choice(("2/s", "5/s", "6/min"))
        if self.chance(0.3):
            limits["flips"] = rng.choice(("1/s", "2/s", "3/min"))
        spec: dict[str, Any] = {
            "model": f"m-{name}",
            "instruments": instruments,
            "tracks": tracks,
            "mapping": mapping,
            "filters": filters,
            "limits": limits,
            "dedupe": {"window": rng.choice(("100ms", "500ms", "2s", "5s"))},
            "deadline": rng.choice(("20ms", "50ms", "100ms", "100ms", "200ms")),
            "validFor": rng.choice(("1s", "5s")),
        }
        if self.chance(0.5):
            spec["onDrift"] = rng.choice(("standby", "refuse"))
        if len(tracks) > 1 and tracks[1]["name"] == "canary" and self.chance(0.4):
            spec["plan"] = self.delivery()
        ladder = self.ladder(standbys)
        if ladder is not None:
            spec["ladder"] = ladder
        if weight and self.chance(0.2):
            spec["pin"] = {"a1.X": rng.choice(("stable", "canary"))}
        return {
            "apiVersion": "signalyard.io/v1alpha1",
            "kind": "SignalRoute",
            "metadata": {"name": name},
            "spec": spec,
        }

    def delivery(self) -> dict[str, Any]:
        """A plan for the canary, short enough to come to its end within a world."""
        rng = self.rng
        weights = sorted(rng.sample((5, 20, 40, 60, 80, 100), rng.choice((1, 2, 3))))
        bounds = {name: rng.choice((None, "1%", "30%", "100%")) for name in ("errors", "degraded")}
        checks: dict[str, Any] = {"decisions": rng.choice((1, 3, 6, 12)), **bounds}
        if self.chance(0.2):
            checks["confidence"] = 0.7
        return {
            "steps": [{"canary": canary, "hold": rng.choice(("0s", "200ms", "700ms"))} for canary in weights],
            "checks": checks,
        }

    def track(self, name: str, node: str, weight: float | None = None) -> dict[str, Any]:
        part = {"name": name, "version": VERSIONS[node], "endpoint": {"service": node, "port": 80}}
        return part if weight is None else part | {"weight": weight}

    def ladder(self, standbys: tuple[str, ...]) -> list[dict[str, Any]] | None:
        if self.chance(0.3):
            return None
        rungs: list[dict[str, Any]] = [{"standby": VERSIONS[node]} for node in standbys if self.chance(0.8)]
        if self.chance(0.25):
            rungs.append({"model": {"name": "rules", "version": "1", "endpoint": {"service": "rules", "port": 80}}})
        if self.chance(0.35):
            after = self.rng.choice(("50ms", "300ms", "1s"))
            rungs.append({"flat": {"after": after, "instrumentsPerMinute": self.rng.choice((1, 2, 10))}})
        if self.chance(0.7):
            rungs.append({"skip": {}})
        return rungs

    def changed(self, route: dict[str, Any]) -> dict[str, Any]:
        spec = dict(route["spec"])
        if self.chance(0.5):
            spec["dedupe"] = {"window": self.rng.choice(("200ms", "1s"))}
        if self.chance(0.3):
            spec["limits"] = {}
        canary = [track for track in spec["tracks"] if track["name"] == "canary"]
        if canary and self.chance(0.4):
            weight = self.rng.choice((0, 30, 100))
            weights = {"canary": weight, "stable": 100 - weight}
            spec["tracks"] = [
                track | {"weight": weights[track["name"]]} if track["name"] in weights else track
                for track in spec["tracks"]
            ]
            spec["handover"] = self.rng.choice(("now", "whenFlat"))
        if "plan" in spec and self.chance(0.3):
            spec["plan"] = self.delivery()
        if canary and self.chance(0.5):
            # as a promotion asks for: the way back is loaded before stable rolls
            spec.setdefault(
                "ladder",
                [
                    *({"standby": track["version"]} for track in spec["tracks"] if track["name"] == "standby"),
                    {"skip": {}},
                ],
            )
            spec["tracks"] = [*spec["tracks"], self.track("standby", "stable")]
        return route | {"spec": spec}

    def groups(self) -> tuple[tuple[dict[str, Any], ...], ...]:
        """The groups of each stage: of two routes some have one, and it changes with the documents, or comes or goes."""
        rng = random.Random(f"groups {self.seed}")
        if len(self.routes) < 2 or rng.random() < 0.4:
            return (), ()
        first, then = self.group(rng), self.group(rng)
        return rng.choice(
            (((first,), (first,)), ((first,), (then,)), ((first,), (then,)), ((first,), ()), ((), (then,)))
        )

    def group(self, rng: random.Random) -> dict[str, Any]:
        limits: dict[str, Any] = {}
        if rng.random() < 0.3:
            limits["signals"] = rng.choice(("3/s", "6/s", "8/min"))
        if rng.random() < 0.3:
            limits["flips"] = rng.choice(("1/s", "2/s", "3/min"))
        spec = {
            "routes": rng.choice((["one", "two"], ["two", "one"], ["later", "two", "one"])),
            "conflict": rng.choice(("priority", "priority", "agree", "agree", "independent")),
            "freshness": rng.choice(("50ms", "500ms", "2s")),
            "dedupe": {"window": rng.choice(("100ms", "500ms", "2s"))},
            "limits": limits,
        }
        return {
            "apiVersion": "signalyard.io/v1alpha1",
            "kind": "SignalGroup",
            "metadata": {"name": "both"},
            "spec": spec,
        }

    # What clients send

    def sends(self, symbols: list[str], routes: list[str], lasts: int, storms: list[float]) -> tuple[Send, ...]:
        rng = self.rng
        sends: list[Send] = []
        places = dict.fromkeys(symbols, 500)
        count = rng.choice((20, 35, 50, 80))
        for _ in range(count):
            at = (
                rng.uniform(0, lasts)
                if self.chance(0.6)
                else min(lasts, max(0.0, rng.choice(storms) + rng.uniform(0, 20)))
            )
            rows = 1 if self.chance(0.7) else rng.randint(2, 4)
            snaps = tuple(self.snap(rng.choice(symbols), routes, places) for _ in range(rows))
            form = "one" if rows == 1 and self.chance(0.6) else "list"
            if form == "list" and self.chance(0.3) and not any(snap.flaw for snap in snaps):
                # columns share route and consumer
                first = snaps[0]
                snaps = tuple(_with(snap, route=first.route, consumer=first.consumer) for snap in snaps)
                form = "columns"
            budget = rng.choice((1.0, 8, 30, 1000)) if self.chance(0.15) else None
            patience = rng.choice((15, 60, 300, 300, 300, 1_000))
            send = Send(at, rng.randrange(3), snaps, form, budget, patience, rng.choice((1, 1, 2, 3)))
            sends.append(send)
            if self.chance(0.15):
                again = at + rng.choice((0, 0.05, rng.uniform(0, 200), rng.uniform(0, 1_500)))
                sends.append(Send(again, rng.randrange(3), snaps, "list", None, patience, 1))
        return tuple(sorted(sends, key=lambda send: send.at))

    def snap(self, symbol: str, routes: list[str], places: dict[str, int]) -> Snap:
        rng = self.rng
        if self.chance(0.45):
            places[symbol] = rng.choice(
                (50, 150, 300, 390, 410, 450, 470, 490, 500, 510, 530, 550, 590, 610, 700, 850, 950)
            )
        p = min(998, max(1, places[symbol] + rng.randint(-3, 3)))
        age = rng.choice((0, 0, 0, 0, 5, 50, 300))
        flaw = ""
        if self.chance(0.06):
            flaw = rng.choice(
                ("missing", "range", "unknown", "symbol", "no_route", "unknown_route", "old", "future", "form")
            )
        self.tags += 1
        return Snap(
            tag=self.tags,
            symbol=symbol,
            p=p,
            age={"old": 60_000, "future": -60_000}.get(flaw, age),
            sequence=rng.choice((0, 0, 0, 1, 2)),
            consumer=rng.choice(("", "", "", "risk")),
            route=rng.choice(routes) if self.chance(0.2) else None,
            flaw=flaw,
        )

    def final(self, symbols: list[str], lasts: float) -> list[Send]:
        sends = []
        for index, symbol in enumerate(symbols):
            for turn, p in enumerate((900, 100)):
                tag = FINAL + 2 * index + turn
                at = lasts + 10 * index + 500 * turn
                sends.append(Send(at, 0, (Snap(tag, symbol, p),), "one", None, 1_000, 1))
        return sends

    # What goes wrong

    def faults(self, lasts: float, *, fsync: bool, archive: bool) -> tuple[Fault, ...]:
        rng = self.rng
        makers = [self.behaviour, self.behaviour, self.script, self.model_frozen, self.model_down, self.weather]
        makers += [self.router_frozen, self.clock, self.crash, self.deploy, self.disk, self.reload, self.roll]
        makers += [self.lever] * 4 + [self.roll]
        if archive:
            makers += [self.archive] * 4 + [self.crash]
        if fsync:
            makers += [self.power, self.disk]
        faults: list[Fault] = []
        for _ in range(rng.choice((0, 1, 2, 3, 5))):
            # troubles come in company
            at = faults[-1].at + rng.uniform(0, 150) if faults and self.chance(0.5) else rng.uniform(0, lasts)
            faults.append(rng.choice(makers)(at))
            if faults[-1].kind == "lever" and faults[-1].words[0] in ("weight", "promote") and self.chance(0.4):
                faults.append(self.reload(at + rng.choice((1, 100, 700))))
            elif faults[-1].kind == "lever" and self.chance(0.3):
                # between the pull and what it binds
                kill = rng.choice((self.crash, self.power if fsync else self.crash))
                faults.append(kill(at + rng.choice((0.01, 0.2, 1, 5, 40))))
        return tuple(sorted(faults, key=lambda fault: fault.at))

    def leap(self, faults: tuple[Fault, ...], routes: list[dict[str, Any]], lasts: float) -> tuple[Fault, ...]:
        """Where a route closes positions in an outage: sometimes all servers are away for a moment, in which the clock leaps."""
        rng = random.Random(f"leap {self.seed}")
        closes = any("flat" in rung for route in routes for rung in route["spec"].get("ladder", ()))
        if not closes or rng.random() > 0.2:
            return faults
        at = rng.uniform(0.3, 0.9) * lasts
        more = [Fault(at, "model_down", 90, node) for node in MODELS]
        return tuple(sorted((*faults, *more, Fault(at + 30, "clock", amount=5_000)), key=lambda fault: fault.at))

    def span(self) -> float:
        return self.rng.choice((10, 60, 300, 1_200))

    def model(self) -> str:
        return self.rng.choice(("stable", "stable", "canary", "standby", "spare", "rules"))

    def behaviour(self, at: float) -> Fault:
        return Fault(at, "behaviour", self.span(), self.model(), words=(self.rng.choice(BEHAVIOURS),))

    def script(self, at: float) -> Fault:
        words = tuple(self.rng.choice(("good", *BEHAVIOURS)) for _ in range(self.rng.randint(1, 8)))
        return Fault(at, "script", 0, self.model(), words=words)

    def model_frozen(self, at: float) -> Fault:
        return Fault(at, "model_frozen", self.span(), self.model())

    def model_down(self, at: float) -> Fault:
        return Fault(at, "model_down", self.span(), self.model())

    def weather(self, at: float) -> Fault:
        what = self.rng.choice(("split", "slow", "reset", "vanish"))
        target = self.rng.choice(("router", "router", *MODELS))
        return Fault(at, "weather", self.span(), target, self.rng.choice((0.1, 0.5, 1.0)), (what,))

    def router_frozen(self, at: float) -> Fault:
        return Fault(at, "router_frozen", self.rng.choice((3, 30, 300)))

    def clock(self, at: float) -> Fault:
        return Fault(at, "clock", 0, amount=self.rng.choice((-5_000, -300, -20, 20, 300, 5_000)))

    def crash(self, at: float) -> Fault:
        return Fault(at, "crash", self.rng.choice((1, 50, 400)))

    def power(self, at: float) -> Fault:
        return Fault(at, "power", self.rng.choice((50, 400)))

    def deploy(self, at: float) -> Fault:
        return Fault(at, "deploy", self.rng.choice((1, 50)))

    def reload(self, at: float) -> Fault:
        return Fault(at, "reload")

    def lever(self, at: float) -> Fault:
        """``words`` are the action, its instrument, route, and version or latch, and how it ends: by hand, by itself or not."""
        rng, span = self.rng, self.rng.choice((20, 300, 1_500))
        route = rng.choice(self.routes)
        name, tracks = route["metadata"]["name"], route["spec"]["tracks"]
        actions = ["halt", "pause", "pause", "rollback"]
        if any(track["name"] == "canary" for track in tracks):
            actions += ["weight", "weight", "weight", "promote"]
        if "plan" in route["spec"]:
            actions += ["weight", "replan"]
        if route["spec"]["limits"]:
            actions += ["reset", "reset"]
        action, symbol, what = rng.choice(actions), "", ""
        ends = rng.choice(("hand", "hand", "itself", "never"))
        if action in ("halt", "pause"):
            symbol, name = rng.choice((("", ""), ("a1.X", ""), ("", name), ("a1.X", name)))
            ends = "hand" if action == "halt" or ends == "never" else ends
        elif action == "rollback":
            what = rng.choice([track["version"] for track in tracks])
        elif action == "reset":
            what = rng.choice(("throttle", "flips"))
            symbol = rng.choice(("a1.X", "a2.X")) if what == "flips" else ""
        return Fault(at, "lever", span, amount=rng.choice((0, 30, 70, 100)), words=(action, symbol, name, what, ends))

    def roll(self, at: float) -> Fault:
        """Pods of stable come to serve another bundle, one ``span`` after the other, and after it back; ``words``: by a restart or not."""
        mark = self.rng.choice((REBUILT, OLDER))
        nodes = self.rng.choice((("stable", "stable-2"), ("stable-2", "stable"), ("stable",)))
        words = (self.rng.choice(("restart", "in_place")), *nodes)
        return Fault(at, "roll", self.rng.choice((100, 600, 1_500)), amount=mark, words=words)

    def archive(self, at: float) -> Fault:
        return Fault(
            at, "archive", self.rng.choice((60, 300, 1_200)), words=(self.rng.choice(("fail", "hang", "garble")),)
        )

    def disk(self, at: float) -> Fault:
        what = self.rng.choice(("full", "read_only", "fail_sync", "slow_sync", "slow_sync", "fail_truncate"))
        return Fault(at, "disk", self.span(), amount=self.rng.choice((0, 100, 1_500)), words=(what,))


def _with(snap: Snap, **more: Any) -> Snap:
    return Snap(**(snap.__dict__ | more))
