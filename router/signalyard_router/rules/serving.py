"""Which digest a track serves: one at a time, also while its pods roll. Pure."""

from collections.abc import Sequence

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """What an endpoint serves: a version, and the digest of its bundle."""

    version: str
    digest: str

    def __str__(self) -> str:
        return f"{self.version} ({self.digest})"


class Report(msgspec.Struct, frozen=True):
    """One endpoint, as it was last seen. ``ready``: it answers; ``asked``: it was looked at once, whatever came of it."""

    identity: Identity | None = None
    ready: bool = False
    asked: bool = True


def in_force(pinned: str, in_use: Identity | None, reports: Sequence[Report], share: float = 0.5) -> Identity | None:
    """What a track serves from now on, given what it has served and what its endpoints say; None where nothing is known.

    The pinned version's, once ``share`` of the endpoints (and at least one) are ready with it; until then what is in use, as
    long as some endpoint is ready with it. Where no endpoint has the pinned version, what most of them have: that is drift, and
    whether it may be used is the route's to say. Where no endpoint is ready at all, nothing changes: a lost look is no reason to
    change models.
    """
    ready: dict[Identity, int] = {}
    for report in reports:
        if report.ready and report.identity is not None:
            ready[report.identity] = ready.get(report.identity, 0) + 1
    best = _most({identity: count for identity, count in ready.items() if identity.version == pinned})
    if in_use is None:
        if best is not None or not all(report.asked for report in reports):
            return best
        return _most(ready)
    if in_use not in ready:
        return best or _most(ready) or in_use

    def enough(identity: Identity) -> bool:
        return ready[identity] >= max(1.0, share * len(reports))

    if best is None or not enough(best) or (in_use.version == pinned and enough(in_use)):
        return in_use
    return best


def _most(ready: dict[Identity, int]) -> Identity | None:
    """What most endpoints have; among equals, what the first of them has."""
    return max(ready, key=ready.__getitem__, default=None)
