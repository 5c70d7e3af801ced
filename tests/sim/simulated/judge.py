"""The promises, held against a history.

1  an answer within the deadline                        `_timely`
2  never two signals where the rules say one,           `rules`, `_truthful`
   no change of direction or exit swallowed
3  recorded before it is answered, and never lost       `_truthful`, `reading.lines_of`
4  a change takes effect, and no request fails          `_answered`; `_controls`
6  bad input gets a clear error and changes nothing;    `_expected`, `rules`
   degrading never opens a position

A finding begins with its kind, by which a smaller plan is known to fail in the same way.
"""

from bisect import bisect_left
from collections.abc import Iterator
from fnmatch import fnmatchcase

from simulated.history import Event, History, Json
from simulated.plan import FINAL, Plan, Snap
from simulated.reading import Call, Exchange, Line, exchanges_of, lines_of
from simulated.rolling import wrong_digests
from simulated.rules import Rules
from simulated.units import duration
from simulated.upkeep import wrong_upkeep

_SIGNAL = {"seq": "signal_seq", "signal": "direction", "ts_init": "t"}
_SAME = (
    "signal_id",
    "epoch",
    "prev_seq",
    "ts_event",
    "ts_expire",
    "route",
    "revision",
    "model",
    "version",
    "digest",
    "track",
)
_SAME += ("confidence", "position", "failover", "drift", "degraded", "reduce_only", "symbol", "score")
_CODES = {
    "missing": ("missing_feature", "/features/p"),
    "range": ("feature_out_of_range", "/features/p"),
    "unknown": ("unknown_feature", "/features/zz"),
    "symbol": ("invalid_instrument", "/symbol"),
    "no_route": ("no_route", "/symbol"),
    "unknown_route": ("unknown_route", "/route"),
    "form": ("invalid_snapshot", "/features"),
    "old": ("snapshot_too_old", "/ts_event"),
    "future": ("snapshot_from_future", "/ts_event"),
}
_ROUTELESS = ("symbol", "no_route", "unknown_route", "form")
_MAX_AGE, _MAX_SKEW = 2_000_000_000, 250_000_000
_REJECTION = 100_000_000


def judge(plan: Plan, history: History) -> list[str]:
    """What is wrong; nothing, if all promises were kept."""
    return list(_Judge(plan, history).findings())


class _Judge:
    def __init__(self, plan: Plan, history: History) -> None:
        self.plan = plan
        self.history = history
        self.rules = Rules(plan)
        self.specs = {route["metadata"]["name"]: route["spec"] for route in plan.stages[0]}
        self.matching: dict[str, list[str]] = {}
        self.deadlines = {name: duration(spec["deadline"]) for name, spec in self.specs.items()}
        self.snaps: dict[int, Snap] = {snap.tag: snap for send in (*plan.sends, *plan.final) for snap in send.snaps}
        kinds = {fault.kind for fault in plan.faults}
        self.disk_faults = "disk" in kinds
        self.clock_faults = "clock" in kinds or not plan.shared_clock
        weather = (plan.split, plan.slow, plan.reset, plan.vanish)
        self.calm = not plan.faults and not any(weather)
        self.thaws = self._freezes()
        self.draining = [event.order for event in history.events if event.kind == "draining"]

    def findings(self) -> Iterator[str]:
        for text in self.history.inside:
            yield f"inside: {text}"
        for event in self.history.events:
            if event.kind == "failed" and not (event.who == "journal_unavailable" and self.disk_faults):
                yield f"start: the router did not come up: {event.who}: {event.data.decode()}"
        exchanges, calls, wrong = exchanges_of(self.history)
        yield from (f"wire: {text}" for text in wrong)
        lines, broken = lines_of(self.history)
        yield from broken
        yield from self.rules.wrong(lines)
        for exchange in exchanges:
            if exchange.path == "/v1/predict":
                yield from self._exchange(exchange)
            elif exchange.answered is not None:
                yield from self._state(exchange)
        yield from self._controls(lines)
        yield from wrong_digests(self.plan, self.history, lines)
        yield from wrong_upkeep(self.plan, self.history)
        yield from self._calls(calls, exchanges)
        yield from self._unrecorded(exchanges)

    # Promises 1 and 4: there is an answer, and it is on time

    def _exchange(self, exchange: Exchange) -> Iterator[str]:
        deadline = self._deadline(exchange)
        who = f"asked at {exchange.asked.at / 1e6:.3f} ms"
        for text in (*self._answered(exchange, deadline), *self._told(exchange, deadline)):
            yield f"{text} ({who})"

    def _answered(self, exchange: Exchange, deadline: int) -> Iterator[str]:
        asked, answered = exchange.asked, exchange.answered
        latest = self._thawed(asked.at, asked.at + deadline)
        if answered is None:
            if exchange.ended is None:
                yield "unanswered: the question was read, and there is no answer"
            elif exchange.ended.kind == "lost":
                yield "unanswered: the router closed the connection on a question"
            elif exchange.ended.at > latest:
                yield "late: no answer by the deadline"
        elif answered.at > latest:
            yield f"late: answered {(answered.at - latest) / 1e6:.3f} ms after the deadline"

    def _deadline(self, exchange: Exchange) -> int:
        """One request has one answer, so the shortest deadline of its rows holds for all."""
        deadlines = []
        for row in exchange.rows:
            _, routes = self._way(row)
            deadlines += [self.deadlines[name] for name in routes]
        shortest = min(deadlines, default=_REJECTION)
        return shortest if exchange.budget is None else min(shortest, exchange.budget)

    def _way(self, row: Json) -> tuple[Snap | None, list[str]]:
        """The row's snapshot in the plan, and the routes that decide on it."""
        features = row.get("features")
        if not isinstance(features, dict):
            return None, []
        snap = self.snaps.get(features.get("tag", -1))
        if snap is None or snap.flaw in _ROUTELESS:
            return snap, []
        symbol = row["symbol"]
        if symbol not in self.matching:
            self.matching[symbol] = [
                name
                for name in sorted(self.specs)
                if any(fnmatchcase(symbol, pattern) for pattern in self.specs[name]["instruments"])
            ]
        matching = self.matching[symbol]
        return snap, [name for name in matching if name == row["route"]] if "route" in row else matching

    def _controls(self, lines: list[Line]) -> Iterator[str]:
        """A lever was in the record before it was confirmed; a document is in force within a second; plans move, promotions skip nothing."""
        levers = {line.record["id"]: line for line in lines if line.record["kind"] == "lever"}
        for event in self.history.events:
            if event.kind == "pulled":
                yield from self._pulled(event, levers.get(event.who))
            elif event.kind == "promoted":
                yield from self.rules.routes[event.who].control.promoted(event.at, event.number)
        if not self.clock_faults and lines:
            last = self.history.events[-1].at
            for name, book in self.rules.routes.items():
                for text in book.control.stuck(last, lines[-1].record["t"] + last - lines[-1].written.at):
                    yield f"{text} ({name})"
        if not {"disk", "crash", "power", "router_frozen", "deploy"}.intersection(
            fault.kind for fault in self.plan.faults
        ):
            changes = [event for event in self.history.events if event.kind == "documents"]
            for index, change in enumerate(changes):
                until = changes[index + 1].at if index + 1 < len(changes) else 1 << 62
                spec = {route["metadata"]["name"]: route["spec"] for route in self.plan.stages[change.number]}
                for received, written, route, served in self.rules.served:
                    late = change.at + 1_000_000_000 < received <= written < until
                    if late and duration(served["dedupe"]["window"]) != duration(spec[route]["dedupe"]["window"]):
                        yield f"reload: after {(received - change.at) / 1e9:.3f} s the old document is in force"
                        break

    def _pulled(self, event: Event, line: Line | None) -> Iterator[str]:
        ready = None if line is None else line.written if self.plan.durability == "os" else line.synced
        if ready is None:
            yield f"lever: {event.who} was confirmed, and it is not in the record"
        elif ready.order > event.order:
            yield f"lever: {event.who} was confirmed before it was recorded"

    # What the answer says

    def _told(self, exchange: Exchange, deadline: int) -> Iterator[str]:
        answered = exchange.answered
        if answered is None:
            return
        if exchange.status >= 500 or (exchange.status >= 400 and not exchange.decisions):
            yield f"status: {exchange.status} {exchange.body.get('code')}"
            return
        expected = [
            (index, row, route) for index, row in enumerate(exchange.rows) for route in self._way(row)[1] or [""]
        ]
        if len(exchange.decisions) != len(expected):
            yield f"wire: {len(exchange.decisions)} decisions for {len(expected)}"
            return
        for decision, (index, row, route) in zip(exchange.decisions, expected, strict=True):
            if isinstance(row.get("features"), dict) and (
                decision.get("symbol") != row["symbol"] or decision.get("ts_event") != row["ts_event"]
            ):
                yield "crossed: the decision is on another snapshot"
            if decision.get("row", 0) != index or decision.get("route", "") != route:
                yield f"crossed: row {decision.get('row', 0)} of {decision.get('route')}, not {index} of {route}"
            yield from self._expected(exchange, answered, decision, row)
            yield from self._truthful(exchange, answered, decision, deadline)

    def _expected(self, exchange: Exchange, answered: Event, decision: Json, row: Json) -> Iterator[str]:
        """Promise 6, and that what is good is not refused."""
        outcome, reason = decision["outcome"], decision.get("reason")
        snap, routes = self._way(row)
        flaw = snap.flaw if snap is not None else "form"
        if outcome == "rejected":
            code, pointer = decision["problem"]["code"], decision["problem"].get("pointer", "")
            wanted = _CODES.get(flaw) if flaw else None
            allowed = {wanted} if wanted else set()
            if not routes:
                allowed.add(("unknown_route", "/route") if "route" in row else ("no_route", "/symbol"))
            if self._out_of_time(decision, code):
                allowed.add((code, "/ts_event"))
            place = f"/rows/{decision.get('row', 0)}/"  # in columns a field has no name
            if not any(
                code == pair[0] and (pointer.endswith(pair[1]) or pointer.startswith(place)) for pair in allowed
            ):
                yield f"rejection: {code} {pointer}, for {wanted}"
        elif flaw in ("old", "future", *_ROUTELESS) and reason != "journal_unavailable" and outcome != "unknown":
            if not (flaw in ("old", "future") and self.clock_faults):
                yield f"bad input: {outcome} {reason} for {flaw}"
        elif flaw in ("missing", "range") and outcome == "emitted" and not decision["signal"].get("reduce_only"):
            yield f"bad input: a signal for {flaw}"
        if (
            snap is not None
            and snap.tag >= FINAL
            and (
                outcome == "unknown"
                or reason in ("journal_unavailable", "no_answer", "version_drift", "past_commit_by")
            )
        ):
            yield f"recovery: {outcome} {reason}, although everything is mended"
        if self.calm and reason == "no_answer" and self._budget(decision) > 5_000:
            yield "degraded: no answer, although nothing is wrong"

    def _budget(self, decision: Json) -> int:
        """What the snapshot had when it was decided, microseconds."""
        known = self.rules.proposals.get(decision.get("proposal_id", ""), ())
        return min((int(line.record.get("budget_us", 0)) for line in known), default=0)

    def _out_of_time(self, decision: Json, code: str) -> bool:
        """Whether the snapshot was out of its time when it was looked at, by the journal's time."""
        for line in self.rules.proposals.get(decision.get("proposal_id", ""), ()):
            age = line.record["t"] - line.record["ts_event"]
            if code == "snapshot_too_old" and age > _MAX_AGE:
                return True
            if code == "snapshot_from_future" and (
                -age > _MAX_SKEW - 1_000_000_000 if self.clock_faults else -age > _MAX_SKEW
            ):
                return True
        return False

    def _truthful(self, exchange: Exchange, answered: Event, decision: Json, deadline: int) -> Iterator[str]:
        """Promise 3: what was answered was in the record before it was answered, is still there, and says the same."""
        outcome, reason = decision["outcome"], decision.get("reason")
        if outcome == "unknown":
            soonest = exchange.asked.at + deadline - min(1_000_000, deadline // 10)
            if answered.at < soonest and not self.disk_faults:
                yield "unknown: given up before its time, and nothing is wrong with the disk"
            return
        if reason == "journal_unavailable":
            closed = not self.plan.http and bisect_left(self.draining, answered.order) > 0
            if not self.disk_faults and not closed:
                yield "journal_unavailable: and nothing is wrong with the disk"
            return
        known = self.rules.proposals.get(decision.get("proposal_id", ""), [])
        if not decision.get("proposal_id"):
            return
        ready = [
            line
            for line in known
            if (event := line.written if self.plan.durability == "os" else line.synced) is not None
            and event.order < answered.order
        ]
        if not known:
            yield f"lost: answered {outcome} {reason or ''}, and it is not in the record"
        elif not ready:
            yield f"early: answered {outcome} {reason or ''} before it was recorded"
        elif all(list(_differences(decision, line.record)) for line in ready):
            names = ", ".join(_differences(decision, ready[-1].record))
            yield f"untrue: the answer and the record differ in {names}"

    def _state(self, exchange: Exchange) -> Iterator[str]:
        """What each route last said, as clients are told that reconcile."""
        assert exchange.answered is not None
        told = {(item["route"], item["symbol"]): item["signal_id"] for item in exchange.body["opinions"]}
        for key, lines in self.rules.emitted.items():
            ready = [line.written if self.plan.durability == "os" else line.synced for line in lines]
            then = [
                line
                for line, event in zip(lines, ready, strict=True)
                if event and event.order < exchange.answered.order
            ]
            if then and told.get(key) != then[-1].record["signal_id"]:
                yield f"state: {key} is said to be {told.get(key)}, the last signal is {then[-1].record['signal_id']}"

    def _unrecorded(self, exchanges: list[Exchange]) -> Iterator[str]:
        """What was only ever answered as journal_unavailable is in no record."""
        asked: dict[str, set[str]] = {}
        silent: set[tuple[str, int]] = set()
        for exchange in exchanges:
            if exchange.path != "/v1/predict":
                continue
            if exchange.answered is None:
                silent |= {(row.get("symbol", ""), row.get("ts_event", 0)) for row in exchange.rows}
            for decision in exchange.decisions:
                asked.setdefault(decision.get("proposal_id", ""), set()).add(
                    decision.get("reason") or decision["outcome"]
                )
        for pid, said in asked.items():
            for line in self.rules.proposals.get(pid, ()) if said == {"journal_unavailable"} else ():
                if (line.record["symbol"], line.record["ts_event"]) not in silent:
                    yield f"untrue: answered as unrecorded, and it is {line.place}"

    # The way to the models

    def _calls(self, calls: list[Call], exchanges: list[Exchange]) -> Iterator[str]:
        """The budget counts down, and no connection is used on which an answer is outstanding."""
        asking: dict[float, list[Exchange]] = {}
        for exchange in exchanges:
            for row in exchange.rows:
                if isinstance(row.get("features"), dict):
                    asking.setdefault(row["features"].get("tag", -1), []).append(exchange)
        for call in calls:
            if call.doubtful:
                yield f"reuse: a connection to {call.sent.who} on which an answer was outstanding"
            if call.budget <= 0:
                yield "budget: nothing remains, and a model is asked"
            for tag in call.tags:
                left = [
                    exchange.asked.at + deadline - min(deadline // 5, 20_000_000) - call.sent.at
                    for exchange in asking.get(tag, ())
                    if exchange.asked.order < call.sent.order
                    for deadline in (self._deadline(exchange),)
                ]
                if not left or call.budget * 1000 > max(left):
                    yield f"budget: {call.budget} us told to {call.sent.who}, {max(left, default=0) // 1000} remain"
                    break

    # Time

    def _freezes(self) -> list[tuple[int, int]]:
        spans, since = [], None
        for event in self.history.events:
            if event.kind == "frozen" and since is None:
                since = event.at
            elif event.kind == "thawed" and since is not None:
                spans.append((since, event.at))
                since = None
        return spans

    def _thawed(self, start: int, end: int) -> int:
        """A frozen process answers when it is thawed."""
        for since, until in self.thaws:
            if since <= end and until >= start:
                end = max(end, until)
        return end


def _differences(decision: Json, record: Json) -> Iterator[str]:
    for name in ("outcome", "reason", "symbol", "ts_event", "route", "proposal_id", "duplicate_of"):
        if (decision.get(name) or None) != (record.get(name) or None):
            yield name
    signal = decision.get("signal")
    if (signal is not None) != (record["outcome"] == "emitted"):
        yield "signal"
    elif signal is not None:
        for name in _SAME:
            if (signal.get(name) or None) != (record.get(name) or None):
                yield f"signal.{name}"
        for name, other in _SIGNAL.items():
            if signal.get(name) != record.get(other):
                yield f"signal.{name}"


def kind(finding: str) -> str:
    """What a finding is of."""
    return finding.partition(":")[0]


__all__ = ["Line", "judge", "kind"]
