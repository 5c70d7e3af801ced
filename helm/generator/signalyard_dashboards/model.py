"""The servers of one model."""

from signalyard_dashboards.panels import Dashboard, Panel, Query, Row, Variable

_S = 'namespace="$namespace",job="$model"'


def _share(result: str) -> str:
    requests = "model_version_result:signalyard_model_requests:rate5m"
    return (
        f'sum by (version) ({requests}{{{_S},result="{result}"}})'
        f" / sum by (version) ({requests}{{{_S}}})"
    )  # fmt: skip


MODEL = Dashboard(
    uid="signalyard-model",
    title="Signalyard / Model",
    about="Rate, latency, errors, memory and versions of the servers of one model.",
    variables=(
        Variable("namespace", "signalyard_model_ready", "namespace"),
        Variable("model", 'signalyard_model_ready{namespace="$namespace"}', "job"),
    ),
    rows=(
        Row(
            "Now",
            (
                Panel("Servers that answer", "short", (Query(f"sum(up{{{_S}}})"),), "stat", width=8),
                Panel("Ready", "short", (Query(f"sum(signalyard_model_ready{{{_S}}})"),), "stat", width=8),
                Panel(
                    "Not ready",
                    "short",
                    (Query(f"sum(1 - signalyard_model_ready{{{_S}}})"),),
                    "stat",
                    width=8,
                    bad_from=1,
                ),
            ),
        ),
        Row(
            "Rate",
            (
                Panel(
                    "Requests",
                    "ops",
                    (
                        Query(
                            f"sum by (version, result) (model_version_result:signalyard_model_requests:rate5m{{{_S}}})",
                            "{{version}} {{result}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Rows",
                    "ops",
                    (Query(f"model_version:signalyard_model_rows:rate5m{{{_S}}}", "{{version}}"),),
                ),
                Panel(
                    "Under way",
                    "short",
                    (
                        Query(f"signalyard_model_http_requests_in_flight{{{_S}}}", "{{pod}} REST"),
                        Query(f"signalyard_model_grpc_calls_in_flight{{{_S}}}", "{{pod}} gRPC"),
                    ),
                    about="Read and not answered yet.",
                ),
            ),
        ),
        Row(
            "Latency",
            (
                Panel(
                    "Requests that were answered",
                    "s",
                    (
                        Query(f"model_version:signalyard_model_request_seconds:p50_5m{{{_S}}}", "{{version}} p50"),
                        Query(f"model_version:signalyard_model_request_seconds:p99_5m{{{_S}}}", "{{version}} p99"),
                    ),
                    width=24,
                    about="From the arrival at the server to the scores.",
                ),
            ),
        ),
        Row(
            "Errors",
            (
                Panel("Failed", "percentunit", (Query(_share("failed"), "{{version}}"),), about="The model's fault."),
                Panel(
                    "Expired",
                    "percentunit",
                    (Query(_share("expired"), "{{version}}"),),
                    about="Dropped unscored, because their budget was spent.",
                ),
                Panel(
                    "Rows that could not be scored",
                    "ops",
                    (
                        Query(
                            f"sum by (version) (rate(signalyard_model_row_errors_total{{{_S}}}[$__rate_interval]))",
                            "{{version}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Features",
            (
                Panel(
                    "Drift",
                    "short",
                    (
                        Query(
                            f"topk(10, max by (version, feature) (signalyard_model_feature_psi{{{_S}}}"
                            f" and ignoring(feature) signalyard_model_drift_rows{{{_S}}} >= 1000))",
                            "{{version}} {{feature}}",
                        ),
                    ),
                    about="Stability index (PSI) of the ten features that have moved most from the training rows, in servers with a thousand "
                    "rows in the window: below 0.1 nothing has changed, above 0.25 much has.",
                    width=16,
                ),
                Panel(
                    "Rows in the window",
                    "short",
                    (Query(f"sum by (version) (signalyard_model_drift_rows{{{_S}}})", "{{version}}"),),
                ),
            ),
        ),
        Row(
            "Versions",
            (
                Panel(
                    "Loaded bundles",
                    "short",
                    (Query(f"max by (pod, track, version, digest) (signalyard_model_info{{{_S}}})"),),
                    "table",
                    width=16,
                ),
                Panel(
                    "Time to load",
                    "s",
                    (Query(f"signalyard_model_load_seconds{{{_S}}}", "{{pod}} {{version}}"),),
                ),
            ),
        ),
        Row(
            "Memory",
            (
                Panel(
                    "Memory",
                    "bytes",
                    (
                        Query(f"process_resident_memory_bytes{{{_S}}}", "{{pod}}"),
                        Query(f"signalyard_memory_limit_bytes{{{_S}}} > 0", "{{pod}}, limit"),
                    ),
                    width=12,
                ),
                Panel(
                    "CPU",
                    "short",
                    (Query(f"sum by (pod) (rate(process_cpu_seconds_total{{{_S}}}[$__rate_interval]))", "{{pod}}"),),
                    about="Cores.",
                    width=12,
                ),
            ),
        ),
    ),
)
