"""The charts tell the servers only what these can be told."""

import re
from pathlib import Path

from signalyard_router.cli import router
from signalyard_runtimes.cli import bundle, serve

HELM = Path(__file__).resolve().parents[3] / "helm"


def named(chart: str) -> set[str]:
    templates = (HELM / chart / "templates").glob("*.yaml")
    return {name for path in templates for name in re.findall(r"SIGNALYARD_[A-Z_]+", path.read_text())}


def test_the_router_chart_names_settings_of_the_router() -> None:
    known = {option.envvar for option in router.params}
    asked = named("router")
    assert len(asked) > 20
    assert asked - known == set()


def test_the_model_chart_names_settings_and_options_of_the_runtimes() -> None:
    assert named("model") - {option.envvar for option in serve.params} == set()
    text = (HELM / "model" / "templates" / "deployment.yaml").read_text()
    args = set(re.findall(r"--[a-z][a-z-]*", text))
    known = {name for command in (serve, bundle.commands["pull"]) for option in command.params for name in option.opts}
    assert len(args) == 8
    assert args - known == set()
