"""A predict request on a wire that has no status codes: bytes in, bytes out."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from signalyard.wire import Decision
from signalyard_router.promise import Promise
from signalyard_router.rules.rows import BadRow, Row
from signalyard_router.wire.reading import Batch, PredictReader
from signalyard_router.wire.writing import decisions_body, placed


class Decider(Protocol):
    """The router, as a wire that brings snapshots sees it."""

    def admit(self, received: int, remaining: int | None = None) -> None:
        """Called once a request, before it is decoded. Raises RouterError: overloaded, where it would be answered late."""
        ...

    async def decide(
        self, rows: Sequence[Row | BadRow], *, received: int | None = None, remaining: int | None = None
    ) -> list[Decision]:
        """A decision for every row on every route that it goes to. Raises RouterError."""
        ...


class Submitter(Protocol):
    """The router, as a wire sees it that makes no task of a request."""

    def admit(self, received: int, remaining: int | None = None) -> None:
        """As `Decider.admit`."""
        ...

    def submit(
        self, rows: Sequence[Row | BadRow], *, received: int | None = None, remaining: int | None = None
    ) -> Promise[list[Decision]]:
        """As `Decider.decide`: what goes wrong at once is raised, all else is in the promise."""
        ...


class Predicting:
    """Decides on the snapshots of a body: one, a list, or columns with rows (docs/rest.md has the forms)."""

    def __init__(self, router: Decider, max_rows: int) -> None:
        self._router = router
        self._reader = PredictReader(max_rows)

    async def decisions(
        self, body: bytes, received: int, remaining: int | None = None
    ) -> tuple[Sequence[Decision], bool]:
        """The decisions, and whether ``body`` was one snapshot alone.

        ``received`` is when it was fully read, monotonic nanoseconds; ``remaining`` how many nanoseconds the caller still waits.
        Raises CallerError where the body is no request (malformed_body, too_many_rows), RouterError where the router takes none.
        """
        self._router.admit(received, remaining)
        batch = self._reader.read(body)
        return await self.decide(batch, received, remaining), batch.alone

    def read(self, body: bytes) -> Batch:
        """The rows of a body that is to be decided later. Raises CallerError: malformed_body, too_many_rows."""
        return self._reader.read(body)

    async def decide(self, batch: Batch, received: int, remaining: int | None = None) -> Sequence[Decision]:
        """The decisions on what was read. Raises RouterError."""
        if not batch.rows:
            return []
        decided = await self._router.decide(batch.rows, received=received, remaining=remaining)
        return placed(decided, batch.places)

    async def answer(self, body: bytes, received: int, remaining: int | None = None) -> bytes:
        """The same as JSON: one decision where one snapshot came that one route took, else a list."""
        decisions, alone = await self.decisions(body, received, remaining)
        return decisions_body(decisions, alone=alone)


class Begun(NamedTuple):
    """A request that is being decided on. Whoever does not wait any longer cancels ``done``."""

    batch: Batch
    done: Promise[list[Decision]]

    def answer(self) -> bytes:
        """What `Predicting.answer` gives, once it is done. Raises what went wrong."""
        return decisions_body(placed(self.done.result(), self.batch.places), alone=self.batch.alone)


class Submitting:
    """`Predicting` without a task."""

    def __init__(self, router: Submitter, max_rows: int) -> None:
        self._router = router
        self._reader = PredictReader(max_rows)

    def begin(self, body: bytes, received: int, remaining: int | None = None) -> Begun:
        """Begin to decide on the snapshots of a body; the arguments, and what is raised, are those of `Predicting.decisions`."""
        self._router.admit(received, remaining)
        batch = self._reader.read(body)
        return Begun(batch, self._router.submit(batch.rows, received=received, remaining=remaining))
