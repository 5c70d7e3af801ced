"""The router: what becomes of snapshots, how fast, and what stands in the way."""

from signalyard_dashboards.panels import Dashboard, Panel, Query, Row, Variable

_S = 'namespace="$namespace",job="$job"'
_R = f'{_S},route=~"$route"'


def _p99(metric: str, by: str, matchers: str = _S) -> str:
    return f"histogram_quantile(0.99, sum by ({by}, le) (rate({metric}_bucket{{{matchers}}}[$__rate_interval])))"


def _rate(metric: str, by: str, matchers: str = _R) -> str:
    return f"sum by ({by}) (rate({metric}{{{matchers}}}[$__rate_interval]))"


_NOW = Row(
    "Now",
    (
        Panel("Routers that answer", "short", (Query(f"sum(up{{{_S}}})"),), "stat", width=4),
        Panel("Open sessions", "short", (Query(f"sum(signalyard_session_open{{{_R}}})"),), "stat", width=4),
        Panel("Alerts of routes", "short", (Query(f"sum(signalyard_alert{{{_R}}})"),), "stat", width=4, bad_from=1),
        Panel(
            "Halts",
            "short",
            (Query(f'sum(signalyard_levers{{{_R},action="halt"}})'),),
            "stat",
            width=4,
            bad_from=1,
        ),
        Panel(
            "Tracks that drift",
            "short",
            (Query(f"sum(signalyard_version_drift{{{_R}}})"),),
            "stat",
            width=4,
            bad_from=1,
        ),
        Panel(
            "Journals away",
            "short",
            (Query(f"sum(1 - signalyard_journal_available{{{_S}}})"),),
            "stat",
            width=4,
            bad_from=1,
        ),
    ),
)

_RATE = Row(
    "Rate",
    (
        Panel(
            "Good snapshots",
            "ops",
            (Query(f"route:signalyard_snapshots:rate5m{{{_R}}}", "{{route}}"),),
            about="Without rejected ones.",
        ),
        Panel(
            "HTTP requests",
            "ops",
            (Query(_rate("signalyard_http_requests_total", "path, status", _S), "{{path}} {{status}}"),),
            stacked=True,
        ),
        Panel("Snapshots being decided", "short", (Query(f"signalyard_rows_in_flight{{{_S}}}", "{{pod}}"),)),
    ),
)

_OUTCOMES = Row(
    "Outcomes",
    (
        Panel(
            "Decisions",
            "ops",
            (
                Query(
                    f"sum by (outcome) (route_outcome:signalyard_decisions:rate5m{{{_R}}})",
                    "{{outcome}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Why not emitted",
            "ops",
            (
                Query(
                    _rate("signalyard_decisions_total", "outcome, reason", f'{_R},outcome!~"emitted|paper"') + " > 0",
                    "{{outcome}}: {{reason}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Signals",
            "ops",
            (Query(f"sum by (direction) (route_direction:signalyard_signals:rate5m{{{_R}}})", "{{direction}}"),),
            stacked=True,
        ),
        Panel(
            "Contracts with the most signals",
            "short",
            (
                Query(
                    f"topk(10, sum by (route, symbol) (increase(signalyard_signals_total{{{_R}}}[15m])))",
                    "{{route}} {{symbol}}",
                ),
            ),
            about="In 15 minutes.",
        ),
        Panel(
            "Since the last of each",
            "s",
            tuple(
                Query(f"time() - (signalyard_last_{what}_timestamp_seconds{{{_R}}} > 0)", f"{{{{route}}}} {what}")
                for what in ("snapshot", "answer", "signal")
            ),
        ),
        Panel(
            "Mean confidence",
            "percentunit",
            (Query(f"route:signalyard_confidence:mean10m{{{_R}}}", "{{route}}"),),
            about="Of all calibrated answers of ten minutes, before the filters.",
        ),
    ),
)

_LATENCY = Row(
    "Latency",
    (
        Panel(
            "Decisions",
            "s",
            (
                Query(f"route:signalyard_decision_seconds:p50_5m{{{_R}}}", "{{route}} p50"),
                Query(f"route:signalyard_decision_seconds:p99_5m{{{_R}}}", "{{route}} p99"),
            ),
            about="From the receipt of the request.",
        ),
        Panel(
            "Calls to model servers, p99",
            "s",
            (Query(_p99("signalyard_upstream_seconds", "model, version"), "{{model}} {{version}}"),),
        ),
        Panel(
            "Inside the router",
            "s",
            (
                Query(_p99("signalyard_journal_commit_seconds", "pod"), "commit p99"),
                Query(f"signalyard_wait_seconds{{{_S}}}", "wait, mean"),
            ),
        ),
    ),
)

_ERRORS = Row(
    "Errors",
    (
        Panel(
            "Share of snapshots without a decision in time",
            "percentunit",
            (
                Query(f"route:signalyard_errors:ratio_rate5m{{{_R}}}", "{{route}} 5m"),
                Query(f"route:signalyard_errors:ratio_rate1h{{{_R}}}", "{{route}} 1h"),
            ),
            about="The objective allows 0.1%.",
        ),
        Panel(
            "Down the ladder",
            "ops",
            (Query(f"sum by (rung) (route_rung:signalyard_degraded:rate5m{{{_R}}})", "{{rung}}"),),
            stacked=True,
        ),
        Panel(
            "Late decisions",
            "ops",
            (Query(_rate("signalyard_late_total", "route"), "{{route}}"),),
        ),
        Panel(
            "Calls that failed",
            "ops",
            (
                Query(
                    _rate("signalyard_upstream_requests_total", "model, version, result", f'{_S},result!="ok"')
                    + " > 0",
                    "{{model}} {{version}} {{result}}",
                ),
            ),
        ),
        Panel(
            "Requests refused",
            "ops",
            (
                Query(_rate("signalyard_refused_total", "reason", _S), "{{reason}}"),
                Query(_rate("signalyard_http_refusals_total", "reason", _S), "unread: {{reason}}"),
            ),
        ),
        Panel(
            "Commits that failed",
            "ops",
            (Query(_rate("signalyard_journal_commits_total", "result", f'{_S},result!="ok"'), "{{result}}"),),
        ),
    ),
)

_SHADOW = Row(
    "Shadows and baselines",
    (
        Panel(
            "Disagreement in an hour",
            "percentunit",
            (
                Query(f"route_kind_name:signalyard_shadow_disagreement:ratio1h{{{_R}}}", "{{route}} {{kind}} {{name}}"),
                Query(f"signalyard_shadow_disagreement_limit{{{_R}}}", "{{route}} {{kind}} {{name}}, allowed"),
            ),
        ),
        Panel(
            "Pairs compared in an hour",
            "short",
            (Query(f"route_kind_name:signalyard_shadow_compared:increase1h{{{_R}}}", "{{route}} {{kind}} {{name}}"),),
        ),
        Panel(
            "No pair, because",
            "ops",
            (
                Query(
                    _rate("signalyard_shadow_excluded_total", "kind, name, reason") + " > 0",
                    "{{kind}} {{name}}: {{reason}}",
                ),
            ),
        ),
    ),
)

_VERSIONS = Row(
    "Versions",
    (
        Panel(
            "What each track serves",
            "short",
            (
                Query(
                    f"max by (route, track, version, serving, digest) (signalyard_track_info{{{_R}}})",
                ),
            ),
            "table",
            width=12,
        ),
        Panel(
            "Weights in force",
            "percentunit",
            (Query(f"signalyard_track_weight{{{_R}}}", "{{route}} {{track}} {{version}}"),),
            width=6,
        ),
        Panel(
            "Endpoints that are ready",
            "short",
            (Query(f"signalyard_track_endpoints_ready{{{_R}}}", "{{route}} {{track}} {{version}}"),),
            width=6,
        ),
        Panel(
            "Breakers that are open",
            "short",
            (
                Query(
                    f'sum by (model, version, endpoint) (signalyard_upstream_breaker{{{_S},state="open"}}) > 0',
                    "{{model}} {{version}} {{endpoint}}",
                ),
            ),
        ),
        Panel(
            "Steps of plans in an hour",
            "short",
            (
                Query(
                    f"sum by (route, state) (increase(signalyard_plan_steps_total{{{_R}}}[1h])) > 0",
                    "{{route}} {{state}}",
                ),
            ),
        ),
        Panel(
            "Cutovers in an hour",
            "short",
            (
                Query(
                    f"sum by (model, version) (increase(signalyard_upstream_cutovers_total{{{_S}}}[1h])) > 0",
                    "{{model}} {{version}}",
                ),
            ),
        ),
    ),
)

_WIRES = Row(
    "Shared log and other wires",
    (
        Panel(
            "Replicas that hear the log",
            "short",
            (Query(f"signalyard_log_joined{{{_S}}}", "{{pod}}"),),
            about="Nothing where one router has a journal of its own.",
        ),
        Panel(
            "Commits settled again",
            "ops",
            (Query(_rate("signalyard_log_conflicts_total", "pod", _S), "{{pod}}"),),
            about="Because another replica was first at the log.",
        ),
        Panel(
            "Losses of the log, and states not kept, in an hour",
            "short",
            (
                Query(f"sum by (pod) (increase(signalyard_log_epochs_total{{{_S}}}[1h])) > 0", "{{pod}}, epochs"),
                Query(
                    f'sum by (pod) (increase(signalyard_log_snapshots_total{{{_S},result!="ok"}}[1h])) > 0',
                    "{{pod}}, states",
                ),
            ),
        ),
        Panel(
            "Snapshots that wait in their stream",
            "short",
            (
                Query(f"signalyard_redis_lag{{{_S}}}", "{{pod}}, not given"),
                Query(f"signalyard_redis_pending{{{_S}}}", "{{pod}}, not finished"),
            ),
        ),
        Panel(
            "Entries set aside in an hour",
            "short",
            (
                Query(
                    f"sum by (problem) (increase(signalyard_redis_entries_set_aside_total{{{_S}}}[1h])) > 0",
                    "{{problem}}",
                ),
            ),
        ),
        Panel(
            "Connections refused over ZeroMQ in an hour",
            "short",
            (
                Query(
                    f"sum by (reason) (increase(signalyard_zeromq_refused_connections_total{{{_S}}}[1h])) > 0",
                    "{{reason}}",
                ),
            ),
            about="By an unknown key, or before a key was shown, as a check of the port does.",
        ),
        Panel(
            "Oldest signal that waits for a sink",
            "s",
            (Query(f"signalyard_outbox_waiting_seconds{{{_S}}}", "{{pod}} {{sink}}"),),
        ),
        Panel(
            "Signals that no sink was given in time, in an hour",
            "short",
            (
                Query(
                    f'sum by (sink) (increase(signalyard_outbox_signals_total{{{_S},result="expired"}}[1h])) > 0',
                    "{{sink}}",
                ),
            ),
        ),
    ),
)

_MEMORY = Row(
    "Memory and disk",
    (
        Panel(
            "Memory",
            "bytes",
            (
                Query(f"process_resident_memory_bytes{{{_S}}}", "{{pod}}"),
                Query(f"signalyard_memory_limit_bytes{{{_S}}} > 0", "{{pod}}, limit"),
            ),
        ),
        Panel("CPU", "short", (Query(_rate("process_cpu_seconds_total", "pod", _S), "{{pod}}"),), about="Cores."),
        Panel("Journal written", "Bps", (Query(_rate("signalyard_journal_bytes_total", "pod", _S), "{{pod}}"),)),
        Panel("Complete segments", "short", (Query(f"signalyard_journal_segments{{{_S}}}", "{{pod}}"),)),
        Panel(
            "Oldest segment that waits for its archive",
            "s",
            (Query(f"signalyard_archive_oldest_waiting_seconds{{{_S}}}", "{{pod}}"),),
            about="Nothing where no archive is set.",
        ),
        Panel("Open files", "short", (Query(f"process_open_fds{{{_S}}}", "{{pod}}"),)),
    ),
)

ROUTER = Dashboard(
    uid="signalyard-router",
    title="Signalyard / Router",
    about="Rate, outcomes, latency, errors, shadows, versions and memory of a signal router.",
    variables=(
        Variable("namespace", "signalyard_journal_available", "namespace"),
        Variable("job", 'signalyard_journal_available{namespace="$namespace"}', "job"),
        Variable("route", f"signalyard_session_open{{{_S}}}", "route", several=True),
    ),
    rows=(_NOW, _RATE, _OUTCOMES, _LATENCY, _ERRORS, _SHADOW, _VERSIONS, _WIRES, _MEMORY),
)
