"""Which versions stay loaded. Pure."""

from collections.abc import Collection, Iterable
from functools import cmp_to_key

KEPT = 2
"""So many old versions stay beside the newest, whatever has become of their folders: the way back is never unloaded."""


def newest_first(versions: Iterable[str]) -> list[str]:
    """In MLServer's order, by which it chooses the version for who names none: as numbers where both are, else as text."""
    return sorted(versions, key=cmp_to_key(_compare), reverse=True)


def let_go(loaded: Iterable[str], there: Collection[str]) -> list[str]:
    """Those that a load unloads: older than the newest and the `KEPT` ones before it, and no longer in the folder."""
    return [version for version in newest_first(loaded)[1 + KEPT :] if version not in there]


def _compare(one: str, other: str) -> int:
    try:
        return int(one) - int(other)
    except ValueError:
        return (one > other) - (one < other)
