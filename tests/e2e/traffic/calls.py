"""A client of the Open Inference Protocol over gRPC: it calls the router's model at a steady rate, and prints a JSON line for each call.

    python calls.py --url http://router:8092 --model rb-trend --rate 20 --deadline 0.1

It knows of the router what the protocol says, and the parameter ``symbol``. The first line says what the standard health service says of
the server and its services. It ends when its standard input does.
"""

import argparse
import json
import math
import struct
import sys
import threading
import time
from itertools import count

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from signalyard import protobuf

_HEALTH_SECONDS = 5.0


class Caller:
    """Calls of ``model``, each within ``deadline`` seconds."""

    def __init__(self, channel: grpc.Channel, model: str, deadline: float) -> None:
        self._infer = channel.unary_unary(
            f"/{protobuf.INFERENCE}/ModelInfer",
            request_serializer=protobuf.ModelInferRequest.SerializeToString,
            response_deserializer=protobuf.ModelInferResponse.FromString,
        )
        self._model = model
        self._deadline = deadline

    def call(self, symbol: str, number: int) -> dict[str, object]:
        """What came of one call of two rows."""
        request = protobuf.ModelInferRequest(model_name=self._model, id=f"call-{number}")
        request.parameters["symbol"].string_param = symbol
        features = request.inputs.add(name="features", datatype="FP64", shape=[2, 2])
        features.parameters["columns"].string_param = '["close","ret_5"]'
        score = 2.0 * math.sin(number / 7.0)
        request.raw_input_contents.append(struct.pack("<4d", 3500.0, score, 3501.0, -score))
        began = time.monotonic()
        line: dict[str, object] = {"symbol": symbol, "id": request.id}
        try:
            answer = self._infer(request, timeout=self._deadline)
        except grpc.RpcError as exc:
            return line | {"took_us": _since(began), "code": exc.code().name, "detail": exc.details()}
        return line | {
            "took_us": _since(began),
            "code": "OK",
            "answered": answer.id,
            "call": answer.parameters["call"].string_param,
            "version": answer.model_version,
            "digest": answer.parameters["digest"].string_param,
            "scores": _numbers(answer, "score"),
        }


def _numbers(answer: protobuf.ModelInferResponse, name: str) -> list[float]:
    place = next(place for place, output in enumerate(answer.outputs) if output.name == name)
    if answer.raw_output_contents:
        raw = answer.raw_output_contents[place]
        return list(struct.unpack(f"<{len(raw) // 8}d", raw))
    return list(answer.outputs[place].contents.fp64_contents)


def _health(channel: grpc.Channel) -> dict[str, str]:
    stub = health_pb2_grpc.HealthStub(channel)
    said = {}
    for service in ("", protobuf.INFERENCE, protobuf.ROUTER):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=_HEALTH_SECONDS)
        said[service] = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return said


def _since(began: float) -> int:
    return int((time.monotonic() - began) * 1e6)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", default="rb-trend")
    parser.add_argument("--rate", type=float, default=20.0, help="calls a second")
    parser.add_argument("--deadline", type=float, default=0.1, help="seconds")
    parser.add_argument("--symbols", default=",".join(f"rb{month:04d}.SHFE" for month in range(2501, 2513)))
    given = parser.parse_args()
    ending = threading.Event()
    symbols = given.symbols.split(",")

    def ask() -> None:
        with grpc.insecure_channel(given.url.partition("//")[2], options=(("grpc.enable_http_proxy", 0),)) as channel:
            print(json.dumps({"health": _health(channel)}), flush=True)
            caller = Caller(channel, given.model, given.deadline)
            due = time.monotonic()
            for number in count():
                if ending.wait(max(0.0, due - time.monotonic())):
                    return
                print(json.dumps(caller.call(symbols[number % len(symbols)], number)), flush=True)
                due = max(due + 1 / given.rate, time.monotonic())

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    sys.stdin.read()
    ending.set()
    asking.join(given.deadline + _HEALTH_SECONDS)


if __name__ == "__main__":
    main()
