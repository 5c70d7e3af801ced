"""Reading a router: its status and its metrics at one moment."""

import json
import time
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


class AwayError(Exception):
    """The router gave no answer that can be read; the text says why."""


@dataclass(frozen=True)
class Reading:
    """``at`` is monotonic seconds; ``samples`` are by name, then by labels."""

    at: float
    status: dict[str, Any]
    samples: dict[str, dict[Labels, float]] = field(default_factory=dict)

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        wanted = labels.items()
        return sum(value for have, value in self.samples.get(name, {}).items() if wanted <= have)

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """A metric's samples, summed by the values of one label."""
        found: dict[str, float] = {}
        for have, value in self.samples.get(name, {}).items():
            if labels.items() <= have:
                key = dict(have).get(label, "")
                found[key] = found.get(key, 0.0) + value
        return found


class Source:
    """One router, by its base URL. Raises ValueError where that is none."""

    def __init__(self, url: str, timeout: float = 2.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is no http or https URL")
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._opener = build_opener(ProxyHandler({}))  # a router is no place on the web

    def read(self) -> Reading:
        """The router as it is now. Raises AwayError."""
        status = self._get("/v1/status")
        page = self._get("/metrics").decode(errors="replace")
        try:
            parsed = json.loads(status)
            if not isinstance(parsed, dict) or not isinstance(parsed.get("routes"), list):
                raise AwayError(f"{self.url}/v1/status is not a router's status")
            samples: dict[str, dict[Labels, float]] = {}
            for family in text_string_to_metric_families(page):
                for sample in family.samples:
                    samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
        except ValueError as exc:
            raise AwayError(f"{self.url} answers what is not a router's: {exc}") from exc
        return Reading(time.monotonic(), parsed, samples)

    def _get(self, path: str) -> bytes:
        request = Request(self.url + path, headers={"accept": "application/json, text/plain"})
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                body: bytes = answer.read()
                return body
        except HTTPError as exc:
            exc.close()
            raise AwayError(f"{self.url}{path} answers {exc.code} {exc.reason}") from exc
        except URLError as exc:
            raise AwayError(f"{self.url}: {exc.reason}") from exc
        except (OSError, HTTPException) as exc:
            raise AwayError(f"{self.url}: {exc or type(exc).__name__}") from exc
