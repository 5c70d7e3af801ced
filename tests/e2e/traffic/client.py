"""The client's process: a strategy that asks for decisions at a steady rate, and prints a JSON line for each snapshot.

    python client.py --url http://signalyard-router:8090 --rate 50 --deadline 0.1

It needs the package ``signalyard`` and nothing else of ours, so it runs on the tester's machine or in a pod. It ends when its
standard input does. A snapshot whose call failed is sent again, unchanged, until there is a decision or ``--patience`` is over: the
router's promise is one decision for it, however often it comes.
"""

import argparse
import json
import math
import sys
import threading
import time
from itertools import count

from signalyard import Client, Snapshot
from signalyard.problems import CATALOGUE, SignalyardError
from signalyard.wire import Decision


class Strategy(threading.Thread):
    """Asks for its own instruments, one snapshot after another, so that each instrument's snapshots stay in their order."""

    def __init__(self, client: Client, symbols: list[str], every: float, deadline: float, patience: float) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._symbols = symbols
        self._every = every
        self._deadline = deadline
        self._patience = patience
        self.ending = threading.Event()

    def run(self) -> None:
        due = time.monotonic()
        for number in count():
            if self.ending.wait(max(0.0, due - time.monotonic())):
                return
            self._ask(self._symbols[number % len(self._symbols)], number)
            due = max(due + self._every, time.monotonic())

    def _ask(self, symbol: str, number: int) -> None:
        # The score goes up and down, so that there are signals of both directions.
        features = {"close": 3500.0 + number % 10, "ret_5": 2.0 * math.sin(number / 7.0)}
        snapshot = Snapshot(symbol=symbol, ts_event=time.time_ns(), features=features)
        give_up = time.monotonic() + self._patience
        tries = []
        while True:
            began = time.monotonic()
            try:
                decisions = self._client.predict(snapshot)
            except SignalyardError as exc:
                tries.append({"took_us": _since(began), "problem": str(exc.problem), "detail": exc.detail})
                if CATALOGUE[exc.problem].retryable and time.monotonic() < give_up and not self.ending.wait(0.05):
                    continue
                decisions = []
            else:
                tries.append({"took_us": _since(began)})
            break
        line = {"symbol": symbol, "ts_event": snapshot.ts_event, "at": time.time_ns(), "tries": tries}
        _print(line | {"decisions": [_plain(decision) for decision in decisions]})


def _plain(decision: Decision) -> dict[str, object]:
    signal = decision.signal
    plain: dict[str, object] = {
        "route": decision.route,
        "outcome": str(decision.outcome),
        "reason": str(decision.reason) if decision.reason else None,
        "proposal_id": decision.proposal_id,
        "elapsed_us": decision.elapsed_us,
    }
    if signal is not None:
        plain |= {
            name: getattr(signal, name)
            for name in ("signal_id", "epoch", "seq", "prev_seq", "version", "digest", "failover", "degraded", "drift")
        }
        plain |= {"direction": str(signal.signal), "track": str(signal.track) if signal.track else None}
    return plain


_printing = threading.Lock()


def _print(line: dict[str, object]) -> None:
    with _printing:
        print(json.dumps(line), flush=True)


def _since(began: float) -> int:
    return int((time.monotonic() - began) * 1e6)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--rate", type=float, default=50.0, help="snapshots a second, in all")
    parser.add_argument("--deadline", type=float, default=0.1, help="seconds")
    parser.add_argument("--patience", type=float, default=5.0, help="seconds for which a failed call is made again")
    parser.add_argument(
        "--strategies", type=int, default=4, help="threads, each with a connection and instruments of its own"
    )
    parser.add_argument("--symbols", default=",".join(f"rb{month:04d}.SHFE" for month in range(2501, 2513)))
    given = parser.parse_args()
    symbols = given.symbols.split(",")
    with Client(given.url, deadline=given.deadline, connections=given.strategies) as client:
        every = given.strategies / given.rate
        strategies = [
            Strategy(client, symbols[place :: given.strategies], every, given.deadline, given.patience)
            for place in range(given.strategies)
        ]
        for strategy in strategies:
            strategy.start()
        sys.stdin.read()
        for strategy in strategies:
            strategy.ending.set()
        for strategy in strategies:
            strategy.join(given.patience + given.deadline)


if __name__ == "__main__":
    main()
