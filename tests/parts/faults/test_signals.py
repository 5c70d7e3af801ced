"""The router's own process, told to end or frozen, under load."""

import contextlib
import itertools
import json
import signal
import socket
import threading
import time

import pytest

PATIENCE = 30.0


class Strategy(threading.Thread):
    """A client on raw sockets that tells apart what a request can meet.

    ``answered``: whole answers. ``refused``: nobody listened. ``unanswered``: the connection ended before a byte of the answer
    came, as when the other side closed it at the very moment of its use; whether the request was read only the journal knows.
    ``bad``: an answer other than 200, or a part of one. What got no answer is sent again until it has one.
    """

    def __init__(self, router, number, keep_alive):
        super().__init__()
        self.router, self.number, self.keep_alive = router, number, keep_alive
        self.answered, self.unanswered, self.bad = [], [], []
        self.refused = 0
        self.stop = threading.Event()
        self._socket = None

    def run(self):
        for step in itertools.count():
            if self.stop.is_set():
                break
            snapshot = self.router.snapshot(0.9 if step % 2 else 0.1, f"rb{self.number}{step % 5}.SHFE")
            if not self._insist(snapshot):
                break
            time.sleep(0.001)
        self._hang_up()

    def _insist(self, snapshot):
        body = json.dumps(snapshot).encode()
        more = "" if self.keep_alive else "connection: close\r\n"
        head = f"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{more}content-length: {len(body)}\r\n\r\n"
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            try:
                if self._socket is None:
                    self._socket = socket.create_connection(("127.0.0.1", self.router.port), 20)
                    self._fresh, self._used = True, time.monotonic()
            except (ConnectionRefusedError, ConnectionResetError):  # nobody listened, or not any more
                self.refused += 1
                time.sleep(0.005)
                continue
            answer, began, waited = b"", self.router.generation, time.monotonic() - self._used
            fresh, self._fresh = self._fresh, False
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                self._socket.sendall(head.encode() + body)
                answer = self._read()
            if not answer:
                self.unanswered.append((snapshot, began, fresh, waited))
                self._hang_up()
                continue
            top, _, content = answer.partition(b"\r\n\r\n")
            if not top.startswith(b"HTTP/1.1 200 ") or b"content-length: %d" % len(content) not in top:
                self.bad.append(answer)
                self._hang_up()
                return False
            self.answered.append((snapshot, json.loads(content)))
            self._used = time.monotonic()
            if b"connection: close" in top.lower():
                self._hang_up()
            return True
        self.bad.append(b"never answered")
        return False

    def _read(self):
        answer = b""
        while data := self._socket.recv(65536):
            answer += data
            top, end, content = answer.partition(b"\r\n\r\n")
            if end and b"content-length: %d\r\n" % len(content) in top + b"\r\n":
                break
        return answer

    def _hang_up(self):
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@pytest.mark.parametrize("keep_alive", [True, False], ids=["kept connections", "a connection each"])
def test_sigterm_under_load_fails_no_request(router, tools, keep_alive):
    """A router is replaced on its port and its journal: whoever asked it gets an answer, from it or from the one that follows."""
    router.generation = 0
    router.start()
    strategies = [Strategy(router, number, keep_alive) for number in range(6)]
    for strategy in strategies:
        strategy.start()
    try:
        for _ in range(2):
            wanted = sum(len(strategy.answered) for strategy in strategies) + 150
            tools.until(lambda wanted=wanted: sum(len(strategy.answered) for strategy in strategies) >= wanted)
            assert router.terminate() == 0
            router.generation += 1
            router.start()
        wanted = sum(len(strategy.answered) for strategy in strategies) + 150
        tools.until(lambda: sum(len(strategy.answered) for strategy in strategies) >= wanted)
    finally:
        for strategy in strategies:
            strategy.stop.set()
        for strategy in strategies:
            strategy.join(PATIENCE)
    assert router.terminate() == 0
    assert not [answer for strategy in strategies for answer in strategy.bad]
    records = router.records()
    starts = [record["seq"] for record in router.records("start")]
    recorded = {(record["symbol"], record["ts_event"]): record for record in records}
    assert len(recorded) == len(records)
    for snapshot, decision in (pair for strategy in strategies for pair in strategy.answered):
        assert (snapshot["symbol"], snapshot["ts_event"]) in recorded, decision
        assert recorded[snapshot["symbol"], snapshot["ts_event"]]["proposal_id"] == decision["proposal_id"]
    # What a router began it answered: a request without an answer was never read, and its next sending was decided by the
    # process that followed. It can only be one that was connected, and not accepted, when the listener closed; or one on a
    # connection that had been idle for longer than a shutdown waits.
    for snapshot, generation, fresh, waited in (lost for strategy in strategies for lost in strategy.unanswered):
        assert recorded[snapshot["symbol"], snapshot["ts_event"]]["seq"] > starts[generation + 1]
        assert fresh or waited > 0.4
    assert sum(strategy.refused for strategy in strategies)
    assert router.run("journal", "verify", "--journal", str(router.journal)).returncode == 0


def test_frozen_for_two_seconds_under_load(router, tools):
    router.write_route(
        (router.routes / "rb.yaml").read_text().replace("deadline: 300ms", "deadline: 300ms\n  maxAge: 60s")
    )
    router.start()
    with tools.Load(f"http://127.0.0.1:{router.port}", strategies=3, deadline=0.4) as load:
        load.more(60)
        router.process.send_signal(signal.SIGSTOP)
        before = len(load.decisions)
        time.sleep(2.0)
        assert len(load.decisions) <= before + 3  # whose answers were on their way
        router.process.send_signal(signal.SIGCONT)
        load.more(60)
    # Nobody waited past the deadline, and everybody got one decision in the end.
    assert set(load.failures) <= {"deadline_exceeded", "router_unreachable"}
    assert load.failures["deadline_exceeded"] >= 3
    assert load.retried >= 3
    records = tools.check_record(router, load)
    slow = [record for record in records.values() if record["elapsed_us"] > 300_000]
    assert not [record for record in slow if record["outcome"] == "emitted" and record["elapsed_us"] > 2_000_000]
    assert router.terminate() == 0
