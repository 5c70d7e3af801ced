"""The requests that are sent. Every snapshot is another one: the same one again would get its stored decision."""

import random
import time
from collections.abc import Sequence

import msgspec

from signalyard import profile
from signalyard_bench.load import Requests


def names(features: int) -> list[str]:
    """What the features are called."""
    return [f"feature_{index:02d}" for index in range(features)]


def values(features: int, count: int, seed: int = 7) -> list[list[float]]:
    """Generated rows."""
    rng = random.Random(seed)
    return [[round(rng.gauss(0, 1), 6) for _ in range(features)] for _ in range(count)]


def _post(path: str) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: ".encode()
        + b"%d\r\n\r\n%b"
    )


_KINDS = 64
_ROWS = 1000


def inference(model: str, features: int, rows: int = 1) -> Requests:
    """``rows`` rows by the Open Inference Protocol, as MLServer's documentation writes it."""
    return _turns(
        model,
        [
            msgspec.json.encode(
                {
                    "inputs": [
                        {
                            "name": "predict",
                            "shape": [rows, features],
                            "datatype": "FP64",
                            "data": [value for row in batch for value in row],
                        }
                    ]
                }
            )
            for batch in batches(features, rows)
        ],
    )


def profiled(model: str, features: int, rows: int = 1) -> Requests:
    """The same rows by our profile: with the names of their columns, and an id."""
    columns = tuple(names(features))
    return _turns(model, [profile.encode_request("b-1", columns, batch) for batch in batches(features, rows)])


def batches(features: int, rows: int) -> list[list[list[float]]]:
    """The rows of the requests that are sent in turn: 64 requests, or as many as come to 1,000 rows; one of 1,000 is the same again."""
    count = max(1, min(_KINDS, _ROWS // rows))
    all_rows = values(features, count * rows)
    return [all_rows[index * rows : (index + 1) * rows] for index in range(count)]


def _turns(model: str, bodies: Sequence[bytes]) -> Requests:
    head = _post(f"/v2/models/{model}/infer")
    made = [head % (len(body), body) for body in bodies]
    turn = 0

    def make() -> bytes:
        nonlocal turn
        turn += 1
        return made[turn % len(made)]

    return make


def snapshots(features: int, symbols: Sequence[str]) -> Requests:
    """One snapshot a request, at the present time."""
    head = _post("/v1/predict")
    rows = [
        msgspec.json.encode(dict(zip(names(features), row, strict=True))).replace(b"%", b"%%")
        for row in values(features, _KINDS)
    ]
    bodies = [b'{"symbol":"%b","ts_event":%d,"features":' + row + b"}" for row in rows]
    encoded = [symbol.encode() for symbol in symbols]
    turn = 0

    def make() -> bytes:
        nonlocal turn
        turn += 1
        body = bodies[turn % _KINDS] % (encoded[turn % len(encoded)], time.time_ns())
        return head % (len(body), body)

    return make


def columnar(features: int, symbols: Sequence[str], rows: int) -> Requests:
    """``rows`` snapshots a request, the names given once."""
    head = _post("/v1/predict")
    columns = msgspec.json.encode(names(features))
    texts = [msgspec.json.encode(row) for row in values(features, _KINDS)]
    encoded = [symbol.encode() for symbol in symbols]
    turn = 0

    def make() -> bytes:
        nonlocal turn
        now = time.time_ns()
        parts = []
        for _ in range(rows):
            turn += 1
            now += 1
            parts.append(b'["%b",%d,%b]' % (encoded[turn % len(encoded)], now, texts[turn % _KINDS]))
        body = b'{"columns":%b,"rows":[%b]}' % (columns, b",".join(parts))
        return head % (len(body), body)

    return make
