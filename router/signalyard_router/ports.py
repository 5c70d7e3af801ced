"""What the router needs from outside, one Protocol each, and no logic.

Whoever implements one of these owes what its docstring promises; `testing` has the simulated ones.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol, TypeVar

import msgspec

from signalyard.problems import ModelError, Problem, RouterError
from signalyard.profile import ModelCard, ScoredRows
from signalyard.wire import Decision, Opinion, Signal
from signalyard.words import Direction
from signalyard_router.rules.alarm import Alert
from signalyard_router.rules.breaker import BreakerState
from signalyard_router.rules.documents import Document
from signalyard_router.rules.groups import GroupStanding
from signalyard_router.rules.inference import Call, Inference, Inferred
from signalyard_router.rules.levers import Lever, Order
from signalyard_router.rules.plan import Progress
from signalyard_router.rules.proposal import Proposal
from signalyard_router.rules.record import CallRecord, ShadowNote
from signalyard_router.rules.route import Endpoint, Route, Target

_T = TypeVar("_T")


class Try(msgspec.Struct, frozen=True):
    """An endpoint that was asked and did not answer rightly; ``elapsed`` is nanoseconds."""

    endpoint: str
    problem: Problem
    detail: str
    elapsed: int


class Scored(msgspec.Struct, frozen=True):
    """A model's answer, the endpoint that gave it, and those that were asked in vain."""

    rows: ScoredRows
    endpoint: str
    tries: tuple[Try, ...] = ()


class Passed(msgspec.Struct, frozen=True):
    """The answer of a call that was passed through, the endpoint that gave it, and those that were asked in vain."""

    answer: Inferred
    endpoint: str
    tries: tuple[Try, ...] = ()


class CallFailed(ModelError):  # noqa: N818 -- it is one of the ends of a call
    """No endpoint answered. ``tries`` are those that were asked, none where every breaker is open."""

    def __init__(self, problem: Problem, detail: str = "", tries: tuple[Try, ...] = ()) -> None:
        super().__init__(problem, detail)
        self.tries = tries


class EndpointStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint of a target, for people. ``version`` and ``digest`` are what it last said that it serves."""

    endpoint: str
    breaker: BreakerState
    in_flight: int
    ready: bool
    version: str | None
    digest: str | None
    problem: str | None


class Upstream(Protocol):
    """The model servers."""

    def card(self, target: Target) -> ModelCard | None:
        """What the target's endpoints serve now (version, digest, schema), or None while it has not been learnt. Never blocks.

        It is of another version than the target's where no endpoint has that one: drift.
        """
        ...

    def retarget(self, targets: Iterable[Target]) -> None:
        """These are the targets from now on; whoever still calls another one is served."""
        ...

    async def asked(self, targets: Iterable[Target]) -> None:
        """Return once each endpoint of these targets, which were given to `retarget`, was asked what it serves, whatever it answered."""
        ...

    async def score(
        self, target: Target, card: ModelCard, rows: Sequence[Sequence[float | None]], until: int
    ) -> Scored:
        """Score ``rows`` [n, features of the card] by the card's version, by ``until``, monotonic nanoseconds.

        Raises CallFailed, never anything else, and never later than ``until``: model_unreachable as soon as no endpoint
        can be reached, model_overloaded as soon as none takes another call, model_timeout at ``until``, others for answers
        that cannot be trusted. Cancelling it closes the connections that it used.
        """
        ...

    async def infer(self, target: Target, card: ModelCard, asked: Inference, until: int) -> Passed:
        """Pass a call on to the card's version, by ``until``, monotonic nanoseconds; its tensors go as they are.

        Raises CallFailed as `score` does, and CallerError (invalid_inference) where the model server says that the input is bad. What
        its input may have caused is not held against an endpoint: no feature schema stands between a caller's tensors and it.
        """
        ...

    def chunk(self, target: Target, budget: int) -> int:
        """How many rows one call should carry at most, to be answered within ``budget`` nanoseconds."""
        ...

    def share(self, target: Target, rows: int) -> int:
        """How many rows one call should carry of ``rows`` that several requests have for the target at once.

        So many that none waits long for the others', and that every endpoint gets its part; 1 where rows should go apart.
        """
        ...

    def endpoints(self, target: Target) -> list[EndpointStatus]:
        """The target's endpoints as they stand."""
        ...


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What the journal settled of one proposal; ``repeated`` where it had settled the same one before.

    ``direction`` is what the mapping made of its answer, whatever filters and gate made of that; ``held`` is what hysteresis
    started from.
    """

    decision: Decision
    repeated: bool
    direction: Direction | None = None
    held: Direction | None = None


class JournalInDoubt(RouterError):  # noqa: N818 -- it names a state, and callers tell it from the error by type
    """Whether a batch was recorded cannot be known; the record, once readable, is the truth."""


class Journal(Protocol):
    """The record of decisions and the gate before it. A decision is in the record before ``commit`` returns it."""

    @property
    def now(self) -> int:
        """The journal's time, UTC nanoseconds; it never steps back."""
        ...

    @property
    def event_time(self) -> bool:
        """True where the journal's time is the newest event time that it has seen, False where it is the wall clock's."""
        ...

    @property
    def epoch(self) -> int:
        """The number under which the sequences of this journal run on."""
        ...

    @property
    def available(self) -> bool:
        """False from a failed commit until the next one that succeeds."""
        ...

    def owner(self, route: str, symbol: str) -> str | None:
        """The version that holds the instrument's open position: the one that was to decide when it was last signalled.
        None while the instrument is flat."""
        ...

    @property
    def levers(self) -> Sequence[Lever]:
        """The levers that were pulled and not let go, oldest first; some may have lapsed by themselves."""
        ...

    @property
    def plans(self) -> Mapping[str, Progress]:
        """Where each route's plan stands."""
        ...

    async def step(self, route: str, progress: Progress, evidence: dict[str, float]) -> bool:
        """Record that a plan takes a step; its time becomes the record's. False where the plan was interrupted before: then there is
        no record. Raises RouterError as `commit` does."""
        ...

    def latches(self) -> list[tuple[str, str | None]]:
        """What is latched: (route, None) by its rate, (route, instrument) by its changes of side."""
        ...

    def groups(self) -> list[GroupStanding]:
        """The groups in force."""
        ...

    def documents(self) -> list[tuple[Document, str]]:
        """The newest accepted documents, each with its place, those of routes and groups that were taken away left out."""
        ...

    async def accept(self, documents: Sequence[tuple[Document, str]]) -> list[Route]:
        """Take these documents, each with its place, into force, and every other route and group out of it. Groups bind every
        commit from their record on.

        Raises CallerError (invalid_document), and RouterError as `commit` does.
        """
        ...

    async def pull(self, order: Order, base: str = "") -> Lever:
        """Record a lever; from its record on it binds every commit. ``base`` is what a weight stands against.

        The order has been checked. Raises RouterError as `commit` does.
        """
        ...

    def settled(self, proposal_id: str) -> Decision | None:
        """The stored decision of a proposal that was committed before, as far back as the journal remembers."""
        ...

    def opinions(self) -> list[Opinion]:
        """What each route last said of each instrument."""
        ...

    @property
    def prompt(self) -> bool:
        """Whether the future of `commit` is done by the end of the event loop's next turn, whatever happens: then there is no
        waiting for it to be bounded."""
        ...

    def commit(self, proposals: Sequence[Proposal], *, alone: bool = False) -> asyncio.Future[list[Settled]]:
        """Settle a batch, in order; the future has what became of it. Completing the future from outside does not undo it.

        ``alone``: nothing else is on its way, so there is no use in waiting for what could share its write.

        The call, or the future, raises RouterError: journal_unavailable where nothing of the batch was recorded; JournalInDoubt where that cannot be
        known, and the record, once readable, is the truth.
        """
        ...

    def call(self, call: Call) -> asyncio.Future[list[CallRecord]]:
        """Record a call that was passed through; the future has its one record. Both raise as `commit` does."""
        ...

    def note(self, notes: Sequence[ShadowNote]) -> int:
        """Keep what is worth a record and not a write of its own; it goes out with a later commit, or is lost with it.

        The answer is how many were taken: what waits is bounded. Never blocks.
        """
        ...


class Sink(Protocol):
    """Where signals go besides the answers to their callers."""

    @property
    def name(self) -> str:
        """What tells it from other sinks; of the letters a-z, digits and ``-``, because a file is named after it."""
        ...

    async def send(self, signals: Sequence[Signal]) -> None:
        """Hand signals on, in their order, each at least once; it returns when they need not be kept for it any longer.

        Raises OSError where not all of them have left; then all of them are handed to it again. Whoever calls bounds it in time by
        cancelling.
        """
        ...


class Place(msgspec.Struct, frozen=True, order=True):
    """Where a shared log stands. ``token`` names the entry at ``position``; positions are counted from one epoch to the next."""

    epoch: int = 0
    position: int = 0
    token: str = ""


class LogEntry(msgspec.Struct, frozen=True):
    """What one commit put into a shared log: its records, a line each. ``token`` is a name that nobody else gives."""

    position: int
    token: str
    body: bytes


class LogState(msgspec.Struct, frozen=True):
    """A shared log as it stands. ``whole``: nothing that was appended can have been lost.

    ``held_from`` is the journal's time, UTC nanoseconds, at which its epoch began; ``clock`` what that time is.
    """

    place: Place
    whole: bool
    held_from: int
    clock: str


class Appended(StrEnum):
    """What became of an entry. All but the first say that it is not in the log, and never will be."""

    DONE = "done"
    BEHIND = "behind"
    """Others appended meanwhile; what they did has been told."""
    WAIT = "wait"
    """It is another replica's turn, for milliseconds."""
    LATE = "late"
    """It was taken up so late that nobody waits for it."""
    LOST = "lost"
    """The log is not the one that was known: it goes on under another epoch, or what it held may be lost."""


class LogReader(Protocol):
    """Who follows a shared log."""

    def took(self, epoch: int, entry: LogEntry) -> None:
        """An entry was appended, by whomever, also by this process; in order, and now and then one is left out or comes again."""
        ...

    def away(self) -> None:
        """The log can no longer be heard."""
        ...


class SharedLog(Protocol):
    """A log that several processes append to, each entry whole or not at all, and in one order for all of them.

    Every call raises RouterError (journal_unavailable) where the log cannot be reached or refuses, and is bounded in time.
    """

    @property
    def name(self) -> str:
        """Where it is, for people."""
        ...

    async def open(self, reader: LogReader) -> None:
        """Reach it, and tell ``reader`` of every entry from now on. Raises CallerError (invalid_setting) where it cannot be trusted."""
        ...

    async def state(self) -> LogState | None:
        """How it stands; None where there is no log."""
        ...

    async def entries(self, epoch: int, after: int, count: int) -> list[LogEntry]:
        """At most ``count`` entries behind a position, oldest first; none where the epoch is another one."""
        ...

    async def snapshot(self) -> LogEntry | None:
        """What was last kept as the state at a position."""
        ...

    def append(
        self, place: Place, entry: LogEntry, signals: Sequence[bytes], *, insist: bool
    ) -> "asyncio.Future[Appended]":
        """Append an entry behind ``place`` and give its signals out, both or neither. ``insist``: if others were first, the next turn is
        this replica's.

        The future raises JournalInDoubt where it may have been appended and no answer came.
        """
        ...

    async def keep(self, epoch: int, snapshot: LogEntry, forget: int) -> None:
        """Keep the state at a position, and forget the entries before the position ``forget``."""
        ...

    async def offer(self, place: Place, newest: int) -> bool:
        """Say how far this replica knows the log that was lost, and the time of the newest record that it knows; whether no replica that
        is there knows it further."""
        ...

    async def begin(self, before: Place | None, state: LogState, snapshot: LogEntry) -> bool:
        """Begin a new epoch, with nothing but a state, in the place of the log that stands at ``before``, None where there was none; False
        where another replica was quicker."""
        ...

    async def close(self) -> None:
        """Give it up."""
        ...


class Watch(Protocol):
    """Who looks on, and says what is wrong. It hears of recorded decisions from the journal."""

    def put(self, route: Route) -> None:
        """This route is, or is about to be, in force. The same one again costs nothing."""
        ...

    def keep(self, names: Collection[str]) -> None:
        """No other routes are in force any more."""
        ...

    def unrecorded(self, proposals: Sequence[Proposal], now: int, *, late: bool) -> None:
        """Proposals that the journal did not confirm; ``late``: within the deadline, so that they may yet come to be recorded."""
        ...

    def alerts(self, now: int) -> list[Alert]:
        """Every alert of every route, as it stands at the journal's time ``now``."""
        ...


class Tracer(Protocol):
    """Traces of what the router does. Where there is none, None stands in its place, and that is all that it costs.

    No attribute holds features, scores, or what a caller says of itself.
    """

    async def request(self, work: Awaitable[_T], headers: Iterable[tuple[bytes, bytes]], request_id: str) -> _T:
        """Await the work of a request in a span of its own, under the one that its headers tell of (W3C trace context)."""
        ...

    async def span(self, work: Awaitable[_T], name: str, attributes: Mapping[str, str | int]) -> _T:
        """Await ``work`` in a span under the running one. What it raises ends the span as failed, and is raised."""
        ...

    def onwards(self) -> bytes:
        """The running span as header lines of a request to another server, each with its line end; or nothing."""
        ...


class RouteStore(Protocol):
    """Where documents come from."""

    def version(self) -> Hashable:
        """Something that differs after the documents have changed. Cheap: it is asked several times a second."""
        ...

    @property
    def refused(self) -> Mapping[str, str]:
        """The places whose documents the last load passed over as bad, and why: what was last good there is to stay in force.
        Always empty where a store takes its documents as a whole."""
        ...

    async def load(self) -> list[tuple[Document, str]]:
        """All good documents, of both kinds, each with the place that it came from.

        Raises CallerError where the store takes them as a whole: invalid_document with a pointer to the field, invalid_setting where
        there is no document at all; RouterError (routes_unavailable) where it cannot be asked and never was.
        """
        ...


class Discovery(Protocol):
    """Which addresses stand behind the endpoints that documents name."""

    def addresses(self, endpoint: Endpoint) -> tuple[Endpoint, ...]:
        """Where to ask now; the endpoint itself where nothing else is known of it. Cheap."""
        ...

    def subscribe(self, observer: Callable[[Collection[Endpoint]], None]) -> None:
        """Tell ``observer`` of endpoints whose addresses have changed. It must be quick, and must not raise."""
        ...


class Clock(Protocol):
    """Two clocks: UTC for times that leave the process, monotonic for durations. Both in int64 nanoseconds."""

    def wall(self) -> int:
        """UTC nanoseconds since the epoch; may step."""
        ...

    def monotonic(self) -> int:
        """Nanoseconds of a clock that never steps, of no fixed origin; the event loop's timers run on the same clock."""
        ...


class Network(Protocol):
    """Connections in the form of asyncio's protocols and transports."""

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Open a stream, encrypted where there is a context for it. Raises OSError. The caller bounds it in time by cancelling."""
        ...

    async def connect_path(
        self, factory: Callable[[], asyncio.Protocol], path: str
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """The same to a socket in the file system."""
        ...

    async def listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> "Listener":
        """Accept streams. Raises OSError."""
        ...


class Listener(Protocol):
    """An open listening socket."""

    @property
    def port(self) -> int:
        """The port it listens on, also where 0 was asked for."""
        ...

    def close(self) -> None:
        """Stop accepting; connections that are open stay open."""
        ...


class AppendFile(Protocol):
    """A file that grows at its end."""

    def write(self, data: bytes) -> None:
        """Hand ``data`` to the operating system, whole. Raises OSError; then any part of it may have been written."""
        ...

    async def write_and_sync(self, data: bytes) -> None:
        """Write ``data`` and have it on the medium before returning, off the event loop. Raises OSError."""
        ...

    def sync(self) -> None:
        """Have all that was written on the medium before returning. Blocks: it is for the beginning. Raises OSError."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes and go on from there. Raises OSError."""
        ...

    def close(self) -> None:
        """Give the file up."""
        ...


class Disk(Protocol):
    """Files, as far as the journal uses them. Paths are strings; every call may raise OSError."""

    def make_folder(self, path: str) -> None:
        """Create a folder and its parents where they are missing."""
        ...

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, sorted."""
        ...

    def read(self, path: str) -> bytes:
        """A whole file."""
        ...

    def size(self, path: str) -> int:
        """How many bytes a file has."""
        ...

    def read_range(self, path: str, offset: int, count: int) -> bytes:
        """At most ``count`` bytes from ``offset`` on; fewer where the file ends."""
        ...

    async def replace(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        """Write a file whole, piece by piece as they come, or leave what was there: on the medium before it returns, off the event
        loop."""
        ...

    async def remove(self, path: str) -> None:
        """Remove a file, off the event loop."""
        ...

    def packed(self, path: str) -> AsyncIterator[bytes]:
        """A file compressed by gzip, piece by piece, off the event loop; the same file gives the same bytes."""
        ...

    def append(self, path: str) -> AppendFile:
        """Open a file for appending, and create it where it is missing."""
        ...

    def lock(self, path: str) -> Callable[[], None] | None:
        """Hold a file for this process alone, until the returned release is called or the process dies; None if another
        process holds it."""
        ...


class Archive(Protocol):
    """Where complete segments are kept: an object store. Names are relative, their parts separated by ``/``.

    Every call may raise OSError: FileNotFoundError for an object that is not there, others for a store that fails; and may
    take as long as it likes, so that whoever calls bounds it in time.
    """

    async def names(self) -> list[str]:
        """The names of all objects, sorted."""
        ...

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> None:
        """Store an object, which is there whole or not at all."""
        ...

    def get(self, name: str) -> AsyncIterator[bytes]:
        """An object, piece by piece."""
        ...


class World(Protocol):
    """Everything that the router touches outside its own memory."""

    @property
    def clock(self) -> Clock:
        """The time."""
        ...

    @property
    def network(self) -> Network:
        """The network."""
        ...

    @property
    def disk(self) -> Disk:
        """The disk."""
        ...

    def random_bytes(self, count: int) -> bytes:
        """Unpredictable bytes, or seeded ones in a simulation."""
        ...
