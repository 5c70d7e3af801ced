"""The command line: bundle pack, verify, inspect; serve's refusals that need no server."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from signalyard.cli import main
from signalyard_runtimes.bundle.manifest import GoldenRows
from signalyard_runtimes.packing import PackSpec


@pytest.fixture
def run() -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_pack_verify_inspect(
    run: Callable[..., Result], tmp_path: Path, lightgbm_spec: PackSpec, booster_text: bytes, golden: GoldenRows
) -> None:
    spec, model, rows, out = (tmp_path / name for name in ("spec.json", "model.txt", "rows.json", "models/rb-trend-7"))
    spec.write_bytes(msgspec.json.encode(lightgbm_spec))
    model.write_bytes(booster_text)
    rows.write_text(json.dumps({"columns": golden.columns, "rows": golden.rows}))
    packed = run("bundle", "pack", spec, model, "--golden", rows, "--out", out)
    assert packed.exit_code == 0, packed.output
    digest = json.loads((out / "manifest.json").read_bytes())["digest"]
    assert packed.output == f"{out}: rb-trend 7, {digest}\n"

    assert run("bundle", "verify", out).output == f"{out}: good, rb-trend 7, {digest}, 4 golden rows\n"
    assert run("bundle", "verify", out, "--digest", digest).exit_code == 0
    assert json.loads(run("bundle", "verify", out, "--json").output) == {
        "ok": True,
        "path": str(out),
        "name": "rb-trend",
        "version": "7",
        "digest": digest,
    }

    assert json.loads(run("bundle", "inspect", out, "--json").output)["digest"] == digest
    shown = run("bundle", "inspect", out).output
    for words in (digest, "isotonic", "the next bar closes higher", "close", "from 0.0", "missing: native", "500"):
        assert words in shown


def test_verify_says_what_is_wrong(run: Callable[..., Result], lightgbm_bundle: Path) -> None:
    (lightgbm_bundle / "model.txt").write_text("tree")
    found = run("bundle", "verify", lightgbm_bundle)
    assert found.exit_code == 1
    assert found.stderr.startswith(
        f"signalyard: bundle_file_changed at /files/model.txt/size: bundle {lightgbm_bundle}: 'model.txt' must have"
    )
    assert found.stderr.count("\n") == 1
    found = run("bundle", "verify", lightgbm_bundle, "--json")
    assert found.exit_code == 1
    answer = json.loads(found.stdout)
    assert (answer["ok"], answer["problem"]["code"]) == (False, "bundle_file_changed")


def test_a_spec_with_a_mistake_names_the_field(
    run: Callable[..., Result], tmp_path: Path, lightgbm_spec: PackSpec, booster_text: bytes
) -> None:
    spec, model, rows = (tmp_path / name for name in ("spec.json", "model.txt", "rows.json"))
    document = json.loads(msgspec.json.encode(lightgbm_spec))
    document["output"]["neutral"] = "half"
    spec.write_text(json.dumps(document))
    model.write_bytes(booster_text)
    rows.write_text("{}")
    found = run("bundle", "pack", spec, model, "--golden", rows, "--out", tmp_path / "out")
    assert found.exit_code == 1
    assert found.stderr == (
        "signalyard: bundle_manifest_invalid at /output/neutral: spec.json: Expected `float`, got `str`\n"
    )


@pytest.mark.parametrize(
    "command", [("bundle",), ("bundle", "pack"), ("bundle", "verify"), ("bundle", "inspect"), ("serve",)]
)
def test_help(run: Callable[..., Result], command: tuple[str, ...]) -> None:
    shown = run(*command, "--help")
    assert shown.exit_code == 0
    assert "Example" in shown.output or command == ("bundle",)
