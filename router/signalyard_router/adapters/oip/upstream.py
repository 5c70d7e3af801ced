"""The model servers, as the router's flow sees them."""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import count

from prometheus_client import CollectorRegistry

from signalyard.problems import ModelError
from signalyard.profile import ModelCard, ScoredRows, decode_response, encode_request
from signalyard_router.adapters.oip.errors import WireError, problem_of
from signalyard_router.adapters.oip.metrics import OK, OipMetrics
from signalyard_router.adapters.oip.pools import Pools
from signalyard_router.adapters.oip.prober import Prober
from signalyard_router.adapters.oip.request import infer_head, infer_request
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.ports import World
from signalyard_router.rules.route import Target


class _Line:
    """What every call to a target needs, worked out once."""

    __slots__ = ("head", "metrics", "pool")

    def __init__(self, target: Target, pools: Pools, metrics: OipMetrics) -> None:
        self.head = infer_head(target)
        self.pool = pools.of(target)
        self.metrics = metrics.of(target)


class OipUpstream:
    """Implements :class:`signalyard_router.ports.Upstream` by the inference profile over HTTP/1.1.

    It may be called for any target at any time; :meth:`start` and :meth:`retarget` say whose cards to learn and to whom to
    keep connections. ``first_round`` is set once each target given to ``start`` was asked for its metadata, successfully or
    not.
    """

    def __init__(self, world: World, settings: OipSettings, registry: CollectorRegistry) -> None:
        self._now = world.clock.monotonic
        self._metrics = OipMetrics(registry)
        self._pools = Pools(world, settings, self._metrics)
        self._prober = Prober(world, settings, self._pools, self._metrics)
        self._lines: dict[Target, _Line] = {}
        self._prefix = world.random_bytes(6).hex()
        self._numbers = count(1)

    @property
    def first_round(self) -> asyncio.Event:
        """Set when every target given to :meth:`start` was tried once."""
        return self._prober.first_round

    def card(self, target: Target) -> ModelCard | None:
        """What is known of the target's version, or None while it has not been learnt."""
        return self._prober.card(target)

    async def score(
        self, target: Target, columns: tuple[str, ...], rows: Sequence[Sequence[float | None]], until: int
    ) -> ScoredRows:
        """Score ``rows`` [n, len(columns)] by ``until``, monotonic nanoseconds. Raises ModelError; see the port."""
        started = self._now()
        line = self._lines.get(target) or self._line(target)
        request_id = f"{self._prefix}-{next(self._numbers)}"
        body = encode_request(request_id, columns, rows)

        def read(answer: bytes) -> ScoredRows:
            return decode_response(
                answer, request_id=request_id, model=target.model, version=target.version, rows=len(rows)
            )

        try:
            scored = await line.pool.call(infer_request(line.head, body), body, until, read)
        except WireError as exc:
            failure = problem_of(exc)
            line.metrics.called(failure.problem, self._now() - started)
            raise failure from exc
        except ModelError as exc:
            line.metrics.called(exc.problem, self._now() - started)
            raise
        line.metrics.called(OK, self._now() - started)
        self._prober.answered(target, scored.digest)
        return scored

    async def start(self, targets: Iterable[Target]) -> None:
        """Begin to learn the targets' cards. Returns at once; await ``first_round`` to know how it went."""
        wanted = self._prepare(targets)
        self._prober.start(wanted)

    def retarget(self, targets: Iterable[Target]) -> None:
        """These are the targets from now on; whoever still calls another one is served."""
        wanted = self._prepare(targets)
        self._prober.retarget(wanted)

    async def close(self) -> None:
        """Stop probing and close every connection; calls in flight fail with model_unreachable."""
        await self._prober.close()
        self._pools.close()

    def _prepare(self, targets: Iterable[Target]) -> list[Target]:
        wanted = list(dict.fromkeys(targets))
        for target in wanted:
            self._line(target)
        self._pools.keep(wanted)
        return wanted

    def _line(self, target: Target) -> _Line:
        line = self._lines.get(target)
        if line is None:
            line = self._lines[target] = _Line(target, self._pools, self._metrics)
        return line
