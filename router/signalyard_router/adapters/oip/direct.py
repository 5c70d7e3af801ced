"""Calls to one given server, of any version, with nothing learnt before: for replays, not for decisions."""

from collections.abc import Sequence
from itertools import count

from signalyard.profile import ScoredRows, decode_response, encode_request
from signalyard_router.adapters.oip.errors import WireError, problem_of
from signalyard_router.adapters.oip.pool import Pool
from signalyard_router.adapters.oip.request import infer_head, infer_request
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.ports import World
from signalyard_router.rules.route import Endpoint


class DirectServer:
    """A model server by its address. Columns go out as they are given; the server puts them in its own order."""

    def __init__(self, world: World, settings: OipSettings, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._pool = Pool(world, settings, endpoint.host, endpoint.port)
        self._prefix = world.random_bytes(6).hex()
        self._numbers = count(1)

    async def score(
        self, model: str, version: str, columns: tuple[str, ...], rows: Sequence[Sequence[float | None]], until: int
    ) -> ScoredRows:
        """Score ``rows`` [n, len(columns)] by ``until``, monotonic nanoseconds. Raises ModelError."""
        request_id = f"{self._prefix}-{next(self._numbers)}"
        body = encode_request(request_id, columns, rows)

        def read(answer: bytes) -> ScoredRows:
            return decode_response(answer, request_id=request_id, model=model, version=version, rows=len(rows))

        try:
            head = infer_head(model, version, self._endpoint)
            return await self._pool.call(infer_request(head, body), body, until, read)
        except WireError as exc:
            raise problem_of(exc) from exc

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()
