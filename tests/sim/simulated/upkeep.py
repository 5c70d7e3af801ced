"""What becomes of complete segments, judged from outside: nothing is dropped that is still needed, and the archive gets all."""

import zlib
from collections.abc import Iterator

import msgspec

from simulated.history import Event, History
from simulated.plan import Plan
from simulated.reading import segments_of

_KEPT = 2
"""Checkpoints that must be there for a segment before them to go."""


def wrong_upkeep(plan: Plan, history: History) -> Iterator[str]:
    """Every way in which segments were not looked after."""
    contents = segments_of(history)
    objects: dict[str, bytes] = {}
    checkpoints: set[int] = set()
    sizes: dict[int, int] = {}
    begun: dict[int, Event] = {}
    mended = history.events[-1]
    for event in history.events:
        name = event.who.rpartition("/")[2]
        if event.kind == "archived":
            objects[event.who] = event.data
        elif event.kind == "mended":
            mended = event
        elif event.kind == "replace":
            checkpoints.add(_number(name))
        elif event.kind in ("write", "cut") and name.startswith("journal-") and name.endswith(".jsonl"):
            sizes[_number(name)] = event.size
            begun.setdefault(_number(name), event)
        elif event.kind == "remove" and name.startswith("checkpoint-"):
            checkpoints.discard(_number(name))
        elif event.kind == "remove":
            number = _number(name)
            if sum(1 for checkpoint in checkpoints if checkpoint >= number) < _KEPT:
                yield f"retention: {name} went, and the last two checkpoints are {sorted(checkpoints)[-2:]}"
            if plan.archive and contents[event.who] and not _archived(objects, name, contents[event.who]):
                yield f"retention: {name} went, and it is not in the archive"
            total = sum(sizes.values())  # the newest may be complete, with nothing in the next one yet
            if plan.keep_bytes is None or total <= plan.keep_bytes:
                yield f"retention: {name} went, where there were {total} bytes, and {plan.keep_bytes} are to be kept"
            del sizes[number]
    for path, content in contents.items() if plan.archive else ():
        name = path.rpartition("/")[2]
        after = begun.get(_number(name) + 1)
        if content and after is not None and after.at < mended.at and not _archived(objects, name, content):
            yield f"archive: {name} was complete when all was mended, and it is not there"


def _number(name: str) -> int:
    return int(name.partition("-")[2].partition(".")[0])


def _archived(objects: dict[str, bytes], segment: str, content: bytes) -> bool:
    """Whether the archive holds a segment as it is, and the index that says so."""
    packed = next((body for name, body in objects.items() if name.endswith(f"/{segment}.gz")), None)
    index = next((body for name, body in objects.items() if name.endswith(f"/{segment.removesuffix('l')}")), None)
    if packed is None or index is None:
        return False
    try:
        return zlib.decompress(packed, wbits=31) == content and msgspec.json.decode(index)["segment"] == segment
    except (zlib.error, msgspec.DecodeError):
        return False
