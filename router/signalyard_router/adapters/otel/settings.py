"""Where traces go, and how many there are."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class OtelSettings:
    """The settings of traces."""

    endpoint: str = ""
    """The collector's OTLP/HTTP address, such as http://127.0.0.1:4318/v1/traces; without one there are no traces. Default: none."""

    share: float = 0.01
    """The share of requests that are traced, from 0 to 1. A request whose caller is traced is traced as the caller says. A span
    that is recorded costs the router's one thread some tens of microseconds, several times a decision's own logic.
    Default: 0.01."""

    export_seconds: float = 2.0
    """How long one delivery to the collector may take, in seconds, the last one at shutdown too. Default: 2."""
