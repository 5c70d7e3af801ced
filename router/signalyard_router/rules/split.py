"""Which track decides for which instrument.

An instrument falls into one of 10,000 slots by a hash of the model's name and its own. The canary owns the slots from 0 up,
stable has the rest; so a change of weight moves only the instruments whose slots change hands, and a route's place among
others or the order of documents moves none.
"""

from collections.abc import Mapping
from hashlib import blake2b

from signalyard.words import Track

SLOTS = 10_000


def slot(model: str, instrument: str) -> int:
    """The slot of an instrument, 0 to 9,999."""
    digest = blake2b(f"{model}\0{instrument}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % SLOTS


def assign(model: str, instrument: str, weights: Mapping[Track, int], pin: Mapping[str, Track]) -> Track:
    """The track of an instrument. ``weights`` are slots a track, adding up to 10,000."""
    pinned = pin.get(instrument)
    if pinned is not None:
        return pinned
    return Track.CANARY if slot(model, instrument) < weights.get(Track.CANARY, 0) else Track.STABLE
