"""The real `signalyard serve` while its bundles change under load: no request fails, and memory comes back."""

import http.client
import json
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
import requests

from signalyard import profile
from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes.bundle import store
from signalyard_runtimes.bundle.manifest import GoldenRows, Output
from signalyard_runtimes.packing import PackSpec, pack

pytestmark = pytest.mark.parts

BIN = Path(__file__).parents[3] / ".venv" / "runtimes" / "bin"
PATIENCE = 60.0
FEATURES = tuple(f"f{number:02d}" for number in range(32))
RELOADS = 16
SETTLED = 6
"""By then a first process has what it keeps for itself: arenas, threads, buffers."""


class Live(NamedTuple):
    pid: int
    folder: Path
    http: str
    grpc: str
    put: Callable[[str, str], str]

    def change(self, verb: str, **body: Any) -> requests.Response:
        return requests.post(
            f"http://{self.http}/v2/repository/models/rb-live/{verb}", json=body or None, timeout=PATIENCE
        )

    def index(self) -> dict[str, str]:
        items = requests.post(f"http://{self.http}/v2/repository/index", json={}, timeout=PATIENCE).json()
        return {item["version"]: item["state"] for item in items}

    def resident(self) -> float:
        """In MiB."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def booster() -> bytes:
    """200 trees of 63 leaves, on as few rows as give them."""
    import lightgbm  # here: every process that runs tests reads this file, and this takes seconds

    random = np.random.default_rng(7)
    x = random.normal(size=(1500, len(FEATURES)))
    parameters = {
        "objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 63, "min_data_in_leaf": 1, "max_bin": 31,
    }  # fmt: skip
    data = lightgbm.Dataset(
        x, (x[:, 0] * x[:, 1] + random.normal(size=1500) > 0).astype(int), feature_name=list(FEATURES)
    )
    return lightgbm.train(parameters, data, 200).model_to_string().encode()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    if not (BIN / "signalyard").exists():
        pytest.fail(f"{BIN} is not there: run `make setup`")
    folder, aside = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("aside")
    schema = FeatureSchema(features=tuple(Feature(name=name) for name in FEATURES))
    golden = GoldenRows(columns=FEATURES, rows=((0.5,) * 32, (-0.5,) * 32))
    text, made = booster(), iter(range(1000))

    def put(version: str, kind: str) -> str:
        """A bundle in the place of the one that is there, by renaming alone; its digest."""
        new, place = aside / str(next(made)), folder / version
        spec = PackSpec(
            name="rb-live", version=version, framework="lightgbm", schema=schema,
            output=Output(kind="probability", neutral=0.5), training={"kind": kind},
        )  # fmt: skip
        pack(spec, text, golden, new)
        if place.exists():
            place.rename(aside / str(next(made)))
        new.rename(place)
        return store.read_manifest(place).digest

    put("7", "first")
    process = subprocess.Popen(
        [
            BIN / "signalyard", "serve", "--models", folder, "--http-port", "0", "--grpc-port", "0",
            "--metrics-port", "0", "--warmup", "20", "--live-changes", "local",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("SIGNALYARD_")},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        ready = process.stdout.readline().split()
        assert ready[2:3] == ["ready,"], ready
        ports = dict(zip(ready[5::2], (word.strip(",") for word in ready[6::2]), strict=True))
        yield Live(process.pid, folder, f"127.0.0.1:{ports['http']}", f"127.0.0.1:{ports['grpc']}", put)
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


class Callers:
    """Ask without a pause, each on its connection, for the newest version and for one by its name."""

    def __init__(self, live: Live) -> None:
        self.answers: Counter[tuple[int, str]] = Counter()
        self._live = live
        self._stop = threading.Event()

    def __enter__(self) -> "Callers":
        self._pool = ThreadPoolExecutor(4)
        rows = (1, 1, 1, 600)  # so many are scored on the model's own thread
        paths = ("", "/versions/7", "", "/versions/7")
        self._callers = [self._pool.submit(self._ask, path, count) for path, count in zip(paths, rows, strict=True)]
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for caller in self._callers:
            caller.result(timeout=PATIENCE)
        self._pool.shutdown()

    def _ask(self, path: str, rows: int) -> None:
        connection = http.client.HTTPConnection(self._live.http, timeout=PATIENCE)
        body = profile.encode_request("r", FEATURES, [[0.1] * 32] * rows)
        while not self._stop.is_set():
            connection.request("POST", f"/v2/models/rb-live{path}/infer", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            said = json.loads(answer.read())
            self.answers[(answer.status, said.get("parameters", {}).get("digest", ""))] += 1
        connection.close()


def digest(live: Live, version: str = "") -> str:
    path = f"/versions/{version}" if version else ""
    body = profile.encode_request("r", FEATURES, [[0.1] * 32])
    answer = requests.post(f"http://{live.http}/v2/models/rb-live{path}/infer", data=body, timeout=PATIENCE)
    return str(answer.json()["parameters"]["digest"])


def test_replacing_under_load_fails_no_request_and_keeps_no_memory(live: Live) -> None:
    seen = {digest(live)}
    with Callers(live) as callers:
        for number in range(RELOADS):
            new = live.put("7", f"reload {number}")
            assert live.change("load").status_code == 200
            assert digest(live) == new  # at once
            seen.add(new)
            if number == SETTLED:
                before = live.resident()
        grown = live.resident() - before
    assert {status for status, _ in callers.answers} == {200}
    assert {answered for _, answered in callers.answers} <= seen
    assert len(seen) == RELOADS + 1
    # Of the model's 200 trees each reload would keep 5 MiB if it kept them.
    assert grown < 12, f"{grown:.1f} MiB more after {RELOADS - SETTLED - 1} reloads"


def test_loading_and_unloading_versions_under_load(live: Live) -> None:
    eight = live.put("8", "new")
    with Callers(live) as callers:
        assert live.change("load", parameters={"version": "8"}).status_code == 200
        assert (digest(live), digest(live, "8")) == (eight, eight)
        assert live.index() == {"7": "READY", "8": "READY"}
        assert live.change("unload", parameters={"version": "8"}).status_code == 200
        assert live.index() == {"7": "READY", "8": "UNAVAILABLE"}
        assert digest(live) == digest(live, "7")
    assert {status for status, _ in callers.answers} == {200}


def test_a_bad_bundle_disturbs_nobody(live: Live) -> None:
    good = digest(live, "7")
    live.put("9", "bad")
    (live.folder / "9" / "model.txt").write_bytes(b"tree\n")
    with Callers(live) as callers:
        answer = live.change("load")
    assert (answer.status_code, "bundle_file_changed" in answer.json()["error"]) == (500, True)
    (live.folder / "9").rename(live.folder / ".9")
    assert set(callers.answers) == {(200, good)}


def test_the_same_by_grpc(live: Live) -> None:
    from mlserver.grpc import dataplane_pb2 as pb
    from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub

    nine = live.put("8", "by grpc")
    with grpc.insecure_channel(live.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="rb-live"), timeout=PATIENCE)
        assert digest(live) == nine
        with pytest.raises(grpc.RpcError) as refused:
            stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="rb-live"), timeout=PATIENCE)
        assert (refused.value.code(), "say which version" in refused.value.details()) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            True,
        )
        request = pb.RepositoryModelUnloadRequest(model_name="rb-live")
        request.parameters["version"].string_param = "8"
        stub.RepositoryModelUnload(request, timeout=PATIENCE)
        index = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True), timeout=PATIENCE)
    assert [(model.version, model.state) for model in index.models] == [("7", "READY")]
