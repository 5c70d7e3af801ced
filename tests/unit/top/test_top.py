"""What `signalyard top` makes of a status and of metrics, and how it looks in eighty columns."""

import http.server
import io
import json
import threading

import pytest
from click.testing import CliRunner
from rich.console import Console

from signalyard_top.cli import top
from signalyard_top.frame import away, frame
from signalyard_top.rates import Past
from signalyard_top.source import AwayError, Reading, Source

NOW = 1_718_958_600_000_000_000


def track(name, version, weight, *ready):
    endpoints = [{"endpoint": f"{name}-{number}:1", "ready": each} for number, each in enumerate(ready)]
    return {"track": name, "version": version, "weight": weight, "endpoints": endpoints, "drift": False}


def status(**more):
    return {
        "ready": True,
        "unready": [],
        "clock": "wall",
        "now": NOW,
        "epoch": 1_718_958_000,
        "journal_available": True,
        "rows_in_flight": 3,
        "routes": [
            {
                "route": "rb-trend",
                "revision": "0123456789abcdef",
                "generation": 1,
                "model": "rb-trend",
                "instruments": ["rb*.SHFE"],
                "tracks": [
                    track("stable", "7", 90.0, True, False),
                    track("standby", "6", 0.0, True) | {"serving": "5", "drift": True},
                    track("canary", "8", 10.0, False),
                ],
                "assignment": {"rb2410.SHFE": "stable", "rb2501.SHFE": "stable", "rb2505.SHFE": "canary"},
                "session": {"open": True, "trading_day": "2024-06-21", "until": NOW + 1_800 * 10**9},
            }
        ],
        "alerts": [
            {"route": "rb-trend", "alert": "late", "state": "ok", "since": NOW, "message": ""},
            {"route": "rb-trend", "alert": "degraded", "state": "pending", "since": NOW, "message": "1 of 3 [/red]"},
            {
                "route": "rb-trend",
                "alert": "no_signal",
                "state": "firing",
                "since": NOW - 300 * 10**9,
                "message": "no signal for 15 min of open session: the feed is silent, the last came 15 min ago",
                "cause": "feed_silent",
            },
        ],
    } | more


def page(emitted, fast, slow, begun=1.0):
    return f"""# TYPE signalyard_decisions counter
signalyard_decisions_total{{outcome="emitted",reason="long",route="rb-trend"}} {emitted}
signalyard_decisions_total{{outcome="suppressed",reason="duplicate",route="rb-trend"}} 7
signalyard_decisions_total{{outcome="emitted",reason="long",route="other"}} 1000
# TYPE signalyard_decision_seconds histogram
signalyard_decision_seconds_bucket{{le="0.001",route="rb-trend"}} {fast}
signalyard_decision_seconds_bucket{{le="0.002",route="rb-trend"}} {fast + slow}
signalyard_decision_seconds_bucket{{le="+Inf",route="rb-trend"}} {fast + slow}
# TYPE signalyard_journal_sequence gauge
signalyard_journal_sequence 81234
# TYPE process_start_time_seconds gauge
process_start_time_seconds {begun}
"""


class Served:
    """A server that says what it is told to."""

    def __enter__(self):
        self.answers = {}
        served = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                code, body = served.answers.get(self.path, (404, ""))
                self.send_response(code)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def say(self, body, metrics):
        self.answers = {"/v1/status": (200, json.dumps(body)), "/metrics": (200, metrics)}

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def shown(what, width=80):
    console = Console(file=io.StringIO(), width=width, force_terminal=False, highlight=False)
    console.print(what)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    return text


def reading(at, emitted, fast, slow, **more):
    with Served() as served:
        served.say(status(), page(emitted, fast, slow, **more))
        got = Source(served.url).read()
    return Reading(at, got.status, got.samples)


def test_a_frame_in_eighty_columns():
    text = shown(frame("http://127.0.0.1:8090", Past().add(reading(0.0, 100, 90, 10))))
    for word in (
        "ready",
        "journal available",
        "record 81,234",
        "since the router's start",
        "open, closes in 30 min",
        "2 of 3 instruments",
        "1 of 3 instruments",
        "1 of 2 ready",
        "0 of 1 ready",
        "ready, serves v5",
        "firing  rb-trend no_signal for 5 min",
        "the feed is silent",
        "pending rb-trend degraded",
        "1 of 3 [/red]",
    ):
        assert word in text
    assert text.index("firing") < text.index("pending")
    assert text.index("stable") < text.index("canary") < text.index("standby")
    assert shown(frame("http://x", Past().add(reading(0.0, 100, 90, 10))), width=40)


def test_rates_and_quantiles_are_of_what_changed():
    past = Past()
    first = past.add(reading(0.0, 100, 1000, 0))
    assert first.rate("signalyard_decisions_total", route="rb-trend") is None
    assert first.quantile(0.5, "signalyard_decision_seconds", route="rb-trend") == pytest.approx(0.0005)
    change = past.add(reading(4.0, 300, 1090, 10))
    assert change.rate("signalyard_decisions_total", route="rb-trend") == 50.0
    assert change.count("signalyard_decisions_total", route="rb-trend", outcome="suppressed") == 0
    assert change.quantile(0.5, "signalyard_decision_seconds", route="rb-trend") == pytest.approx(0.00055556, rel=1e-3)
    assert change.quantile(0.99, "signalyard_decision_seconds", route="rb-trend") == pytest.approx(0.0019)
    assert change.quantile(0.99, "signalyard_decision_seconds", route="none") is None
    assert "50" in shown(frame("http://x", change))
    # a router that was restarted counts anew
    again = past.add(reading(5.0, 5, 5, 0, begun=2.0))
    assert again.before is None
    assert again.count("signalyard_decisions_total", route="rb-trend", outcome="emitted") == 5


def test_once():
    with Served() as served:
        served.say(status(), page(100, 90, 10))
        result = CliRunner().invoke(top, ["--once", "--url", served.url])
        assert result.exit_code == 0, result.output
        assert "rb-trend" in result.output
        for path, code, body, says in (
            ("/v1/status", 503, "", "answers 503"),
            ("/v1/status", 200, "<html>", "answers what is not a router's"),
            ("/v1/status", 200, "{}", "is not a router's status"),
            ("/metrics", 200, "{{{", "answers what is not a router's"),
        ):
            served.say(status(), page(100, 90, 10))
            served.answers[path] = (code, body)
            result = CliRunner().invoke(top, ["--once", "--url", served.url])
            assert (result.exit_code, says in result.output) == (1, True), result.output
    result = CliRunner().invoke(top, ["--once", "--url", served.url])
    assert result.exit_code == 1
    assert "router away" in result.output
    assert CliRunner().invoke(top, ["--once", "--url", "file:///etc"]).exit_code == 2


def test_while_the_router_is_away_it_goes_on_trying(monkeypatch):
    tries = []

    def read(self):
        tries.append(1)
        if len(tries) == 2:
            return reading(0.0, 1, 1, 1)
        raise AwayError(f"{self.url}: refused")

    def sleep(seconds):
        assert 0 <= seconds <= 1
        if len(tries) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Source, "read", read)
    monkeypatch.setattr("signalyard_top.cli.time.sleep", sleep)
    result = CliRunner().invoke(top, ["--url", "http://127.0.0.1:1"])
    assert (result.exit_code, len(tries)) == (0, 4)
    text = shown(away("http://x", "refused", 3.2))
    assert "trying again each second; it last answered 3 s ago" in text
