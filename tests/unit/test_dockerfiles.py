"""A Dockerfile includes no other, and a base image of our own would be one more thing to publish and to keep. So what both images do
alike stands in both, word for word."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
ROUTER, RUNTIMES = ((ROOT / name / "Dockerfile").read_text() for name in ("router", "runtimes"))


def runs(text):
    """The last stage, but for what it copies and which ports it has."""
    stage = text.partition("FROM ${BASE}\n")[2]
    return [line for line in stage.splitlines() if not line.startswith(("COPY", "EXPOSE"))]


def test_both_run_alike():
    assert runs(ROUTER) == runs(RUNTIMES)
    assert "USER 10001:10001" in runs(ROUTER)


def test_both_are_built_on_what_they_are_given():
    heads = [text.partition("ARG BASE=")[2].partition("AS build")[0] for text in (ROUTER, RUNTIMES)]
    assert heads[0] == heads[1]
    assert "FROM ${BUILDER}" in heads[0]
