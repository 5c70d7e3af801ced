"""One version of a model at one endpoint: what is known of it, and calls to it."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

import msgspec

from signalyard.problems import CallerError, ModelError, Problem
from signalyard.profile import ModelCard, decode_metadata
from signalyard_router.adapters.oip.errors import ConnectError, WireError
from signalyard_router.adapters.oip.metrics import OK, OipMetrics
from signalyard_router.adapters.oip.pools import Pools
from signalyard_router.adapters.oip.request import Answer, Request, infer_head, infer_request, metadata_request
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.ports import Clock, EndpointStatus, Tracer
from signalyard_router.rules.breaker import Breaker, BreakerState
from signalyard_router.rules.latency import Recent
from signalyard_router.rules.route import Endpoint
from signalyard_router.rules.serving import Identity, Report

_log = logging.getLogger("signalyard.router.oip")

TOO_SLOW = "another endpoint was faster"
"""The message with which the loser of a hedge is cancelled: its breaker counts that, or a server that hangs would never open it."""


class PeerKey(msgspec.Struct, frozen=True):
    """What tells peers apart. Routes whose tracks share one share its breaker and its looks."""

    model: str
    version: str
    endpoint: Endpoint


class Peer:
    """Holds what was last seen of it, its breaker, its metrics and its share of the endpoint's pool.

    ``changed`` is called when there is news of what it serves, when it becomes ready or unready, and when its breaker opens; the flag
    asks for a look at its metadata.
    """

    def __init__(
        self,
        key: PeerKey,
        clock: Clock,
        settings: OipSettings,
        pools: Pools,
        metrics: OipMetrics,
        changed: Callable[["Peer", bool], None],
        tracer: Tracer | None = None,
    ) -> None:
        self._tracer = tracer
        self._now = clock.monotonic
        self._changed = changed
        self.key = key
        self.name = str(key.endpoint)
        self.pool = pools.of(key.endpoint)
        self.breaker = Breaker(settings.breaker)
        self.metrics = metrics.of(key.model, key.version, self.name, self.breaker)
        self.recent = Recent()
        self.card: ModelCard | None = None
        self.identity: Identity | None = None
        """What it serves, as the last look that was answered said; None where it serves nothing."""
        self.doubted = False
        """Whether an answer since then came under another digest."""
        self.ready = False
        """Whether it answers looks; lost only with a refused connection, a call that it says it has no model for, or a second failed
        look in a row."""
        self.problem: str | None = None
        """What the last look came to, None where it was answered."""
        self.asked = asyncio.Event()
        """Set once it was looked at, whatever came of it."""
        self.turn = 0
        """When it was last asked, in calls: equals take turns."""
        self._heads: dict[str, bytes] = {}

    def report(self) -> Report:
        """The peer as the rules see it."""
        return Report(self.identity, self.ready, self.asked.is_set())

    def status(self) -> EndpointStatus:
        """The peer as people see it."""
        return EndpointStatus(
            endpoint=self.name,
            breaker=self.breaker.state,
            in_flight=self.pool.in_flight,
            ready=self.ready,
            version=self.identity.version if self.identity else None,
            digest=self.identity.digest if self.identity else None,
            problem=self.problem,
        )

    def learnt(self, card: ModelCard) -> None:
        """A look was answered."""
        now_serves = Identity(card.version, card.digest)
        changed = not self.ready or self.card != card
        if self.identity is not None and self.identity != now_serves:
            self._tell(self.identity, now_serves)
        if self.problem is not None:
            self.breaker.hint(self._now())
        self.card, self.identity, self.problem = card, now_serves, None
        self.ready, self.doubted = True, False
        self.asked.set()
        if changed:
            self._changed(self, False)

    def missed(self, problem: Problem, *, refused: bool) -> None:
        """A look was not answered; ``refused`` where nobody listens."""
        gone = problem is Problem.MODEL_UNKNOWN
        changed = not self.asked.is_set()
        if self.ready and (refused or gone or self.problem is not None):
            self.ready = False
            changed = True
        if gone:
            self.identity = None
        self.problem = problem
        self.asked.set()
        if changed:
            self._changed(self, False)

    def doubt(self) -> None:
        """An answer came under another digest than the last look saw: look again soon.

        That is all that an answer changes. Behind one address there may be several pods, whose answers alternate while they roll.
        """
        if not self.doubted:
            self.doubted = True
            self._changed(self, True)

    def _tell(self, before: Identity, after: Identity) -> None:
        same = before.version == after.version
        if same:
            self.metrics.digest_changes.inc()
        _log.log(
            logging.WARNING if same else logging.INFO,
            "event=%s model=%s version=%s endpoint=%s digest=%s before=%s",
            "digest_changed" if same else "version_changed",
            self.key.model,
            after.version,
            self.name,
            after.digest,
            json.dumps(str(before)),
        )

    def admits(self, now: int) -> bool:
        """Whether its breaker lets a call through.

        The one call that finds out is a live one, so it is made only where the server at least answers looks, or was never looked at.
        """
        breaker = self.breaker
        return breaker.state is BreakerState.CLOSED or (
            breaker.due(now) and (self.problem is None or not self.asked.is_set())
        )

    async def score(self, request: Request[Answer]) -> tuple[Answer, int]:
        """Send it, and read the answer; with it comes how long it took, in nanoseconds.

        Raises ModelError; one that is the endpoint's fault counts in its breaker. CallerError where the request's own input is to blame.
        """
        pool = self.pool
        started = self._now()
        ticket = self.breaker.begin(started)
        pool.in_flight += 1
        try:
            scored = await self._send(request)
        except (WireError, ModelError) as exc:
            failure = request.problem_of(exc) if isinstance(exc, WireError) else exc
            if isinstance(failure, CallerError):
                # it answered, and rightly
                self.metrics.called(OK, self._now() - started)
                self.breaker.succeeded(ticket, self._now())
            else:
                self._failed(failure, request, ticket, started, refused=isinstance(exc, ConnectError))
            if failure is exc:
                raise
            raise failure from exc
        except asyncio.CancelledError as exc:
            if exc.args == (TOO_SLOW,):
                self._blame(ticket, self._now())
            else:
                self.breaker.abandoned(ticket, self._now())
            raise
        finally:
            pool.in_flight -= 1
        now = self._now()
        self.metrics.called(OK, now - started)
        if request.rows:
            self.recent.observe(now - started)
        closed = self.breaker.state is BreakerState.CLOSED
        self.breaker.succeeded(ticket, now)
        if not closed and self.breaker.state is BreakerState.CLOSED:
            _log.info("event=breaker_closed model=%s version=%s endpoint=%s", *self._labels())
        return scored, now - started

    async def look(self, version: str | None, until: int) -> ModelCard:
        """What it says that it has of a version, or where none is given which one it has. Raises WireError, ModelError."""
        model = self.key.model
        head = metadata_request(model, version, self.key.endpoint)
        return await self.pool.call(head, b"", until, lambda body: decode_metadata(body, model=model, version=version))

    def _send(self, request: Request[Answer]) -> Awaitable[Answer]:
        """Send it to the request's version, and read the answer. Raises WireError, ModelError."""
        version = request.card.version
        head = self._heads.get(version) or self._head(version)
        whole = infer_request(head, request.body)
        if self._tracer is not None:
            whole += self._tracer.onwards()
        return self.pool.call(whole, request.body, request.until, request.read)

    def _failed(
        self, failure: ModelError, request: Request[Answer], ticket: int, started: int, *, refused: bool
    ) -> None:
        now = self._now()
        self.metrics.called(failure.problem, now - started)
        if failure.problem is Problem.MODEL_TIMEOUT and request.until - started < (self.recent.p95 or 0):
            self.breaker.abandoned(ticket, now)  # it was given less time than it takes on a good day
            return
        if failure.problem in request.doubtful:
            self.breaker.abandoned(ticket, now)
            return
        self._blame(ticket, now)
        if refused or failure.problem is Problem.MODEL_UNKNOWN:
            # Its track goes on at once with what others have. Where there are no others nothing changes until the next look.
            self.ready = False
            self._changed(self, True)

    def _blame(self, ticket: int, now: int) -> None:
        opened = self.breaker.opened
        self.breaker.failed(ticket, now)
        if self.breaker.opened > opened:
            self.metrics.opened.inc()
            _log.warning("event=breaker_opened model=%s version=%s endpoint=%s", *self._labels())
            self._changed(self, True)

    def _labels(self) -> tuple[str, str, str]:
        return self.key.model, self.key.version, self.name

    def _head(self, version: str) -> bytes:
        head = self._heads[version] = infer_head(self.key.model, version, self.key.endpoint)
        return head
