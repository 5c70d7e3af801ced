"""Signals and a router's state, as clients get them."""

from signalyard.wire import Opinion, Signal, StateAnswer
from signalyard.words import Direction

NOW = 1_718_923_456_000_000_000
SECOND = 1_000_000_000


def signal(seq, symbol="rb2410.SHFE", *, route="r", epoch=1, prev=None, expires=5):
    """A signal, the one after the one before it unless ``prev`` says another."""
    return Signal(
        symbol=symbol,
        signal=Direction.LONG,
        score=0.8,
        timestamp=NOW // SECOND,
        signal_id=f"s-{route}-{symbol}-{epoch}-{seq}",
        epoch=epoch,
        seq=seq,
        prev_seq=seq - 1 if prev is None else prev,
        ts_event=NOW,
        ts_init=NOW,
        ts_expire=NOW + expires * SECOND,
        route=route,
        revision="1",
        model="m",
    )


def opinion(of, *, live=True):
    """What the state says after a signal."""
    return Opinion(
        symbol=of.symbol,
        route=of.route,
        signal=of.signal,
        signal_id=of.signal_id,
        epoch=of.epoch,
        seq=of.seq,
        ts_event=of.ts_event,
        ts_init=of.ts_init,
        ts_expire=of.ts_expire,
        live=live,
    )


def state(*opinions):
    return StateAnswer(now=NOW, epoch=1, opinions=list(opinions))
