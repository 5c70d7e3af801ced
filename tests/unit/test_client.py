import gc
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import numpy as np
import pytest

from signalyard import Client, SeveralDecisionsError, _http
from signalyard.problems import CallerError, ModelError, Problem, RouterError, describe
from signalyard.wire import Columnar, ColumnarRow, Decision, Opinion, Snapshot, StateAnswer
from signalyard.words import Direction, Outcome

DEADLINE = 0.1
SOON = 0.5
"""Seconds: far above the deadline, for a busy machine, and far below what the servers here would take."""
PATIENT = 10.0
"""Seconds, where the deadline is not what is tested."""

SNAPSHOT = Snapshot(symbol="rb2410.SHFE", ts_event=1718923456000000001, features={"close": 3512.0, "ret_5": None})
DECISION = Decision(outcome=Outcome.EMITTED, symbol=SNAPSHOT.symbol, ts_event=SNAPSHOT.ts_event, route="rb-trend")


class Peer:
    """One accepted connection, as a server here sees it."""

    def __init__(self, sock: socket.socket, number: int, ending: threading.Event) -> None:
        self.number = number
        self.ending = ending
        self._sock = sock
        self._buffer = b""

    def request(self) -> tuple[str, dict[str, str], bytes] | None:
        """Start line, headers and body of the next request; None when the client has closed."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._fill():
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        start, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers.get("content-length", 0))
        while len(self._buffer) < length:
            if not self._fill():
                return None
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return start, headers, body

    def _fill(self) -> bool:
        data = self._sock.recv(65536)
        self._buffer += data
        return bool(data)

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def answer(self, value: Any = DECISION, status: int = 200, headers: str = "") -> None:
        body = value if isinstance(value, bytes) else msgspec.json.encode(value)
        self.send(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body)

    def hang(self) -> None:
        """Do nothing until the test ends."""
        self.ending.wait()

    def closed_by_client(self) -> bool:
        self._sock.settimeout(PATIENT)
        try:
            return self._sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def reset(self) -> None:
        """Close with a reset in place of an orderly end."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


class Server:
    """A server that does as a test tells it, on a port of its own."""

    def __init__(self, behave: Callable[[Peer], None], port: int = 0, backlog: int = 16) -> None:
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", port), backlog=backlog)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.accepted = 0
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self._ending = threading.Event()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            self._open.append(sock)
            thread = threading.Thread(target=self._talk, args=(sock, self.accepted), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _talk(self, sock: socket.socket, number: int) -> None:
        with sock, suppress(OSError):  # the client went away, or the test ended
            self._behave(Peer(sock, number, self._ending))

    def close(self) -> None:
        self._ending.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENT)


@contextmanager
def serving(behave: Callable[[Peer], None]) -> Iterator[Server]:
    server = Server(behave)
    try:
        yield server
    finally:
        server.close()


def every_time(act: Callable[[Peer], object]) -> Callable[[Peer], None]:
    """Answer every request of a connection."""

    def behave(peer: Peer) -> None:
        while peer.request() is not None:
            act(peer)

    return behave


GOOD = every_time(Peer.answer)


def on_first_connection(act: Callable[[Peer], object]) -> Callable[[Peer], None]:
    """Misbehave on the first connection; answer on all others."""
    return lambda peer: (act(peer), None)[1] if peer.number == 1 else GOOD(peer)


def client_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("signalyard-client")]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert client_threads() == []


def elapsed(call: Callable[[], object], problem: Problem) -> float:
    """Seconds until ``call`` raised the RouterError that it should."""
    start = time.monotonic()
    with pytest.raises(RouterError) as raised:
        call()
    took = time.monotonic() - start
    assert raised.value.problem is problem
    return took


# What is asked and answered


def test_one_snapshot() -> None:
    asked: list[Any] = []

    def behave(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            asked.append(request)
            peer.answer(DECISION)

    with serving(behave) as server, Client(server.url, deadline=PATIENT, token="s3cret") as client:
        assert client.predict_one(SNAPSHOT) == DECISION
        assert client.predict(SNAPSHOT) == [DECISION]
    start, headers, body = asked[0]
    assert start == "POST /v1/predict HTTP/1.1"
    assert headers["host"] == f"127.0.0.1:{server.port}"
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == "Bearer s3cret"
    assert 0 < int(headers["signalyard-budget-us"]) <= PATIENT * 1e6
    assert msgspec.json.decode(body, type=Snapshot) == SNAPSHOT
    assert server.accepted == 1


def test_the_budget_is_what_remains_of_the_call_s_own_deadline() -> None:
    budgets: list[int] = []

    def behave(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            budgets.append(int(request[1]["signalyard-budget-us"]))
            peer.answer()

    with serving(behave) as server, Client(server.url, deadline=0.05) as client:
        client.predict_one(SNAPSHOT, deadline=5.0)
    assert 50_000 < budgets[0] < 5_000_000


def test_the_url_may_have_a_path() -> None:
    starts: list[str] = []

    def behave(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            starts.append(request[0])
            peer.answer()

    with serving(behave) as server, Client(server.url + "/desk/", deadline=PATIENT) as client:
        client.predict_one(SNAPSHOT)
        client.ready()
    assert starts == ["POST /desk/v1/predict HTTP/1.1", "GET /desk/readyz HTTP/1.1"]


def test_several_routes_decide_on_one_snapshot() -> None:
    both = [DECISION, msgspec.structs.replace(DECISION, route="rb-carry")]
    with serving(every_time(lambda peer: peer.answer(both))) as server, Client(server.url, deadline=PATIENT) as client:
        assert client.predict(SNAPSHOT) == both
        with pytest.raises(SeveralDecisionsError, match="rb-trend, rb-carry") as raised:
            client.predict_one(SNAPSHOT)
    assert isinstance(raised.value, CallerError)
    assert raised.value.problem is Problem.UNKNOWN_ROUTE
    assert raised.value.decisions == both
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.decisions) == (str(raised.value), both)


def test_no_decision_on_one_snapshot_is_an_error() -> None:
    with serving(every_time(lambda peer: peer.answer([]))) as server, Client(server.url, deadline=PATIENT) as client:
        elapsed(lambda: client.predict_one(SNAPSHOT), Problem.INTERNAL)


def test_a_list_with_a_rejected_row() -> None:
    rejected = Decision(outcome=Outcome.REJECTED, row=1, problem=describe(Problem.NO_ROUTE, "none", "/1/symbol"))
    asked: list[bytes] = []

    def behave(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            asked.append(request[2])
            peer.answer([DECISION, rejected])

    with serving(behave) as server, Client(server.url, deadline=PATIENT) as client:
        assert client.predict([SNAPSHOT, SNAPSHOT]) == [DECISION, rejected]
    assert msgspec.json.decode(asked[0], type=list[Snapshot]) == [SNAPSHOT, SNAPSHOT]


def test_columns() -> None:
    columnar = Columnar(columns=["close"], rows=[ColumnarRow(SNAPSHOT.symbol, SNAPSHOT.ts_event, [3512.0])])
    asked: list[bytes] = []

    def behave(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            asked.append(request[2])
            peer.answer([DECISION])

    with serving(behave) as server, Client(server.url, deadline=PATIENT) as client:
        assert client.predict(columnar) == [DECISION]
    assert msgspec.json.decode(asked[0], type=Columnar) == columnar


def test_numpy_s_numbers_are_numbers() -> None:
    features = {"close": np.float64(1.5), "ret": np.float32(0.25), "n": np.int64(3), "gone": np.float64("nan")}
    asked: list[bytes] = []

    def behave(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            asked.append(request[2])
            peer.answer()

    with serving(behave) as server, Client(server.url, deadline=PATIENT) as client:
        client.predict_one(msgspec.structs.replace(SNAPSHOT, features=features))
    assert msgspec.json.decode(asked[0])["features"] == {"close": 1.5, "ret": 0.25, "n": 3, "gone": None}


@pytest.mark.parametrize(
    ("snapshots", "pointer"),
    [
        (msgspec.structs.replace(SNAPSHOT, features={"a/b": math.inf}), "/features/a~1b"),
        ([SNAPSHOT, msgspec.structs.replace(SNAPSHOT, features={"x": -math.inf})], "/1/features/x"),
        (Columnar(columns=["x"], rows=[ColumnarRow("a.B", 1, [np.float64("inf")])]), "/rows/0/2/0"),
    ],
)
def test_infinity_is_refused_before_it_is_sent(
    snapshots: Snapshot | Sequence[Snapshot] | Columnar, pointer: str
) -> None:
    """JSON cannot say it; written as null it would mean "missing"."""
    with serving(GOOD) as server, Client(server.url, deadline=PATIENT) as client:
        with pytest.raises(CallerError) as raised:
            client.predict(snapshots)
        assert (raised.value.problem, raised.value.pointer) == (Problem.FEATURE_NOT_FINITE, pointer)
        assert server.accepted == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"symbol": "a.B"},
        [{"symbol": "a.B"}],
        7,
        None,
        msgspec.structs.replace(SNAPSHOT, features={"x": object()}),
        msgspec.structs.replace(SNAPSHOT, symbol="\ud800.B"),
        msgspec.structs.replace(SNAPSHOT, features=None),
    ],
)
def test_what_cannot_be_sent_is_the_caller_s_fault(wrong: Any) -> None:
    with serving(GOOD) as server, Client(server.url, deadline=PATIENT) as client:
        with pytest.raises(CallerError) as raised:
            client.predict(wrong)
        assert raised.value.problem is Problem.INVALID_SNAPSHOT
        assert server.accepted == 0


@pytest.mark.parametrize(
    ("problem", "status", "kind"),
    [
        (Problem.MISSING_FEATURE, 422, CallerError),
        (Problem.MODEL_FAILED, 502, ModelError),
        (Problem.OVERLOADED, 503, RouterError),
        (Problem.JOURNAL_UNAVAILABLE, 503, RouterError),
    ],
)
def test_a_problem_becomes_the_error_of_its_fault(problem: Problem, status: int, kind: type[Exception]) -> None:
    body = msgspec.json.encode(describe(problem, "what would be right", "/features/close", status))
    with serving(every_time(lambda peer: peer.answer(body, status))) as server, Client(server.url, PATIENT) as client:
        for _ in range(2):
            with pytest.raises(kind) as raised:
                client.predict_one(SNAPSHOT)
            assert raised.value.args == (problem, "what would be right", "/features/close")
        assert server.accepted == 1  # an error is an answer: the connection is kept


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (404, Problem.INTERNAL),
        (301, Problem.INTERNAL),
        (500, Problem.INTERNAL),
        (502, Problem.ROUTER_UNREACHABLE),
        (503, Problem.ROUTER_UNREACHABLE),
        (504, Problem.ROUTER_UNREACHABLE),
    ],
)
def test_an_error_that_is_no_problem(status: int, problem: Problem) -> None:
    page = b"<html>nginx \xff</html>" + b"x" * 10_000
    with serving(every_time(lambda peer: peer.answer(page, status))) as server, Client(server.url, PATIENT) as client:
        with pytest.raises(RouterError, match=f"HTTP {status}") as raised:
            client.predict_one(SNAPSHOT)
        assert raised.value.problem is problem
        assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"null", b"\xff", b'{"outcome": "maybe"}', b'[{"outcome":"emitted"}', b"[" * 100_000],
    ids=lambda body: repr(body[:20]),
)
def test_an_answer_that_is_no_decision(body: bytes) -> None:
    with serving(every_time(lambda peer: peer.answer(body))) as server, Client(server.url, deadline=PATIENT) as client:
        with pytest.raises(RouterError, match="cannot be read") as raised:
            client.predict_one(SNAPSHOT)
        assert raised.value.problem is Problem.INTERNAL


@pytest.mark.parametrize(
    "changes", [{"symbol": "cu2410.SHFE"}, {"ts_event": SNAPSHOT.ts_event - 1}, {"row": 1}, {"row": -1}]
)
def test_a_decision_on_something_else_is_refused(changes: dict[str, Any]) -> None:
    other = msgspec.structs.replace(DECISION, **changes)
    with serving(every_time(lambda peer: peer.answer(other))) as server, Client(server.url, deadline=PATIENT) as client:
        elapsed(lambda: client.predict(SNAPSHOT), Problem.INTERNAL)


def test_state() -> None:
    opinion = Opinion(
        symbol=SNAPSHOT.symbol,
        route="rb-trend",
        signal=Direction.LONG,
        signal_id="a1",
        epoch=1,
        seq=2,
        ts_event=1,
        ts_init=2,
        ts_expire=3,
        live=True,
    )
    answer = StateAnswer(now=4, epoch=1, opinions=[opinion])
    starts: list[str] = []

    def behave(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            starts.append(request[0].split()[1])
            peer.answer(answer)

    with serving(behave) as server, Client(server.url, deadline=PATIENT) as client:
        assert client.state() == answer
        client.state("豆&粕.DCE")
        client.state(route="rb-trend")
        client.state("rb2410.SHFE", "rb-trend")
    assert starts == [
        "/v1/state",
        "/v1/state?symbol=%E8%B1%86%26%E7%B2%95.DCE",
        "/v1/state?route=rb-trend",
        "/v1/state?symbol=rb2410.SHFE&route=rb-trend",
    ]


def test_ready() -> None:
    statuses = iter([200, 503])
    with (
        serving(every_time(lambda peer: peer.answer(b"{}", next(statuses)))) as server,
        Client(server.url, deadline=PATIENT) as client,
    ):
        assert client.ready() is True
        assert client.ready() is False
    with Client(server.url, deadline=PATIENT) as client:
        assert client.ready() is False  # nothing listens there any more


# The deadline


def dribble(peer: Peer) -> None:
    peer.request()
    body = msgspec.json.encode(DECISION)
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
    for byte in body:
        peer.send(bytes([byte]))
        if peer.ending.wait(0.05):
            return


def dribble_head(peer: Peer) -> None:
    peer.request()
    for byte in b"HTTP/1.1 200 OK\r\n" + b"x-more: 1\r\n" * 1000:
        peer.send(bytes([byte]))
        if peer.ending.wait(0.05):
            return


def dribble_chunks(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while not peer.ending.wait(0.02):
        peer.send(b"1\r\n \r\n")


def continue_for_ever(peer: Peer) -> None:
    peer.request()
    while not peer.ending.wait(0.02):
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")


def say_nothing(peer: Peer) -> None:
    peer.request()
    peer.hang()


def read_nothing(peer: Peer) -> None:
    peer.hang()


def stop_in_the_body(peer: Peer) -> None:
    peer.request()
    peer.send(b'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"outcome":')
    peer.hang()


@pytest.mark.parametrize(
    "act", [dribble, dribble_head, dribble_chunks, continue_for_ever, say_nothing, read_nothing, stop_in_the_body]
)
def test_the_deadline_is_kept(act: Callable[[Peer], None]) -> None:
    """And the one thread is free for the next call, on a connection of its own."""
    with serving(on_first_connection(act)) as server, Client(server.url, deadline=DEADLINE, connections=1) as client:
        assert elapsed(lambda: client.predict_one(SNAPSHOT), Problem.DEADLINE_EXCEEDED) < SOON
        assert client.predict_one(SNAPSHOT, deadline=PATIENT) == DECISION
        assert len(client_threads()) == 1
        assert server.accepted == 2


def test_the_connection_of_a_late_answer_is_closed() -> None:
    closed: list[bool] = []

    def act(peer: Peer) -> None:
        peer.request()
        closed.append(peer.closed_by_client())

    with serving(on_first_connection(act)) as server, Client(server.url, deadline=DEADLINE) as client:
        elapsed(lambda: client.predict_one(SNAPSHOT), Problem.DEADLINE_EXCEEDED)
        client.predict_one(SNAPSHOT, deadline=PATIENT)
    assert closed == [True]


def test_a_large_request_to_a_server_that_does_not_read() -> None:
    large = [msgspec.structs.replace(SNAPSHOT, consumer="x" * 1_000_000)] * 20
    with serving(read_nothing) as server, Client(server.url, deadline=0.3) as client:
        with pytest.raises(RouterError, match="while sending") as raised:
            client.predict(large)
        assert raised.value.problem is Problem.DEADLINE_EXCEEDED


def test_a_server_that_never_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(8)]  # they fill the queue of those to be accepted
        try:
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(address)
            with Client(f"http://127.0.0.1:{address[1]}", deadline=DEADLINE, connections=1) as client:
                for _ in range(2):
                    assert elapsed(lambda: client.predict_one(SNAPSHOT), Problem.DEADLINE_EXCEEDED) < SOON
        finally:
            for sock in waiting:
                sock.close()


def test_a_name_that_does_not_resolve_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many calls wait, one lookup is under way; and once it answers, calls go through."""
    answered = threading.Event()
    lookups: list[str] = []
    getaddrinfo = socket.getaddrinfo

    def slow(host: str, port: int, **options: Any) -> Any:
        lookups.append(host)
        answered.wait(PATIENT)
        return getaddrinfo("127.0.0.1", port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with serving(GOOD) as server, Client(f"http://router.example:{server.port}", DEADLINE, connections=2) as client:
        for _ in range(4):
            assert elapsed(lambda: client.predict_one(SNAPSHOT), Problem.DEADLINE_EXCEEDED) < SOON
        assert lookups == ["router.example"]
        answered.set()
        assert client.predict_one(SNAPSHOT, deadline=PATIENT) == DECISION
        assert lookups == ["router.example"]


@pytest.mark.parametrize("failure", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
def test_a_name_that_does_not_exist(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    lookups: list[str] = []

    def fail(host: str, port: int, **options: Any) -> Any:
        lookups.append(host)
        raise failure

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with Client("http://router.example", deadline=PATIENT) as client:
        for _ in range(2):
            elapsed(lambda: client.predict_one(SNAPSHOT), Problem.ROUTER_UNREACHABLE)
    assert len(lookups) == 2  # a failure is not remembered


def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = listener.getsockname()
    getaddrinfo = socket.getaddrinfo

    def two(host: str, port: int, **options: Any) -> Any:
        return getaddrinfo(dead[0], dead[1], **options) + getaddrinfo("127.0.0.1", port, **options)

    with serving(GOOD) as server:
        monkeypatch.setattr(socket, "getaddrinfo", two)
        with Client(f"http://router.example:{server.port}", deadline=PATIENT) as client:
            assert client.predict_one(SNAPSHOT) == DECISION


@pytest.mark.parametrize("deadline", [0.0, -1.0, -math.inf])
def test_no_time_left(deadline: float) -> None:
    with serving(GOOD) as server, Client(server.url) as client:
        elapsed(lambda: client.predict_one(SNAPSHOT, deadline=deadline), Problem.DEADLINE_EXCEEDED)
        assert client.predict_one(SNAPSHOT, deadline=PATIENT) == DECISION


def test_calls_wait_for_a_connection_within_their_own_deadlines() -> None:
    with serving(say_nothing) as server, Client(server.url, deadline=PATIENT, connections=2) as client:

        def call() -> None:
            with suppress(RouterError):
                client.predict_one(SNAPSHOT)

        long = [threading.Thread(target=call) for _ in range(2)]
        for thread in long:
            thread.start()
        while server.accepted < 2:
            time.sleep(0.001)
        with pytest.raises(RouterError, match="free connection") as raised:
            client.predict_one(SNAPSHOT, deadline=DEADLINE)
        assert raised.value.problem is Problem.DEADLINE_EXCEEDED
        assert len(client_threads()) == 2
        client.close()
        for thread in long:
            thread.join(PATIENT)
            assert not thread.is_alive()
        assert server.accepted == 2


def test_many_threads_share_a_client() -> None:
    def behave(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            asked = msgspec.json.decode(request[2], type=Snapshot)
            peer.answer(msgspec.structs.replace(DECISION, symbol=asked.symbol, ts_event=asked.ts_event))

    wrong: list[object] = []

    def call(client: Client, name: int) -> None:
        for number in range(1, 30):
            asked = msgspec.structs.replace(SNAPSHOT, symbol=f"s{name}.X", ts_event=number)
            got = client.predict_one(asked)
            if (got.symbol, got.ts_event) != (asked.symbol, number):
                wrong.append(got)

    with serving(behave) as server, Client(server.url, deadline=PATIENT, connections=3) as client:
        threads = [threading.Thread(target=call, args=(client, name)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert server.accepted <= 3
        assert len(client_threads()) <= 3


# Connections that break, and answers that are none


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", deadline=PATIENT) as client:
        with pytest.raises(RouterError, match=r"connecting: .*refused") as raised:
            client.predict_one(SNAPSHOT)
        assert raised.value.problem is Problem.ROUTER_UNREACHABLE
        assert isinstance(raised.value.__cause__, OSError)


def close_at_once(peer: Peer) -> None:
    peer.request()


def reset_at_once(peer: Peer) -> None:
    peer.request()
    peer.reset()


def close_in_the_head(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-")


def close_in_the_body(peer: Peer) -> None:
    peer.request()
    peer.send(b'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"outcome":')


def close_in_a_chunk(peer: Peer) -> None:
    peer.request()
    peer.send(b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\n{"outcome":')


@pytest.mark.parametrize("act", [close_at_once, reset_at_once, close_in_the_head, close_in_the_body, close_in_a_chunk])
def test_a_connection_that_breaks(act: Callable[[Peer], None]) -> None:
    """A fresh connection is not tried twice: who answers nothing to one will hardly answer the next."""
    with serving(on_first_connection(act)) as server, Client(server.url, deadline=PATIENT, connections=1) as client:
        elapsed(lambda: client.predict_one(SNAPSHOT), Problem.ROUTER_UNREACHABLE)
        assert server.accepted == 1
        assert client.predict_one(SNAPSHOT) == DECISION


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2OO OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
        HEAD + b"no colon\r\n\r\n",
        HEAD + b"content-length : 2\r\n\r\n{}",
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: 1_0\r\n\r\n",
        HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        HEAD + b"content-length: 99999999999999999999\r\n\r\n",
        HEAD + b"content-length: %d\r\n\r\n" % (_http.MAX_BODY + 1),
        HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n",
        HEAD + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
        HEAD + b"transfer-encoding: chunked\r\n\r\n-1\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n0x1\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % (_http.MAX_BODY + 1),
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n{}\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 10_000,
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"0" * 40_000,
        HEAD + b"x: y\r\n" * 10_000,
        HEAD + b"x: " + b"y" * 40_000 + b"\r\n\r\n",
    ],
    ids=lambda answer: repr(answer[-30:]),
)
def test_an_answer_that_is_not_http(answer: bytes) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.send(answer)
        peer.hang()

    with serving(on_first_connection(act)) as server, Client(server.url, deadline=PATIENT, connections=1) as client:
        with pytest.raises(RouterError, match="cannot be read") as raised:
            client.predict_one(SNAPSHOT)
        assert raised.value.problem is Problem.INTERNAL
        assert len(str(raised.value)) < 500
        assert client.predict_one(SNAPSHOT) == DECISION


@pytest.mark.parametrize("head", [HEAD, HEAD + b"transfer-encoding: chunked\r\n"])
def test_a_body_without_end_is_cut(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "MAX_BODY", 100_000)

    def act(peer: Peer) -> None:
        peer.request()
        peer.send(head + b"\r\n")
        while True:
            peer.send(b"400\r\n" + b" " * 0x400 + b"\r\n")

    with serving(on_first_connection(act)) as server, Client(server.url, deadline=PATIENT, connections=1) as client:
        with pytest.raises(RouterError, match="more than the 100000 bytes") as raised:
            client.predict_one(SNAPSHOT)
        assert raised.value.problem is Problem.INTERNAL
        assert client.predict_one(SNAPSHOT) == DECISION


BODY = msgspec.json.encode(DECISION)


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%X;note=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\nx-trailer: 1\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (HEAD + b"Content-Length:%d\r\n\r\n" % len(BODY) + BODY, True),
        (HEAD + b"Transfer-Encoding: Chunked\r\n\r\n" + chunked(BODY, 7), True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY, True),
        (b"HTTP/1.1 200\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY, True),
        (b"HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY, True),
        (b"HTTP/1.0 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY, False),
        (HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY, False),
    ],
    ids=["length", "chunked", "continue", "no reason", "1.0 kept", "1.0", "close"],
)
@pytest.mark.parametrize("step", [1, 3, 100_000])
def test_ways_to_answer(answer: bytes, kept: bool, step: int) -> None:
    def act(peer: Peer) -> None:
        for at in range(0, len(answer), step):
            peer.send(answer[at : at + step])

    with serving(every_time(act)) as server, Client(server.url, deadline=PATIENT, connections=1) as client:
        for _ in range(3):
            assert client.predict_one(SNAPSHOT) == DECISION
        assert server.accepted == (1 if kept else 3)


def test_an_answer_with_something_behind_it_ends_its_connection() -> None:
    answer = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY + b"HTTP/1.1 200 OK\r\n"
    with (
        serving(every_time(lambda peer: peer.send(answer))) as server,
        Client(server.url, deadline=PATIENT, connections=1) as client,
    ):
        for _ in range(3):
            assert client.predict_one(SNAPSHOT) == DECISION
        assert server.accepted == 3


def test_an_answer_that_ends_with_its_connection() -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.send(HEAD + b"\r\n" + BODY)

    with serving(act) as server, Client(server.url, deadline=PATIENT) as client:
        assert client.predict_one(SNAPSHOT) == DECISION
        assert client.predict_one(SNAPSHOT) == DECISION
        assert server.accepted == 2


def test_a_large_answer() -> None:
    many = [DECISION] * 20_000
    with serving(every_time(lambda peer: peer.answer(many))) as server, Client(server.url, deadline=PATIENT) as client:
        assert client.predict([SNAPSHOT]) == many


def test_a_fault_of_the_client_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gets it, and the thread lives on."""
    exchange = _http.Connection.exchange
    faults = iter([LookupError("a bug")])

    def fail_once(self: _http.Connection, request: bytes, until: float) -> _http.Answer:
        for fault in faults:
            raise fault
        return exchange(self, request, until)

    monkeypatch.setattr(_http.Connection, "exchange", fail_once)
    with serving(GOOD) as server, Client(server.url, deadline=PATIENT, connections=1) as client:
        with pytest.raises(RouterError, match="LookupError: a bug") as raised:
            client.predict_one(SNAPSHOT)
        assert raised.value.problem is Problem.INTERNAL
        assert client.predict_one(SNAPSHOT) == DECISION


# Kept connections


def test_a_router_that_restarted() -> None:
    """Each idle connection is stale; calls go through as if nothing had been."""
    first = Server(GOOD)
    with Client(first.url, deadline=PATIENT, connections=2) as client:
        client.predict_one(SNAPSHOT)
        first.close()
        second = Server(GOOD, port=first.port)
        try:
            for _ in range(3):
                assert client.predict_one(SNAPSHOT) == DECISION
            assert second.accepted == 1
        finally:
            second.close()


def twice_then(end: Callable[[Peer], None]) -> Callable[[Peer], None]:
    """Answer once, take a second request, and end the first connection so; answer on all others."""

    def act(peer: Peer) -> None:
        peer.request()
        peer.answer()
        peer.request()
        end(peer)

    return on_first_connection(act)


@pytest.mark.parametrize("end", [lambda peer: None, Peer.reset])
def test_a_kept_connection_that_ends_unanswered_is_tried_once_more(end: Callable[[Peer], None]) -> None:
    with serving(twice_then(end)) as server, Client(server.url, deadline=PATIENT) as client:
        assert client.predict_one(SNAPSHOT) == DECISION
        assert client.predict_one(SNAPSHOT) == DECISION
        assert server.accepted == 2


def test_it_is_tried_once_more_and_no_more() -> None:
    def behave(peer: Peer) -> None:
        peer.request()
        if peer.number == 1:
            peer.answer()
            peer.request()

    with serving(behave) as server, Client(server.url, deadline=PATIENT) as client:
        client.predict_one(SNAPSHOT)
        elapsed(lambda: client.predict_one(SNAPSHOT), Problem.ROUTER_UNREACHABLE)
        assert server.accepted == 2


def test_it_is_tried_once_more_within_the_deadline() -> None:
    def behave(peer: Peer) -> None:
        peer.request()
        if peer.number == 1:
            peer.answer()
            peer.request()
        else:
            peer.hang()

    with serving(behave) as server, Client(server.url, deadline=PATIENT) as client:
        client.predict_one(SNAPSHOT)
        call = lambda: client.predict_one(SNAPSHOT, deadline=DEADLINE)  # noqa: E731
        assert elapsed(call, Problem.DEADLINE_EXCEEDED) < SOON
        assert server.accepted == 2


def test_a_break_in_the_middle_of_an_answer_is_not_tried_again() -> None:
    with (
        serving(twice_then(lambda peer: peer.send(b"HTTP/1.1 200 OK\r\n"))) as server,
        Client(server.url, deadline=PATIENT) as client,
    ):
        client.predict_one(SNAPSHOT)
        elapsed(lambda: client.predict_one(SNAPSHOT), Problem.ROUTER_UNREACHABLE)
        assert server.accepted == 1


def test_bytes_that_nobody_asked_for_answer_nothing() -> None:
    """They came on an idle connection; as the next answer they would be another snapshot's decision."""
    sent = threading.Event()
    other = Decision(outcome=Outcome.SUPPRESSED)  # says neither symbol nor time, so only its arrival betrays it

    def act(peer: Peer) -> None:
        peer.request()
        peer.answer()
        peer.answer(other)
        sent.set()
        peer.hang()

    with serving(on_first_connection(act)) as server, Client(server.url, deadline=PATIENT) as client:
        assert client.predict_one(SNAPSHOT) == DECISION
        assert sent.wait(PATIENT)
        assert client.predict_one(SNAPSHOT) == DECISION
        assert server.accepted == 2


def test_an_early_refusal_of_a_large_request_is_read() -> None:
    body = msgspec.json.encode(describe(Problem.BODY_TOO_LARGE, status=413))

    def act(peer: Peer) -> None:
        peer.answer(body, 413, "connection: close\r\n")
        peer.closed_by_client()

    large = [msgspec.structs.replace(SNAPSHOT, consumer="x" * 100_000)]
    with serving(act) as server, Client(server.url, deadline=PATIENT) as client:
        with pytest.raises(CallerError) as raised:
            client.predict(large)
        assert raised.value.problem is Problem.BODY_TOO_LARGE


# Its life


def test_a_closed_client_says_so() -> None:
    with serving(GOOD) as server:
        client = Client(server.url, deadline=PATIENT)
        client.predict_one(SNAPSHOT)
        client.close()
        client.close()
        for call in (lambda: client.predict_one(SNAPSHOT), client.state, client.ready):
            with pytest.raises(RuntimeError, match="closed"):
                call()


def test_closing_ends_calls_under_way() -> None:
    raised: list[RouterError] = []
    with serving(say_nothing) as server:
        client = Client(server.url, deadline=PATIENT)

        def call() -> None:
            try:
                client.predict_one(SNAPSHOT)
            except RouterError as exc:
                raised.append(exc)

        thread = threading.Thread(target=call)
        thread.start()
        while not server.accepted:
            time.sleep(0.001)
        client.close()
        thread.join(PATIENT)
    assert [exc.problem for exc in raised] == [Problem.ROUTER_UNREACHABLE]
    assert "closed" in str(raised[0])


def test_a_forgotten_client_ends_its_threads() -> None:
    with serving(GOOD) as server:
        client = Client(server.url, deadline=PATIENT)
        client.predict_one(SNAPSHOT)
        threads = client_threads()
        del client
        gc.collect()
        for thread in threads:
            thread.join(PATIENT)
            assert not thread.is_alive()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises here, also where the test run itself was started with it ignored, as shells do in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_call_leaves_nothing_behind() -> None:
    with serving(on_first_connection(say_nothing)) as server, Client(server.url, PATIENT, connections=1) as client:
        main = threading.get_ident()

        def interrupt() -> None:
            while not server.accepted:
                time.sleep(0.001)
            signal.pthread_kill(main, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            client.predict_one(SNAPSHOT)
        thread.join()
        assert client.predict_one(SNAPSHOT) == DECISION


def test_after_a_fork_it_says_so() -> None:
    with serving(GOOD) as server, Client(server.url, deadline=PATIENT) as client:
        client.predict_one(SNAPSHOT)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads, which is what is tested
            pid = os.fork()
        if pid == 0:
            code = 1
            try:
                client.predict_one(SNAPSHOT)
            except RuntimeError as exc:
                client.close()
                code = 0 if "fork" in str(exc) else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert client.predict_one(SNAPSHOT) == DECISION  # the parent's connection is untouched
        assert server.accepted == 1


def test_an_unclosed_client_does_not_hold_up_the_end_of_the_process() -> None:
    script = """
import sys, threading
from signalyard import Client, Snapshot
client = Client(sys.argv[1], deadline=600)
call = lambda: client.predict_one(Snapshot(symbol="a.B", ts_event=1, features={}))
threading.Thread(target=call, daemon=True).start()
sys.stdin.readline()
"""
    with (
        serving(say_nothing) as server,
        subprocess.Popen([sys.executable, "-c", script, server.url], stdin=subprocess.PIPE) as process,
    ):
        while not server.accepted:
            time.sleep(0.001)
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(PATIENT)
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("settings", "pointer"),
    [
        ({"url": "127.0.0.1:8090"}, "/url"),
        ({"url": "https://router"}, "/url"),
        ({"url": "http://"}, "/url"),
        ({"url": "http://router:port"}, "/url"),
        ({"url": "http://router:99999"}, "/url"),
        ({"url": "http://user:secret@router"}, "/url"),
        ({"url": "http://router/?a=b"}, "/url"),
        ({"url": "http://router/a b"}, "/url"),
        ({"url": "http://router/\r\nx: y"}, "/url"),
        ({"url": "http://[::1"}, "/url"),
        ({"deadline": 0}, "/deadline"),
        ({"deadline": -1.0}, "/deadline"),
        ({"deadline": math.nan}, "/deadline"),
        ({"deadline": 100_000}, "/deadline"),
        ({"connections": 0}, "/connections"),
        ({"token": ""}, "/token"),
        ({"token": "a\r\nb"}, "/token"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], pointer: str) -> None:
    with pytest.raises(CallerError) as raised:
        Client(**settings)
    assert (raised.value.problem, raised.value.pointer) == (Problem.INVALID_SETTING, pointer)


@pytest.mark.parametrize("deadline", [math.nan, math.inf, 100_000.0])
def test_a_deadline_that_makes_no_sense(deadline: float) -> None:
    with Client() as client, pytest.raises(CallerError, match="in seconds"):
        client.predict_one(SNAPSHOT, deadline=deadline)


def test_it_does_not_show_its_token() -> None:
    with Client("http://router:1/desk", token="s3cret") as client:
        assert repr(client) == "Client('http://router:1/desk', deadline=0.1)"
