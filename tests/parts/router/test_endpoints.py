"""Two endpoints of one track, as processes see them: one dies, returns, hangs, returns; no decision fails."""

import time

import pytest

PATIENCE = 20.0
pytestmark = pytest.mark.parts

ROUTE = """
apiVersion: signalyard.io/v1alpha1
kind: SignalRoute
metadata: {{name: rb-trend}}
spec:
  model: rb-trend
  instruments: ["rb*.SHFE"]
  deadline: 800ms
  tracks:
    - name: stable
      version: "7"
      weight: 100
      endpoints: [{{service: 127.0.0.1, port: {first}}}, {{service: 127.0.0.1, port: {second}}}]
    - {{name: standby, version: "6", endpoint: {{service: 127.0.0.1, port: {second}}}}}
  mapping: {{long: {{enter: 0.6}}, short: {{enter: 0.4}}, otherwise: abstain}}
"""


class Desk:
    """Asks with one side after the other, so that every decision emits, and counts whose answers they were."""

    def __init__(self, models, router):
        self.models, self.router, self.asked = models, router, 0
        self.first, self.second = (f"127.0.0.1:{models.ports[version]}" for version in ("7", "6"))

    def ask(self, times=1):
        """The signals of so many snapshots; each of them is emitted."""
        signals = []
        for _ in range(times):
            self.asked += 1
            decision = self.router.ask(0.7 if self.asked % 2 else 0.3)
            assert decision["outcome"] == "emitted", decision
            signals.append(decision["signal"])
        return signals

    def breaker(self):
        (route,) = self.router.get("/v1/status")[1]["routes"]
        (shown,) = [one for one in route["tracks"][0]["endpoints"] if one["endpoint"] == self.first]
        return shown["breaker"]

    def until(self, state):
        """Ask until the first endpoint's breaker is in this state; no decision fails meanwhile."""
        end = time.monotonic() + PATIENCE
        signals = []
        while self.breaker() != state:
            assert time.monotonic() < end, self.router.said()
            signals += self.ask()
        return signals

    def answers(self):
        """How many answers each endpoint gave, by the journal."""
        steps = [step for record in self.router.records() for step in record["steps"]]
        return [
            sum(step["result"] == "answered" and step["endpoint"] == name for step in steps)
            for name in (self.first, self.second)
        ]


@pytest.fixture
def desk(models, router):
    models.servers["6"].serve(models.servers["7"].models["rb-trend", "7"])
    router.write_route(ROUTE.format(first=models.ports["7"], second=models.ports["6"]))
    router.start()
    return Desk(models, router)


def stable(signals):
    return [signal for signal in signals if (signal["version"], signal.get("failover", False)) == ("7", False)]


def test_one_dies_and_returns(desk):
    desk.ask(10)
    assert desk.answers() == [5, 5]
    desk.models.stop_one("7")
    signals = desk.ask(20)
    assert stable(signals) == signals  # the other endpoint of the track took its calls, and no standby was needed
    assert desk.answers() == [5, 25]
    assert desk.breaker() == "open"
    desk.models.start_one("7")
    signals = desk.until("closed")
    assert stable(signals) == signals
    before = desk.answers()[0]
    desk.ask(10)
    assert desk.answers()[0] == before + 5
    assert desk.router.terminate() == 0
    refused = [step for record in desk.router.records() for step in record["steps"] if step["result"] != "answered"]
    assert {(step["endpoint"], step["result"]) for step in refused} == {(desk.first, "model_unreachable")}


def test_one_hangs_and_returns(desk):
    desk.ask(10)
    desk.models.behave("7", "hang")
    signals = desk.until("open")
    stood_in = [signal for signal in signals if signal.get("failover", False)]
    assert len(stood_in) == 5  # as many as it takes to open the breaker
    assert {signal["version"] for signal in stood_in} == {"6"}
    desk.models.behave("7", "good")
    desk.until("closed")
    signals = desk.ask(10)
    assert stable(signals) == signals
    status, text = desk.router.get("/metrics")
    assert status == 200
    labels = f'endpoint="{desk.first}",model="rb-trend",version="7"'
    assert f"signalyard_upstream_breaker_opened_total{{{labels}}}" in text.decode()


def test_one_hangs_and_a_hedge_answers_in_its_place(desk):
    text = ROUTE.format(first=desk.models.ports["7"], second=desk.models.ports["6"])
    desk.router.terminate()
    desk.router.write_route(f"{text}  hedge: {{after: 50ms}}\n")
    desk.router.start()
    desk.models.behave("7", "hang")
    signals = desk.until("open")
    assert stable(signals) == signals
    desk.models.behave("7", "good")
    signals = desk.until("closed")
    assert stable(signals) == signals
