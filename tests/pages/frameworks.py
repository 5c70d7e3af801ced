"""The examples of docs/frameworks.md, as a reader runs them."""

import re
import shlex
from pathlib import Path

from click.testing import CliRunner
from tests.pages.commands import ROOT

from signalyard.cli import main
from signalyard_runtimes.scorer import load

_EXAMPLE = re.compile(
    r"^```python (?P<framework>\S+)\n(?P<code>.*?)^```\n\n```sh local\n(?P<command>.*?)\n```$", re.M | re.S
)
_COMMON = re.compile(r"^```python\n(?P<code>.*?)^```$", re.M | re.S)
_PAGE = (ROOT / "docs" / "frameworks.md").read_text()


def frameworks() -> list[str]:
    """Those that have an example."""
    return [found["framework"] for found in _EXAMPLE.finditer(_PAGE)]


def follow(framework: str) -> None:
    """Run the example in the current folder, with warnings as they come, and load what it has packed."""
    (common,) = _COMMON.finditer(_PAGE)
    (example,) = (found for found in _EXAMPLE.finditer(_PAGE) if found["framework"] == framework)
    code = compile(common["code"] + example["code"], f"docs/frameworks.md, {framework}", "exec")
    exec(code, {"__name__": "example"})
    program, *arguments = shlex.split(example["command"])
    assert program == "signalyard"
    answer = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    scorer = load(Path("models", framework))
    assert scorer.framework == framework
    assert scorer.golden is not None
    assert len(scorer.golden.score) == 20
