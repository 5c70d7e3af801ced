"""SIGKILL of the router at random points, again and again, on one journal; judged by an audit that shares no code with the gate.

`make test-faults`; KILLS says how often for each durability, SEED repeats the moments (the operating system's part is not
repeatable). Strategies insist on a decision for every snapshot and ask again for those that they have; an operator halts and
resumes instruments; the document changes under the router all the while.
"""

import contextlib
import http.client
import itertools
import json
import os
import random
import threading
import time
from collections import Counter

import pytest

from signalyard import Client, SignalyardError, Snapshot
from signalyard_demo.audit import Answered, Rules, audit
from signalyard_router.testing.model_server import ModelServer, ServedModel

KILLS = int(os.environ.get("KILLS", "50"))
SEED = int(os.environ.get("SEED", str(time.time_ns() % 100_000)))
PATIENCE = 60.0
SECOND = 10**9
RULES = Rules(
    window=SECOND,
    valid_for=5 * SECOND,
    deadline_us=300_000,
    long_enter=0.6,
    long_exit=0.55,
    short_enter=0.4,
    short_exit=0.45,
    min_confidence=0.5,
    signals=100_000,
    flips=1_000,
    tracks={"stable": "7"},
    standbys=("6",),
)
ROUTE = """
apiVersion: signalyard.io/v1alpha1
kind: SignalRoute
metadata: {{name: rb-trend}}
spec:
  model: rb-trend
  instruments: ["rb*.SHFE"]
  deadline: 300ms
  maxAge: {age}s
  validFor: 5s
  tracks:
    - {{name: stable,  version: "7", weight: 100, endpoint: {{service: 127.0.0.1, port: {stable}}}}}
    - {{name: standby, version: "6", endpoint: {{service: 127.0.0.1, port: {standby}}}}}
  mapping: {{long: {{enter: 0.6, exit: 0.55}}, short: {{enter: 0.4, exit: 0.45}}, otherwise: abstain}}
  filters: {{minConfidence: 0.5}}
  dedupe: {{window: 1s}}
  limits: {{signals: 100000/min, flips: 1000/min}}
"""


def told(snapshot, decision):
    """A decision as the audit compares it."""
    return Answered(
        symbol=snapshot.symbol,
        ts_event=snapshot.ts_event,
        sequence=snapshot.sequence,
        proposal_id=decision.proposal_id,
        outcome=str(decision.outcome),
        reason=str(decision.reason) if decision.reason else None,
        signal_id=decision.signal.signal_id if decision.signal else None,
        duplicate_of=decision.duplicate_of,
    )


class Worker(threading.Thread):
    """Does something again and again until it is told to stop; what goes wrong is kept for the test."""

    def __init__(self, seed):
        super().__init__()
        self.dice = random.Random(seed)
        self.stop = threading.Event()
        self.broken = None

    def run(self):
        try:
            self.work()
        except Exception as exc:  # the test fails by it
            self.broken = repr(exc)
            raise


class Strategy(Worker):
    """Insists on a decision for each snapshot, and asks again for some that it has, also after the router's death."""

    def __init__(self, seed, number, url):
        super().__init__(seed)
        self.number, self.url = number, url
        self.told = []
        self.counts = Counter()
        self.differ = []

    def work(self):
        with Client(self.url, deadline=0.4, connections=1) as client:
            for step in itertools.count():
                if self.stop.is_set():
                    return
                snapshot = Snapshot(
                    symbol=f"rb{self.number}{step % 4}.SHFE",
                    ts_event=time.time_ns(),
                    sequence=step,
                    features={"p": round(self.dice.random(), 3)},
                )
                self.told.append((snapshot, told(snapshot, self.insist(client, snapshot))))
                if self.dice.random() < 0.2:
                    before, decision = self.dice.choice(self.told[-40:])
                    again = told(before, self.insist(client, before))
                    self.counts["asked again"] += 1
                    if again != decision:
                        self.differ.append((decision, again))
                time.sleep(self.dice.choice((0.0, 0.001, 0.005)))

    def insist(self, client, snapshot):
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                decision = client.predict_one(snapshot)
            except SignalyardError as exc:
                self.counts[str(exc.problem)] += 1
                if time.monotonic() > give_up:
                    raise
            else:
                # an answer that settles nothing: the record, or the next attempt, does
                if decision.outcome != "unknown" and decision.reason != "journal_unavailable":
                    return decision
                self.counts[str(decision.reason)] += 1
            self.counts["attempts without a decision"] += 1
            time.sleep(0.02)


class Operator(Worker):
    """Halts instruments that nobody trades, and resumes some. ``held`` are those that must hold, ``ended`` those that must not;
    where an order met the router's death, either may be true, and it is in neither."""

    def __init__(self, seed, port):
        super().__init__(seed)
        self.port = port
        self.held, self.ended = {}, set()
        self.acknowledged = self.unacknowledged = 0
        self.pulling = threading.Event()

    def work(self):
        for number in itertools.count():
            if self.stop.wait(self.dice.uniform(0.0, 0.08)):
                return
            if self.held and self.dice.random() < 0.5:
                lever = self.dice.choice(list(self.held))
                del self.held[lever]
                if self.pull(action="resume", lever=lever) is not None:
                    self.ended.add(lever)
            else:
                symbol = f"rb9{number}.SHFE"
                answer = self.pull(action="halt", route="rb-trend", symbol=symbol)
                if answer is not None:
                    self.held[answer["id"]] = symbol

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            content = json.loads(answer.read())
            assert answer.status == 200, content
            return content
        finally:
            connection.close()

    def pull(self, **order):
        self.pulling.set()
        try:
            answer = self.call("POST", "/admin/v1/pull", json.dumps({"by": "ann", "why": "x"} | order))
        except (OSError, http.client.HTTPException, ValueError):
            self.unacknowledged += 1
            return None
        finally:
            self.pulling.clear()
        self.acknowledged += 1
        return answer


class Editor(Worker):
    """Changes the document; an editor writes beside and renames."""

    def __init__(self, seed, router, texts):
        super().__init__(seed)
        self.router, self.texts = router, texts
        self.changes = 0

    def work(self):
        for text in itertools.cycle(self.texts):
            if self.stop.wait(self.dice.uniform(0.05, 0.6)):
                return
            self.router.write_route(text, "rb.new")
            os.replace(self.router.routes / "rb.new", self.router.routes / "rb.yaml")
            self.changes += 1


def calibrated(models):
    """The audit asks for a confidence with every signal."""
    for version, server in models.servers.items():
        (served,) = server.models.values()
        card = type(served.card)(
            model="rb-trend", version=version, digest=served.card.digest, calibrated=True, schema=served.card.schema
        )
        models.servers[version] = ModelServer([ServedModel(card=card, score=lambda rows: [row[0] for row in rows])])
    return models


@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_none_lost_none_twice(tools, tmp_path, capsys, durability):
    dice = random.Random(SEED)
    with calibrated(tools.Models()) as models, contextlib.ExitStack() as stack:
        router = tools.RouterProcess(tmp_path, models.ports)
        stack.callback(router.close)
        texts = [ROUTE.format(age=age, stable=models.ports["7"], standby=models.ports["6"]) for age in (600, 601)]
        router.write_route(texts[0])
        router.start("--durability", durability)
        strategies = [Strategy(SEED + n, n, f"http://127.0.0.1:{router.port}") for n in range(3)]
        operator, editor = Operator(SEED + 10, router.admin_port), Editor(SEED + 11, router, texts)
        workers = [*strategies, operator, editor]
        for worker in workers:
            worker.start()
        torn = pulls = reloads = 0
        try:
            for number in range(1, KILLS + 1):
                match dice.choice(("any", "pull", "reload")):
                    case "any":
                        time.sleep(dice.uniform(0.02, 0.6))
                    case "pull":  # while an order is under way
                        tools.until(operator.pulling.is_set)
                        time.sleep(dice.uniform(0.0, 0.002))
                        pulls += operator.pulling.is_set()
                    case "reload":  # within the moment in which a changed document is noticed, read and journalled
                        changes = editor.changes
                        tools.until(lambda changes=changes: editor.changes > changes)
                        time.sleep(dice.uniform(0.0, 0.3))
                        reloads += 1
                router.kill()
                found = audit(router.journal, RULES, ())
                wrong = [f for f in found.findings if f.rule != "recorded" and "is torn" not in f.text]
                assert not wrong, (SEED, number, wrong[:3])
                torn += any("is torn" in f.text for f in found.findings)
                router.start("--durability", durability)
                assert not [worker.broken for worker in workers if worker.broken], SEED
        finally:
            for worker in workers:
                worker.stop.set()
            for worker in workers:
                worker.join(2 * PATIENCE)
        assert not [worker.broken for worker in workers if worker.broken], SEED
        answered = [decision for strategy in strategies for _, decision in strategy.told]
        differ = [pair for strategy in strategies for pair in strategy.differ]
        assert not differ, (SEED, differ[:3])
        holding = {lever["id"] for lever in operator.call("GET", "/admin/v1/levers")}
        assert set(operator.held) <= holding, (SEED, "an acknowledged halt was lost")
        assert not operator.ended & holding, (SEED, "an acknowledged resume was lost")
        for symbol in list(operator.held.values())[-3:]:
            assert router.ask(0.9, symbol)["reason"] == "halted"
        told_besides = {record["proposal_id"] for record in router.records() if record["symbol"].startswith("rb9")}
        assert router.terminate() == 0

        found = audit(router.journal, RULES, answered)
        besides = [f for f in found.findings if f.rule == "recorded" and "nobody was told" in f.text]
        assert len(besides) == len(told_besides)
        findings = [f for f in found.findings if f not in besides]
        assert not findings, (SEED, found.by_rule(), findings[:3])
        assert found.starts == KILLS + 1
        verified = router.run("journal", "verify", "--journal", str(router.journal))
        assert verified.returncode == 0, verified.stderr
        assert "Traceback" not in router.said()
        counts = sum((strategy.counts for strategy in strategies), Counter())
        with capsys.disabled():
            print(
                f"\n{durability}: seed {SEED}, {KILLS} kills ({pulls} within a pull, {reloads} about a reload, {torn} left a torn line), {found.decisions} decisions"
                f" ({found.outcomes['emitted']} emitted), {len(answered)} acknowledged,"
                f" {counts['attempts without a decision']} attempts retried, {counts['asked again']} asked again,"
                f" {operator.acknowledged} levers acknowledged ({operator.unacknowledged} not), {editor.changes} documents:"
                " none lost, none twice"
            )
