"""The client's process: a strategy that asks for decisions at a steady rate, and prints a JSON line for each snapshot.

    python client.py --url http://signalyard-router:8090 --rate 50 --deadline 0.1

It needs the package ``signalyard`` and nothing else of ours, so it runs on the tester's machine or in a pod. It ends when its
standard input does. A snapshot whose call failed is sent again, unchanged, until there is a decision or ``--patience`` is over: the
router's promise is one decision for it, however often it comes.

With ``--renew 20`` each strategy connects anew after so many snapshots, so that a Service gives it another replica; with ``--shared`` all
strategies ask for all instruments, so that replicas race on them.
"""

import argparse
import json
import math
import sys
import threading
import time
from collections.abc import Callable
from itertools import count

from signalyard import Client, Snapshot
from signalyard.clients import SignalClient
from signalyard.problems import CATALOGUE, SignalyardError
from signalyard.wire import Decision


class Strategy(threading.Thread):
    """Asks for its instruments, one snapshot after another, so that an instrument that is its own has its snapshots in their order.

    ``connect`` gives a client of one connection. After ``renew`` snapshots it is taken for another one; 0: never.
    """

    def __init__(
        self, connect: Callable[[], SignalClient], symbols: list[str], every: float, patience: float, renew: int
    ) -> None:
        super().__init__(daemon=True)
        self._connect = connect
        self._client = connect()
        self._symbols = symbols
        self._every = every
        self._patience = patience
        self._renew = renew
        self.ending = threading.Event()

    def run(self) -> None:
        due = time.monotonic()
        for number in count():
            if self.ending.wait(max(0.0, due - time.monotonic())):
                break
            if self._renew and number % self._renew == self._renew - 1:
                self._client.close()
                self._client = self._connect()
            self._ask(self._symbols[number % len(self._symbols)], number)
            due = max(due + self._every, time.monotonic())
        self._client.close()

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
    parser.add_argument("--wire", choices=("rest", "grpc"), default="rest")
    parser.add_argument("--renew", type=int, default=0, help="snapshots after which a strategy connects anew; 0: never")
    parser.add_argument("--shared", action="store_true", help="every strategy asks for every instrument")
    given = parser.parse_args()
    symbols = given.symbols.split(",")
    strategies = [
        Strategy(
            lambda: _client(given.wire, given.url, given.deadline),
            symbols if given.shared else symbols[place :: given.strategies],
            given.strategies / given.rate,
            given.patience,
            given.renew,
        )
        for place in range(given.strategies)
    ]
    for strategy in strategies:
        strategy.start()
    sys.stdin.read()
    for strategy in strategies:
        strategy.ending.set()
    for strategy in strategies:
        strategy.join(given.patience + given.deadline)


def _client(wire: str, url: str, deadline: float) -> SignalClient:
    if wire == "rest":
        return Client(url, deadline=deadline, connections=1)
    from signalyard.clients import BlockingClient
    from signalyard.wires.grpc import GrpcWire

    address = url.partition("//")[2]
    return BlockingClient(lambda: GrpcWire(address), deadline)


if __name__ == "__main__":
    main()
