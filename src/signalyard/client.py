"""The blocking client of the router, for strategies.

    with Client("http://127.0.0.1:8090", deadline=0.1) as client:
        decision = client.predict_one(Snapshot(symbol="rb2410.SHFE", ts_event=..., features={"close": 3512.0}))

**The deadline is kept whatever the network does.** A call runs on one of the client's own threads and the caller waits for it
until the deadline, no longer. At the deadline the connection is shut down, so that its thread comes free at once; each step
on that thread is bounded by the same point in time besides.

**A late answer is no refusal.** After ``deadline_exceeded``, or when a connection broke, the router may have decided. Sending
the same snapshot again is safe: the router's commit is idempotent, the same snapshot gets the decision that was made. That is
also why a call on a kept connection that proves to be closed is sent once more on a fresh one.

The errors are those of :mod:`signalyard.problems`: CallerError, ModelError and RouterError, by whose fault it was.
"""

import os
import string
import threading
import time
import weakref
from collections.abc import Callable, Collection
from queue import SimpleQueue
from types import TracebackType
from typing import Self
from urllib.parse import quote

import msgspec

from signalyard import _http
from signalyard._bodies import Snapshots, encode, only, read_decisions, read_state
from signalyard._url import read_url
from signalyard.clients import LONGEST_DEADLINE, Background, Subscribing
from signalyard.following import wanted
from signalyard.problems import (
    Problem,
    ProblemDetails,
    RouterError,
    SignalyardError,
    error,
)
from signalyard.subscription import Now, Subscription
from signalyard.wire import BUDGET_HEADER, Decision, Snapshot, StateAnswer
from signalyard.wires.rest import RestWire

_CLOSING = 1.0
"""Seconds that close() waits for the client's threads, which have been told to stop."""
_problem_decoder = msgspec.json.Decoder(ProblemDetails)
_TOKEN_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-._~+/=")


class Client:
    """A blocking client of the router; it may be shared between threads.

    ``url`` is the router's, with a path if it is served under one; plain HTTP only. ``deadline`` is in seconds, for calls that
    name none of their own. ``connections`` is how many calls travel at a time, each on a thread; more calls wait their turn
    within their own deadlines. ``token`` is sent as a bearer token.

    A client belongs to the process that made it: after a fork, and after close(), its methods raise RuntimeError. Settings that
    make no sense raise CallerError (invalid_setting).
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8090",
        deadline: float = 0.1,
        connections: int = 4,
        token: str | None = None,
    ) -> None:
        host, port, authority, prefix = read_url(url)
        if not 0 < deadline <= LONGEST_DEADLINE:
            raise error(
                Problem.INVALID_SETTING,
                f"the deadline is in seconds, above 0 and at most {LONGEST_DEADLINE:.0f}; it is {deadline}",
                "/deadline",
            )
        if connections < 1:
            raise error(Problem.INVALID_SETTING, f"at least 1 connection is needed, not {connections}", "/connections")
        if token is not None and (not token or not _TOKEN_CHARACTERS.issuperset(token)):
            raise error(
                Problem.INVALID_SETTING, "a token is made of the characters A-Z a-z 0-9 - . _ ~ + / =", "/token"
            )
        self._url = url
        self._deadline = deadline
        common = f"host: {authority}\r\naccept: application/json\r\nuser-agent: signalyard-client\r\n"
        if token is not None:
            common += f"authorization: Bearer {token}\r\n"
        self._prefix = prefix
        self._get_headers = f" HTTP/1.1\r\n{common}{BUDGET_HEADER}: ".encode()
        self._predict_head = (
            f"POST {prefix}/v1/predict HTTP/1.1\r\n{common}content-type: application/json\r\n{BUDGET_HEADER}: "
        ).encode()
        self._workers = _Workers(_http.Resolver(host, port), connections)
        self._background = Background()
        self._subscribing = Subscribing(self._background, lambda: RestWire(url, token))
        # The threads hold the workers and not the client, so that a forgotten client ends too.
        self._finalizer = weakref.finalize(self, self._workers.close)

    def predict(self, snapshots: Snapshots, *, deadline: float | None = None) -> list[Decision]:
        """Ask for decisions: one for each row and each route that matches it, in the order of the rows (``Decision.row``).

        In a request of several rows a bad one is a decision with the outcome ``rejected`` and its ``problem``. A single Snapshot
        that is rejected raises CallerError with problem, detail and pointer instead. Where a value of a feature is infinite
        CallerError (feature_not_finite) is raised and nothing has been sent; NaN and None mean missing.

        ``deadline`` is in seconds. Raises RouterError: deadline_exceeded (at once if ``deadline`` is not above 0),
        router_unreachable, internal where the answer cannot be read, and what the router itself answers.
        """
        until = self._until(deadline)
        body = encode(snapshots)
        answer = self._call(
            lambda budget: b"%b%d\r\ncontent-length: %d\r\n\r\n%b" % (self._predict_head, budget, len(body), body),
            until,
        )
        if answer.status != 200:
            raise _problem(answer)
        return read_decisions(snapshots, answer.body)

    def predict_one(self, snapshot: Snapshot, *, deadline: float | None = None) -> Decision:
        """Ask for the decision on one snapshot, in ``deadline`` seconds. Raises as :meth:`predict` does.

        For instruments that one route serves, or a snapshot that names its route. Where several routes decided, their decisions
        stand and SeveralDecisionsError (a CallerError, unknown_route) carries them; where none did, RouterError (internal).
        """
        return only(snapshot, self.predict(snapshot, deadline=deadline))

    def state(
        self, symbol: str | None = None, route: str | None = None, *, deadline: float | None = None
    ) -> StateAnswer:
        """Read what the routes last said, of all instruments or ``symbol``, of all routes or ``route``.

        For reconciling on connect and after a gap in ``seq``. Raises as :meth:`predict` does.
        """
        asked = [
            f"{name}={quote(value, safe='')}"
            for name, value in (("symbol", symbol), ("route", route))
            if value is not None
        ]
        answer = self._get("/v1/state" + ("?" + "&".join(asked) if asked else ""), self._until(deadline))
        if answer.status != 200:
            raise _problem(answer)
        return read_state(answer.body)

    def subscribe(
        self, symbols: str | Collection[str] = (), *, route: str | None = None, now: Now = time.time_ns
    ) -> Subscription:
        """Signals of some instruments, or of all, as they leave; see :mod:`signalyard.subscription`. Never blocks.

        ``now`` is the time by which they expire, for a router that runs on another clock than the machine's.
        """
        return self._subscribing.subscribe(wanted(symbols, route), now)

    def ready(self, *, deadline: float | None = None) -> bool:
        """Whether the router answers, within ``deadline`` seconds, that it is ready. Raises nothing of the network's."""
        try:
            return self._get("/readyz", self._until(deadline)).status == 200
        except RouterError:
            return False

    def close(self) -> None:
        """Close the connections and end the threads; calls under way in other threads raise RouterError (router_unreachable)."""
        self._subscribing.close()
        self._background.close()
        self._finalizer()
        self._workers.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._url!r}, deadline={self._deadline})"

    def _until(self, deadline: float | None) -> float:
        seconds = self._deadline if deadline is None else deadline
        if not seconds <= LONGEST_DEADLINE:  # NaN too
            raise error(
                Problem.INVALID_SETTING,
                f"the deadline is in seconds, at most {LONGEST_DEADLINE:.0f}; it is {seconds}",
                "/deadline",
            )
        return time.monotonic() + seconds

    def _get(self, target: str, until: float) -> _http.Answer:
        head = f"GET {self._prefix}{target}".encode() + self._get_headers
        return self._call(lambda budget: b"%b%d\r\n\r\n" % (head, budget), until)

    def _call(self, request: Callable[[int], bytes], until: float) -> _http.Answer:
        call = _Call(request, until)
        self._workers.submit(call)
        return call.wait()


class _Call:
    """One call on its way: the caller waits for it, a worker makes it, and whoever is first says how it ended."""

    __slots__ = ("_connection", "_done", "_lock", "_outcome", "_request", "until")

    def __init__(self, request: Callable[[int], bytes], until: float) -> None:
        self.until = until
        self._request = request
        self._lock = threading.RLock()
        self._done = threading.Lock()
        self._done.acquire()  # released when the call has ended
        self._outcome: _http.Answer | SignalyardError | None = None
        self._connection: _http.Connection | None = None

    def wait(self) -> _http.Answer:
        """The answer. Raises the error that the call ended with, deadline_exceeded when the deadline comes first."""
        try:
            if not self._done.acquire(timeout=max(0.0, self.until - time.monotonic())):
                self.abandon(None)
        except BaseException:  # a KeyboardInterrupt must not leave a call behind
            self.abandon(None)
            raise
        outcome = self._outcome
        assert outcome is not None
        if isinstance(outcome, SignalyardError):
            raise outcome
        return outcome

    def abandon(self, why: SignalyardError | None) -> None:
        """End the call, if it has not ended, without its worker, which is freed; None stands for the deadline."""
        with self._lock:
            if self._outcome is not None:
                return
            self._outcome = why or _late(self._connection)
            if self._connection is not None:
                self._connection.interrupt()
        self._done.release()

    def end(self, outcome: _http.Answer | SignalyardError) -> bool:
        """End the call, if it has not ended; :meth:`wake` is to follow. The connection is the worker's alone from then on."""
        with self._lock:
            self._connection = None
            if self._outcome is not None:
                return False
            self._outcome = outcome
            return True

    def wake(self) -> None:
        """Let the caller go on."""
        self._done.release()

    def request(self) -> bytes:
        """The request as it is to be sent now, with what remains of the deadline. Raises TimeoutError."""
        budget = int((self.until - time.monotonic()) * 1_000_000)
        if budget <= 0:
            raise TimeoutError
        return self._request(budget)

    def travel_on(self, connection: _http.Connection) -> None:
        """Note the connection that an abandoned call has to interrupt. Raises TimeoutError where it has ended already."""
        with self._lock:
            if self._outcome is not None:
                raise TimeoutError
            self._connection = connection


class _Workers:
    """A bounded number of threads that make calls, started as they are needed, and the connections that they keep."""

    def __init__(self, resolver: _http.Resolver, connections: int) -> None:
        self._resolver = resolver
        self._most = connections
        self._pid = os.getpid()
        # Reentrant, because a forgotten client may be collected, and closed, at any allocation under this lock.
        self._lock = threading.RLock()
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._calls: set[_Call] = set()
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._kept: list[_http.Connection] = []

    def submit(self, call: _Call) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(f"this client belongs to process {self._pid}: make one of your own after a fork")
        with self._lock:
            if self._closed:
                raise RuntimeError("this client is closed")
            if len(self._calls) >= len(self._threads) < self._most:
                thread = threading.Thread(target=self._run, name=f"signalyard-client-{len(self._threads)}", daemon=True)
                thread.start()
                self._threads.append(thread)
            self._calls.add(call)
            self._queue.put(call)

    def close(self) -> None:
        if os.getpid() != self._pid:  # the locks may be held by threads that did not come along
            for connection in self._kept:
                connection.close()
            return
        with self._lock:
            self._closed = True
            calls = list(self._calls)
            threads = list(self._threads)
        for call in calls:
            call.abandon(error(Problem.ROUTER_UNREACHABLE, "the client was closed while the call was under way"))
        for _ in threads:
            self._queue.put(None)
        while self._kept:
            self._kept.pop().close()

    def join(self) -> None:
        """Wait for the threads, which have been told to stop; not for long, they hold nothing up."""
        if os.getpid() != self._pid:
            return
        until = time.monotonic() + _CLOSING
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            self._make(call)
            del call  # or an idle thread holds the last answer

    def _make(self, call: _Call) -> None:
        connection = self._take()
        try:
            try:
                answer = self._attempt(call, connection)
            except _http.StaleError:
                # The server closed a kept connection, most likely before it saw this request. If it did see it: the router's
                # commit is idempotent, so the second sending gets the decision that the first one made.
                connection.close()
                connection = _http.Connection()
                answer = self._attempt(call, connection)
        except Exception as exc:  # noqa: BLE001 -- whatever happened, the caller waits for an outcome
            first = call.end(_translate(exc, connection))
        else:
            first = call.end(answer)
        # All is put back before the caller wakes, so that its next call finds this thread and this connection.
        with self._lock:
            self._calls.discard(call)
            keep = first and connection.reusable and not self._closed
            if keep:
                self._kept.append(connection)
        if not keep:
            connection.close()
        if first:
            call.wake()

    def _attempt(self, call: _Call, connection: _http.Connection) -> _http.Answer:
        call.travel_on(connection)
        if connection.fresh:
            connection.open(self._resolver, call.until)
        return connection.exchange(call.request(), call.until)

    def _take(self) -> _http.Connection:
        while True:
            try:
                connection = self._kept.pop()
            except IndexError:
                return _http.Connection()
            if connection.is_quiet():
                return connection
            connection.close()


def _problem(answer: _http.Answer) -> SignalyardError:
    """The error that an answer other than 200 means."""
    try:
        details = _problem_decoder.decode(answer.body)
    except (ValueError, RecursionError):
        shown = answer.body[:200].decode(errors="replace")
        # What a proxy says when there is no router behind it.
        gone = answer.status in (502, 503, 504)
        problem = Problem.ROUTER_UNREACHABLE if gone else Problem.INTERNAL
        return error(problem, f"HTTP {answer.status} and no problem that this client knows: {shown!r}")
    return error(details.code, details.detail, details.pointer)


def _late(connection: _http.Connection | None) -> SignalyardError:
    step = "waiting for a free connection" if connection is None else connection.step
    return error(Problem.DEADLINE_EXCEEDED, f"the deadline passed while {step}")


def _translate(exc: Exception, connection: _http.Connection) -> SignalyardError:
    """The one place where what went wrong on the way becomes a problem."""
    match exc:
        case TimeoutError():
            problem = _late(connection)
        case _http.UnreadableError():
            problem = error(Problem.INTERNAL, f"the router's answer cannot be read: {exc}")
        case OSError() | _http.StaleError():
            problem = error(Problem.ROUTER_UNREACHABLE, f"{connection.step}: {exc}")
        case _:
            problem = error(Problem.INTERNAL, f"the client failed: {type(exc).__name__}: {exc}")
    problem.__cause__ = exc
    return problem
