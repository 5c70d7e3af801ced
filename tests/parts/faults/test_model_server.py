"""A real model server, `signalyard serve` with a LightGBM bundle, frozen and killed under load."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BIN = ROOT / ".venv" / "runtimes" / "bin"
PATIENCE = 60.0

PACK = """
import sys
from pathlib import Path
import lightgbm, numpy as np
from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes.bundle.manifest import GoldenRows, Output
from signalyard_runtimes.packing import PackSpec, pack

x = np.linspace(0.0, 1.0, 400).reshape(-1, 1)
y = (x[:, 0] > 0.5).astype(int)
parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 7}
booster = lightgbm.train(parameters, lightgbm.Dataset(x, y, feature_name=["p"]), 20)
schema = FeatureSchema(features=(Feature(name="p", minimum=0.0, maximum=1.0),))
spec = PackSpec(name="rb-trend", version="7", framework="lightgbm", schema=schema,
                output=Output(kind="probability", neutral=0.5))
golden = GoldenRows(columns=("p",), rows=((0.1,), (0.9,)))
pack(spec, booster.model_to_string().encode(), golden, Path(sys.argv[1]))
"""
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("SIGNALYARD_")}


class Served:
    """`signalyard serve` on one port, as often as it is started."""

    def __init__(self, folder):
        self.bundle = folder / "bundle"
        subprocess.run([BIN / "python", "-c", PACK, str(self.bundle)], check=True, timeout=PATIENCE, env=ENVIRONMENT)
        self.port = 0
        self.process = None

    def start(self):
        command = [BIN / "signalyard", "serve", "--models", self.bundle, "--http-port", self.port, "--warmup", 5]
        self.process = subprocess.Popen(
            [str(word) for word in (*command, "--grpc-port", 0, "--metrics-port", 0)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=ENVIRONMENT,
        )
        line = self.process.stdout.readline()  # ends with the process, so that a dead one is not waited for
        assert ": ready, " in line, line
        self.port = int(dict(part.split() for part in line.strip().split(", ")[2:])["http"])

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)
            self.process.stdout.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    server = Served(tmp_path_factory.mktemp("served"))
    server.start()
    yield server
    server.end()


def test_frozen_then_killed_under_load(served, tools, models, tmp_path):
    router = tools.RouterProcess(tmp_path, models.ports | {"7": served.port}, deadline="300ms")
    try:
        router.start()
        newest = lambda: {record.get("version") for record in router.records()[-6:]}  # noqa: E731
        with tools.Load(f"http://127.0.0.1:{router.port}", strategies=2) as load:
            load.more(20)
            assert "7" in newest()

            served.process.send_signal(signal.SIGSTOP)
            tools.until(lambda: newest() == {"6"})
            load.more(10)
            served.process.send_signal(signal.SIGCONT)
            tools.until(lambda: newest() == {"7"})
            load.more(20)

            served.end()
            tools.until(lambda: newest() == {"6"})
            load.more(20)
            served.start()
            tools.until(lambda: newest() == {"7"})
            load.more(20)
        assert not load.failures, load.failures
        records = tools.check_record(router, load).values()
        # one input has one score from a version, whatever froze or died in between: nobody got another's
        scores = {}
        for record in records:
            if record.get("version"):
                key = (record["version"], record["input"]["values"][0])
                assert scores.setdefault(key, record["score"]) == record["score"]
        assert {version for version, _ in scores} == {"6", "7"}
        results = {step["result"] for record in records for step in record["steps"] if step["rung"] == "stable"}
        assert {"answered", "model_timeout", "model_unreachable"} <= results
        # the noise of a busy machine may cost both rungs their time once in a while, the fault may not
        assert len([d for _, d in load.decisions if d.reason == "no_answer"]) <= len(load.decisions) // 20
    finally:
        router.close()
