"""The command line: bundle pack, verify, inspect; serve's refusals that need no server."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from signalyard.cli import main
from signalyard.problems import ModelError
from signalyard_runtimes.bundle import store
from signalyard_runtimes.bundle.manifest import GoldenRows
from signalyard_runtimes.mlserver.lightgbm import LightGBMRuntime
from signalyard_runtimes.mlserver.planes import model_settings
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
    "command",
    [("bundle",), *(("bundle", name) for name in ("pack", "verify", "inspect", "push", "pull", "fetch")), ("serve",)],
)
def test_help(run: Callable[..., Result], command: tuple[str, ...]) -> None:
    shown = run(*command, "--help")
    assert shown.exit_code == 0
    assert "Example" in shown.output or command == ("bundle",)


OTHER = "sha256:" + "0" * 64


def test_serve_refuses_what_is_not_required(
    run: Callable[..., Result], lightgbm_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "termination-log"
    monkeypatch.setenv("SIGNALYARD_TERMINATION_LOG", str(log))
    monkeypatch.setattr("signalyard_runtimes.collector.rest", lambda: None)  # it would be that of all tests
    digest = json.loads((lightgbm_bundle / "manifest.json").read_bytes())["digest"]
    for required, words in (
        ((OTHER,), f"bundle_not_required at /digest: bundle {lightgbm_bundle}: it is {digest}, required is {OTHER}"),
        ((digest, OTHER), f"bundle_not_required: {lightgbm_bundle.parent}: required is {OTHER}, and it is not there"),
        (("sha256:7",), "invalid_setting at /digest: 'sha256:7' is no digest: write sha256: and 64 digits 0-9, a-f"),
    ):
        options = [option for each in required for option in ("--require", each)]
        found = run("serve", "--models", lightgbm_bundle.parent, *options)
        assert (found.exit_code, found.stderr) == (1, f"signalyard: {words}\n")
        assert log.read_text() == words


def test_what_serve_read_is_what_is_loaded(lightgbm_bundle: Path) -> None:
    manifest = msgspec.structs.replace(store.read_manifest(lightgbm_bundle), digest=OTHER)
    with pytest.raises(ModelError, match=f"asked for was {OTHER}"):
        asyncio.run(LightGBMRuntime(model_settings(lightgbm_bundle, manifest)).load())
