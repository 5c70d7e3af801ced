"""A strategy whose days pass at once: snapshots of one instrument on several days, for a router on event time.

    python days.py --url http://replay:8090 --symbol hc2501.SHFE --starts 1764000000,1764086400 --snapshots 2,40

It prints a JSON line for each snapshot, as client.py does, and ends.
"""

import argparse
import json

from signalyard import Client, Snapshot
from signalyard.wire import Decision

_SECOND = 1_000_000_000


def _plain(decision: Decision) -> dict[str, object]:
    signal = decision.signal
    plain: dict[str, object] = {
        "route": decision.route,
        "outcome": str(decision.outcome),
        "proposal_id": decision.proposal_id,
    }
    return plain if signal is None else plain | {"signal_id": signal.signal_id, "direction": str(signal.signal)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--symbol", required=True)
    parser.add_argument("--starts", required=True, help="seconds since 1970, one a day, separated by commas")
    parser.add_argument(
        "--snapshots", required=True, help="how many of each day, a second apart, long and short in turn"
    )
    given = parser.parse_args()
    with Client(given.url, deadline=5.0) as client:
        for start, snapshots in zip(given.starts.split(","), given.snapshots.split(","), strict=True):
            for number in range(int(snapshots)):
                features = {"close": 3500.0, "ret_5": 2.0 if number % 2 else -2.0}
                at = (int(start) + number) * _SECOND
                decisions = client.predict(Snapshot(symbol=given.symbol, ts_event=at, features=features))
                line = {"symbol": given.symbol, "ts_event": at, "decisions": [_plain(one) for one in decisions]}
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
