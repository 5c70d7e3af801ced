"""`signalyard journal replay`: nothing on an honest record, the very row on a doctored one."""

import asyncio
import json
import threading

import pytest
from click.testing import CliRunner
from tests.unit.journal.conftest import Bench, rebuild, until

from signalyard.profile import Feature, FeatureSchema, ModelCard
from signalyard_router.cli import journal
from signalyard_router.testing.model_server import Behaviour, ModelServer, ServedModel
from signalyard_router.world.real import RealNetwork

SCHEMA = FeatureSchema((Feature(name="a"), Feature(name="b")))


class Server(threading.Thread):
    """A model server on a loop of its own: version 7 answers the first feature."""

    def __init__(self):
        super().__init__(daemon=True)
        self.loop = asyncio.new_event_loop()
        self.server = ModelServer([self.model("7")])
        self.listening = threading.Event()

    @staticmethod
    def model(version, digest="", score=lambda rows: [row[0] for row in rows]):
        card = ModelCard(
            model="m", version=version, digest=digest or f"sha256:{version}", calibrated=True, schema=SCHEMA
        )
        return ServedModel(card=card, score=score)

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.server.start(RealNetwork()))
        self.listening.set()
        self.loop.run_forever()
        self.server.stop()
        self.loop.run_until_complete(asyncio.sleep(0.01))
        self.loop.close()

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.join()


@pytest.fixture
def model():
    server = Server()
    server.start()
    assert server.listening.wait(20)
    yield server
    server.stop()


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path / "journal")

    async def run():
        bench.open()
        await bench.commit(30)
        await bench.commit(3, version="8")
        checkpoint = bench.names()[-2].replace("journal", "checkpoint")
        await until((bench.folder / checkpoint).exists)
        await bench.close()

    asyncio.run(run())
    return bench


def replay(bench, model, *arguments):
    against = f"http://127.0.0.1:{model.server.port}"
    return CliRunner().invoke(journal, ["replay", "--journal", str(bench.folder), "--against", against, *arguments])


def seq_of(bench, number):
    return next(r["seq"] for r in map(json.loads, bench.lines()) if r.get("proposal_id") == f"{number:032x}")


def test_an_honest_record(bench, model):
    result = replay(bench, model)
    assert result.stdout.splitlines() == [
        "30 records scored, 0 differ; skipped 3 of other versions and 0 without a model's answer",
        "  m 8: 3 skipped",
    ]
    assert result.exit_code == 0
    assert [len(json.loads(r.body)["inputs"][0]["data"]) for r in model.server.inferences] == [60, 6]
    model.server.requests.clear()
    result = replay(bench, model, "--batch", "7", "--limit", "15", "--version", "7", "--route", "r", "--json")
    assert json.loads(result.stdout)["scored"] == 15
    assert [len(json.loads(r.body)["inputs"][0]["data"]) for r in model.server.inferences] == [14, 14, 2]


@pytest.mark.parametrize(
    ("member", "value", "shown"),
    [
        ("score", 0.123, f"score: recorded 0.123, replayed {13 / 97!r}"),
        ("confidence", 0.8, "confidence: recorded 0.8, replayed 0.75"),
        ("digest", "sha256:other", "digest: recorded 'sha256:other', replayed 'sha256:7'"),
        ("input", {"columns": ["a", "b"], "values": [0.9, 13.0]}, f"score: recorded {13 / 97!r}, replayed 0.9"),
    ],
)
def test_a_doctored_record_whose_chain_was_rebuilt(bench, model, member, value, shown):
    def change(record):
        if record.get("proposal_id") == f"{13:032x}":
            assert record[member] != value
            record[member] = value

    rebuild(bench.folder, change)
    verified = CliRunner().invoke(journal, ["verify", "--journal", str(bench.folder)])
    assert (verified.exit_code, "chain verified" in verified.stdout) == (0, True)
    assert "is of no use" in verified.stdout  # but the checkpoints bear witness
    result = replay(bench, model, "--batch", "4")
    line, summary, _ = result.stdout.splitlines()
    assert line == f"record {seq_of(bench, 13)} I1.X {shown} by m 7"
    assert summary.startswith("30 records scored, 1 differ;")
    assert result.exit_code == 1
    (first, last) = replay(bench, model, "--json").stdout.splitlines()
    assert (json.loads(first)["seq"], json.loads(first)["what"]) == (seq_of(bench, 13), shown.partition(":")[0])
    assert json.loads(last)["differences"] == {shown.partition(":")[0]: 1}


def test_a_doctored_record_without_its_chain(bench, model):
    path = bench.folder / bench.names()[1]
    path.write_bytes(path.read_bytes().replace(b'"confidence":0.75', b'"confidence":0.85', 1))
    verified = CliRunner().invoke(journal, ["verify", "--journal", str(bench.folder)])
    assert f"{bench.names()[1]}, line 2: the chain is broken" in str(verified.exception)
    result = replay(bench, model)
    assert result.exit_code == 2
    assert "the chain is broken" in result.stderr


def test_another_bundle_under_the_same_version(bench, model):
    model.server.serve(model.model("8", digest="sha256:another", score=lambda rows: [row[0] + 1e-7 for row in rows]))
    result = replay(bench, model)
    assert result.exit_code == 1
    assert [line.split()[3] for line in result.stdout.splitlines()[:6]] == ["digest:", "score:"] * 3
    result = replay(bench, model, "--tolerance", "1e-6")
    assert "33 records scored, 3 differ" in result.stdout
    model.server.serve(model.model("8", score=lambda rows: [row[0] + 1e-7 for row in rows]))
    assert replay(bench, model, "--tolerance", "1e-6").exit_code == 0


def test_what_cannot_be_replayed(bench, model, tmp_path):
    result = replay(bench, model, "--version", "9")
    assert result.exit_code == 2
    assert "nothing could be scored" in result.stderr
    model.server.behaviour = Behaviour.FAIL
    result = replay(bench, model)
    assert (result.exit_code, "model_failed" in result.stderr) == (2, True)
    model.server.behaviour = Behaviour.GOOD
    model.server.script.append(Behaviour.OVERLOADED)  # passes
    assert replay(bench, model).exit_code == 0
    for url in ("https://127.0.0.1", "127.0.0.1:1", "http://127.0.0.1:1/v2", "http://127.0.0.1:x"):
        result = CliRunner().invoke(journal, ["replay", "--journal", str(bench.folder), "--against", url])
        assert (result.exit_code, "--against" in result.stderr) == (2, True)
    result = CliRunner().invoke(journal, ["replay", "--journal", str(tmp_path), "--against", "http://127.0.0.1:1"])
    assert (result.exit_code, "holds no journal" in result.stderr) == (2, True)
