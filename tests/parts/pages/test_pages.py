"""The pages that need no cluster, as a reader follows them: every command as it stands, in the order of the pages."""

import contextlib
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tests.pages.commands import fenced, scripts

SIGNALYARD = Path(__file__).parents[3] / ".venv" / "dev" / "bin" / "signalyard"
PATIENCE = 240.0
_SERVERS = {"serve": ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT"), "router": ("HTTP_PORT", "ADMIN_PORT")}
_PORTS = {"serve": (8080, 8081, 8082), "router": (8090, 8091)}


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Reader:
    """Types what the pages say, in a folder of his own.

    The ports on the pages may be another program's on this machine; free ones take their place, by the variables that set them.
    """

    def __init__(self, folder):
        self.folder = folder
        documented = [port for ports in _PORTS.values() for port in ports]
        self.ports = dict(zip(documented, free_ports(len(documented)), strict=True))
        command = folder / "bin" / "signalyard"
        command.parent.mkdir()
        cases = "".join(
            f"{name}) export "
            + " ".join(f"SIGNALYARD_{v}={self.ports[p]}" for v, p in zip(_SERVERS[name], _PORTS[name], strict=True))
            + ";;\n"
            for name in _SERVERS
        )
        command.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}esac\nexec {SIGNALYARD} "$@"\n')
        command.chmod(0o755)

    def here(self, text):
        """A page's text with this machine's ports."""
        return re.sub(r"\b80\d\d\b", lambda found: str(self.ports.get(int(found[0]), found[0])), text)

    def types(self, *typed):
        """What the scripts print; what they left running in the background ends with them."""
        said = []
        for one in typed:
            with (self.folder / "out").open("wb") as out:
                process = subprocess.Popen(
                    ["bash", "-eu", "-o", "pipefail", "-c", self.here(one.text)],
                    cwd=self.folder,
                    env={**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"},
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            try:
                code = process.wait(PATIENCE)
            finally:
                end(process.pid)
            said.append((self.folder / "out").read_text())
            assert code == 0, f"{one.place}\n{said[-1]}"
        return said


def end(group):
    with contextlib.suppress(ProcessLookupError):  # nothing was left
        os.killpg(group, signal.SIGKILL)


def model(folder):
    """A model of the features that the page's bundle has."""
    import lightgbm  # here: every process that runs tests reads this file, and this takes seconds

    random = np.random.default_rng(7)
    x = np.column_stack((random.normal(3500, 10, 500), random.normal(size=500), random.integers(0, 400, 500)))
    y = (x[:, 1] > 0).astype(int)
    np.savetxt(folder / "train.csv", x, delimiter=",", header="close,ret_5,volume", comments="")
    data = lightgbm.Dataset(x, y, feature_name=["close", "ret_5", "volume"])
    lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, data, 5).save_model(folder / "model.txt")


@pytest.mark.parts
def test_pages(tmp_path):
    reader = Reader(tmp_path)
    description, rows = fenced("docs/bundles.md", "json")
    (route,) = fenced("README.md", "yaml")
    model(tmp_path)
    for name, text in {"rb-trend.json": description, "rows.json": rows, "routes/rb-trend.yaml": route}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(reader.here(text))

    reader.types(*scripts("docs/bundles.md", "local"))
    (by_hand,) = reader.types(*scripts("README.md", "local"))
    looked_at, queried = reader.types(*scripts("docs/journal.md", "local"))

    # It was decided, by the rules of the page's route, and can be explained.
    assert '"route":"rb-trend"' in by_hand
    assert "rb2410.SHFE" in by_hand.rpartition('"route":"rb-trend"')[2]
    assert "rb2410.SHFE" in looked_at
    assert (tmp_path / "canary.parquet").exists()
    assert "route,reason,n" in queried
