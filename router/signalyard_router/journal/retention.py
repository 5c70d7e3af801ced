"""Which segments may go. Pure: sizes and times come in, names go out."""

from collections.abc import Collection, Sequence

import msgspec

from signalyard_router.journal.segments import segment_number


class Complete(msgspec.Struct, frozen=True):
    """A complete segment. ``last_t`` is the time of its newest record, journal nanoseconds, 0 where it holds none.

    ``damaged``: it cannot be read. It stays for a person to look at, and with it what came after.
    """

    segment: str
    size: int
    last_t: int
    damaged: bool = False


def expendable(
    complete: Sequence[Complete],
    *,
    anchor: str,
    archived: Collection[str] | None,
    keep_bytes: int | None,
    keep_age: int | None,
    now: int,
) -> list[str]:
    """The segments to drop, oldest first; what is left is one unbroken piece of the chain.

    ``anchor`` is the segment at whose end the oldest checkpoint that is to be kept stands: it and what follows it stay, so that
    the checkpoint can be held against the record that it names. ``archived``: only these may go; None where there is no archive.
    """
    total = sum(item.size for item in complete)
    gone: list[str] = []
    for item in complete:
        too_much = keep_bytes is not None and total > keep_bytes
        too_old = keep_age is not None and item.last_t < now - keep_age
        needed = segment_number(item.segment) >= segment_number(anchor)
        if (
            needed
            or item.damaged
            or not (too_much or too_old)
            or (archived is not None and item.segment not in archived)
        ):
            break
        gone.append(item.segment)
        total -= item.size
    return gone
