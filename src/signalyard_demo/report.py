"""What the demonstration shows: a table while it runs, a report at its end."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from signalyard_demo.audit import Audit
from signalyard_demo.replay import CALM, FROZEN, KILLED, Tally
from signalyard_demo.train import Study

ALLOWANCE_MS = 20.0
"""How far past the deadline an answer may reach its caller before the run counts as failed: what a busy machine's scheduler
takes from five processes that share it, not what the router may take."""

_PHASES = {
    CALM: "all is well",
    FROZEN: "the stable model server is frozen, the standby answers",
    KILLED: "the router was killed, and comes back on the same journal",
}
_SHORT = {CALM: "no fault", FROZEN: "model server frozen"}
_PLAIN_EVERY = 2.0


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Milliseconds of calls as the caller sees them."""

    calls: int
    p50: float
    p99: float
    worst: float


@dataclass(frozen=True, slots=True)
class Report:
    """The end of a run. ``failures`` is empty if every promise held."""

    source: str
    generated: bool
    instruments: list[str]
    period: tuple[str, str]
    snapshots: int
    decisions: int
    seconds: float
    models: list[dict[str, Any]]
    outcomes: dict[str, int]
    reasons: dict[str, int]
    answered_by: dict[str, int]
    failover: int
    degraded: int
    latency_ms: dict[str, Quantiles]
    deadline: dict[str, float]
    faults: dict[str, dict[str, float]]
    journal: dict[str, Any]
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every promise held."""
        return not self.failures

    def plain(self) -> dict[str, Any]:
        """As builtins, for JSON."""
        return {"passed": self.passed, **asdict(self)}


def quantiles(seconds: Sequence[float]) -> Quantiles:
    """Nearest-rank quantiles."""
    if not seconds:
        return Quantiles(0, 0.0, 0.0, 0.0)
    ordered = sorted(1e3 * value for value in seconds)
    last = len(ordered) - 1
    p50, p99 = (ordered[min(last, int(share * len(ordered)))] for share in (0.50, 0.99))
    return Quantiles(len(ordered), round(p50, 3), round(p99, 3), round(ordered[-1], 3))


def conclude(
    study: Study, instruments: Sequence[str], period: tuple[str, str], tally: Tally, audit: Audit, deadline_ms: float
) -> Report:
    """Put the figures together and judge them."""
    latency = {phase: quantiles(values) for phase, values in tally.latencies.items()}
    worst = max(item.worst for item in latency.values())
    late = sum(1e3 * value > deadline_ms + ALLOWANCE_MS for values in tally.latencies.values() for value in values)
    failures = []
    if len(tally.answers) != tally.total:
        failures.append(f"{tally.total} snapshots, {len(tally.answers)} decisions")
    if tally.repeated != tally.repeated_equal:
        failures.append(
            f"{tally.repeated - tally.repeated_equal} snapshots sent again got another decision than before"
        )
    if not tally.kills:
        failures.append("the router was to be killed and was not")
    if not audit.failover:
        failures.append("the frozen model server went unnoticed: the standby never answered")
    if late:
        failures.append(f"{late} answers came more than {ALLOWANCE_MS:.0f} ms past the deadline")
    failures += [f"journal, {rule}: {count} findings" for rule, count in audit.by_rule().items()]
    return Report(
        source=study.source,
        generated=study.generated,
        instruments=list(instruments),
        period=period,
        snapshots=tally.total,
        decisions=len(tally.answers),
        seconds=round(tally.seconds, 3),
        models=[
            {
                "version": model.version,
                "framework": model.framework,
                "trained_on": model.rows,
                "trained_period": model.period,
                **{f"held_out_{name}": value for name, value in asdict(model.held_out).items()},
            }
            for model in study.models
        ],
        outcomes=dict(audit.outcomes),
        reasons=dict(audit.reasons),
        answered_by=dict(sorted(audit.answered_by.items())),
        failover=audit.failover,
        degraded=audit.degraded,
        latency_ms=latency,
        deadline={
            "deadline_ms": deadline_ms,
            "allowance_ms": ALLOWANCE_MS,
            "late_for_the_caller": late,
            "worst_for_the_caller_ms": worst,
            "late_in_the_router": audit.late,
            "worst_in_the_router_ms": audit.worst_elapsed_us / 1e3,
        },
        faults={
            "model_server_frozen": {
                "seconds": round(tally.frozen_seconds, 3),
                "decisions_meanwhile": tally.frozen_decisions,
            },
            "router_killed": {
                "failed_calls": tally.failed_calls,
                "snapshots_asked_again": tally.asked_again,
                "seconds_away": round(tally.router_away_seconds, 3),
                "settled_before_and_sent_again": tally.repeated,
                "same_decision_again": tally.repeated_equal,
            },
        },
        journal={
            "records": audit.records,
            "segments": audit.segments,
            "starts": audit.starts,
            "head": audit.head,
            "verified": audit.clean,
            "findings": [asdict(finding) for finding in audit.findings[:20]],
        },
        failures=failures,
    )


class Screen:
    """Progress for people: a live table on a terminal, a line every two seconds elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._drawn = time.monotonic()

    def say(self, text: str) -> None:
        """A line of progress."""
        self._console.print(Text(text), soft_wrap=True)

    def waiting(self, what: str) -> Callable[[], None]:
        """Announces a wait; the answer, called now and then, says that it goes on."""
        self.say(what)
        started = last = time.monotonic()

        def tick() -> None:
            nonlocal last
            if time.monotonic() - last >= _PLAIN_EVERY:
                last = time.monotonic()
                self.say(f"  ... {last - started:.0f} s")

        return tick

    def __enter__(self) -> "Screen":
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, tally: Tally, *, last: bool = False) -> None:
        """Draw the state of the replay, at most ten times a second on a terminal."""
        now = time.monotonic()
        if self._live is not None:
            if last or now - self._drawn >= 0.1:
                self._drawn = now
                self._live.update(_live_table(tally), refresh=True)
        elif last or now - self._drawn >= _PLAIN_EVERY:
            self._drawn = now
            emitted = tally.outcomes.get("emitted", 0)
            self.say(
                f"  {len(tally.answers):,} of {tally.total:,} decisions, {emitted:,} signals; {_PHASES[tally.phase]}"
            )

    def report(self, report: Report) -> None:
        """Print the final report."""
        for part in _report(report):
            self._console.print(part, soft_wrap=True)


def _live_table(tally: Tally) -> RenderableType:
    table = _table("replay", "", right=True)
    table.add_row("decisions", f"{len(tally.answers):,} of {tally.total:,}")
    for outcome, count in sorted(tally.outcomes.items()):
        table.add_row(f"  {outcome}", f"{count:,}")
    recent = quantiles([value for values in tally.latencies.values() for value in values[-2_000:]])
    table.add_row("p50, p99 of a call", f"{recent.p50:.2f} ms, {recent.p99:.2f} ms")
    table.add_row("now", _PHASES[tally.phase])
    return table


def _report(report: Report) -> list[RenderableType]:
    label = "GENERATED DATA: these are not market prices" if report.generated else report.source
    models = _table("version", "framework", "trained on", "held out: rows", "AUC", "log loss", "hit rate")
    for model in report.models:
        models.add_row(
            model["version"],
            model["framework"],
            f"{model['trained_on']:,}",
            f"{model['held_out_rows']:,}",
            f"{model['held_out_auc']:.3f}",
            f"{model['held_out_log_loss']:.4f}",
            f"{model['held_out_hit_rate']:.1%}",
        )
    decisions = _table("decisions", "", right=True)
    decisions.add_row("all", f"{report.decisions:,} for {report.snapshots:,} snapshots")
    _count_rows(decisions, report.outcomes)
    decisions.add_section()
    _count_rows(decisions, report.reasons, prefix="reason ")
    decisions.add_section()
    _count_rows(decisions, report.answered_by, prefix="answered by ")
    decisions.add_row("the standby stood in", f"{report.failover:,}")
    decisions.add_row("nobody answered", f"{report.degraded:,}")
    latency = _table("latency of a call", "calls", "p50 ms", "p99 ms", "worst ms")
    for phase, item in report.latency_ms.items():
        latency.add_row(_SHORT[phase], f"{item.calls:,}", f"{item.p50:.2f}", f"{item.p99:.2f}", f"{item.worst:.2f}")
    frozen, killed = report.faults["model_server_frozen"], report.faults["router_killed"]
    deadline = report.deadline
    lines = [
        f"held out: {report.period[0]} to {report.period[1]}, {len(report.instruments)} derived instruments, "
        f"replayed in {report.seconds:.1f} s. No profit is claimed.",
        f"frozen: the stable model server for {frozen['seconds']:.1f} s; {frozen['decisions_meanwhile']:.0f} decisions meanwhile",
        f"killed: the router in mid-flight, away for {killed['seconds_away']:.1f} s; {killed['snapshots_asked_again']:.0f} "
        f"snapshots asked again; {killed['same_decision_again']:.0f} of {killed['settled_before_and_sent_again']:.0f} "
        "settled before got the same decision again",
        f"deadline {deadline['deadline_ms']:.0f} ms: {deadline['late_for_the_caller']:.0f} later than its allowance of "
        f"{deadline['allowance_ms']:.0f} ms; worst {deadline['worst_for_the_caller_ms']:.1f} ms for the caller, "
        f"{deadline['worst_in_the_router_ms']:.1f} ms in the router",
        f"journal: {report.journal['records']:,} records in {report.journal['segments']} segments, "
        + ("chain and rules verified" if report.journal["verified"] else "NOT in order"),
    ]
    findings = [f"  record {item['seq']}, {item['rule']}: {item['text']}" for item in report.journal["findings"]]
    verdict = (
        Text("nothing lost, nothing late, nothing twice", style="bold green")
        if report.passed
        else Text("FAILED: " + "; ".join(report.failures), style="bold red")
    )
    text = [Text(line) for line in (*lines, *findings)]
    return [Text(label, style="bold"), models, decisions, latency, *text, verdict]


def _table(*columns: str, right: bool = False) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index and (right or len(columns) > 2) else "left")
    return table


def _count_rows(table: Table, counts: Mapping[str, int], prefix: str = "  ") -> None:
    for name, count in Counter(counts).most_common():
        table.add_row(f"{prefix}{name}", f"{count:,}")
