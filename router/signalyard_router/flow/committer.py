"""The last step of a request: the journal settles its proposals, or there is a decision that says why it did not."""

import asyncio
from collections.abc import Sequence

from signalyard.problems import RouterError
from signalyard.wire import Decision
from signalyard.words import Outcome, Reason
from signalyard_router.ports import Clock, Journal, JournalInDoubt, Settled, Tracer, Watch
from signalyard_router.rules.proposal import Proposal


class Committer:
    """Commits within the deadline. What it answers when the journal does not is in no record."""

    def __init__(
        self, journal: Journal, clock: Clock, watch: Watch | None = None, tracer: Tracer | None = None
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._watch = watch
        self._tracer = tracer

    async def commit(self, proposals: Sequence[Proposal], until: int, *, alone: bool) -> list[Settled]:
        """Settle the proposals by ``until`` (monotonic nanoseconds); never raises for a journal that fails. ``alone``: see
        `Journal.commit`."""
        timer: asyncio.TimerHandle | None = None
        try:
            settled = self._journal.commit(proposals, alone=alone)
            if not self._journal.prompt:
                seconds = max(0.0, (until - self._clock.monotonic()) / 1e9)
                timer = asyncio.get_running_loop().call_later(seconds, _expire, settled)
            if self._tracer is None:
                return await settled
            return await self._tracer.span(settled, "commit", {"signalyard.proposals": len(proposals)})
        except TimeoutError:
            return self._unsettled(proposals, Outcome.UNKNOWN, Reason.UNCONFIRMED)
        except JournalInDoubt:
            return self._unsettled(proposals, Outcome.UNKNOWN, Reason.UNCONFIRMED)
        except RouterError:
            # The journal has counted and logged it.
            return self._unsettled(proposals, Outcome.SUPPRESSED, Reason.JOURNAL_UNAVAILABLE)
        finally:
            if timer is not None:
                timer.cancel()

    def _unsettled(self, proposals: Sequence[Proposal], outcome: Outcome, reason: Reason) -> list[Settled]:
        if self._watch is not None:
            self._watch.unrecorded(proposals, self._journal.now, late=outcome is Outcome.UNKNOWN)
        return [_unsettled(proposal, outcome, reason) for proposal in proposals]


def _expire(settled: asyncio.Future[list[Settled]]) -> None:
    if not settled.done():
        settled.set_exception(TimeoutError())


def _unsettled(proposal: Proposal, outcome: Outcome, reason: Reason) -> Settled:
    decision = Decision(
        outcome=outcome,
        reason=reason,
        symbol=proposal.symbol,
        ts_event=proposal.ts_event,
        route=proposal.route,
        proposal_id=proposal.proposal_id,
    )
    return Settled(decision, repeated=False)
