"""docs/inline.md as a reader follows it: its route, its bundle, and every block of Python in the order of the page."""

from pathlib import Path

import lightgbm as lgb
import msgspec
import numpy as np
import pytest
from tests.pages.commands import fenced

from signalyard_runtimes.bundle.manifest import Description, GoldenRows
from signalyard_runtimes.packing import PackSpec, pack


def bundle(folder: Path) -> None:
    """The bundle of docs/bundles.md, around a model whose every score lies in the long range."""
    description, rows = fenced("docs/bundles.md", "json")
    described = msgspec.json.decode(description, type=Description)
    random = np.random.default_rng(7)
    x = np.column_stack((random.normal(3500, 10, 500), random.normal(size=500), random.integers(0, 400, 500)))
    data = lgb.Dataset(x, random.random(500) < 0.9, feature_name=list(described.schema.names))
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 4, "learning_rate": 0.01}
    text = lgb.train(parameters, data, 3).model_to_string().encode()
    fields = {name: getattr(described, name) for name in PackSpec.__struct_fields__ if hasattr(described, name)}
    pack(PackSpec(**fields), text, msgspec.json.decode(rows, type=GoldenRows), folder)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bundle(tmp_path / "models" / "rb-trend-7")
    (document,) = fenced("docs/inline.md", "yaml")
    (tmp_path / "routes").mkdir()
    # A machine that is busy with other tests is no reason for another outcome.
    (tmp_path / "routes" / "rb.yaml").write_text(document.replace("deadline: 100ms", "deadline: 10s"))
    monkeypatch.chdir(tmp_path)
    scores, blocking, on_a_loop = fenced("docs/inline.md", "python")
    for block in (scores, blocking.replace("deadline=1.0", "deadline=60.0"), on_a_loop):
        exec(compile(block, "docs/inline.md", "exec"), {"__name__": "__main__"})
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("7 0.")
    assert said[1].startswith("emitted None Signal(symbol='rb2410.SHFE'")
    # The lever of the example before outlived its process.
    assert "outcome=<Outcome.SUPPRESSED: 'suppressed'>, reason=<Reason.HALTED: 'halted'>" in said[2]
