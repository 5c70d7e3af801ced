"""The values on the pages are taken by the charts, and the commands name files that there are."""

import re
from typing import Any

import pytest
import yaml
from rendered.charts import HELM, Rendered, render
from rendered.schemas import validate

ROOT = HELM.parent
PAGES = ("install", "tracks", "rollback", "kserve", "gitops", "security")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def merged(values: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """As helm merges two files of values."""
    both = {
        key: merged(values[key], each) if isinstance(each, dict) and isinstance(values.get(key), dict) else each
        for key, each in over.items()
    }
    return {**values, **both}


def checked(release: Rendered) -> Rendered:
    for each in release.objects:
        validate(each)
    return release


def test_the_values_of_an_installation_are_taken_by_the_charts() -> None:
    router, model, credentials = (yaml.safe_load(text) for text in blocks("install", "yaml"))
    assert checked(render("router", router)).of("PrometheusRule")
    assert list(checked(render("model", model)).of("Deployment")) == ["rb-trend-stable"]
    (pulling,) = render("model", merged(model, credentials)).of("Deployment")["rb-trend-stable"]["spec"]["template"][
        "spec"
    ]["initContainers"]
    assert pulling["envFrom"] == [{"secretRef": {"name": "bundle-store"}}]


def test_the_values_of_a_version_are_taken_on_top_of_an_installation() -> None:
    _, model, _ = (yaml.safe_load(text) for text in blocks("install", "yaml"))
    names = []
    for text in blocks("tracks", "yaml"):
        names.append(list(checked(render("model", merged(model, yaml.safe_load(text)))).of("Deployment")))
    assert names == [
        ["rb-trend-stable"],
        ["rb-trend-stable", "rb-trend-canary"],
        ["rb-trend-stable", "rb-trend-shadow"],
    ]


def test_the_values_for_kserve_are_taken_on_top_of_an_installation() -> None:
    _, model, _ = (yaml.safe_load(text) for text in blocks("install", "yaml"))
    (kserve,) = (yaml.safe_load(text) for text in blocks("kserve", "yaml"))
    assert list(checked(render("model", merged(model, kserve))).of("InferenceService")) == ["rb-trend-7"]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_name_files_that_there_are(page: str) -> None:
    commands = [line for block in blocks(page, "sh") for line in block.splitlines() if line]
    assert commands
    named = [path for line in commands for path in re.findall(r"\b(?:helm|manifests|router|runtimes)/[\w./-]+", line)]
    assert [path for path in named if not (ROOT / path).exists()] == []
    # What a page says is done by these and nothing else, so that a test can run it.
    assert {line.split()[0] for line in commands} <= {"docker", "helm", "kubectl"}


def test_the_pages_link_to_pages_that_there_are() -> None:
    for page in (*PAGES, "sizing"):
        text = (ROOT / "docs" / f"{page}.md").read_text()
        assert [link for link in re.findall(r"\]\(([\w-]+\.md)", text) if not (ROOT / "docs" / link).exists()] == []
