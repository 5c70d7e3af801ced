"""The fenced blocks of a page.

A block that begins with three backticks and ``sh`` is a script to be run as it stands, in the order of the page. A word behind ``sh``,
which no reader is shown, says what it needs:

    ```sh           a cluster
    ```sh local     nothing but the package
    ```sh docker    a Docker engine

Commands that stand indented in a page illustrate, and are not run.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCED = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_NEEDS = {"sh": "cluster", "sh local": "local", "sh docker": "docker"}


@dataclass(frozen=True)
class Script:
    """``needs`` is ``cluster``, ``local`` or ``docker``; ``place`` names page and line."""

    place: str
    needs: str
    text: str


def fenced(page: str, language: str) -> list[str]:
    """The texts of the page's blocks in one language. ``page`` is a path in the repository."""
    return [one["text"] for one in _blocks(page) if one["info"].split()[:1] == [language]]


def scripts(page: str, needs: str = "") -> list[Script]:
    """The page's scripts, or those that need this. Raises ValueError, naming the line, at a word behind ``sh`` that means nothing."""
    found = []
    for one in _blocks(page):
        if one["info"].split()[:1] != ["sh"]:
            continue
        place = f"{page}:{one.string.count(chr(10), 0, one.start()) + 1}"
        if one["info"] not in _NEEDS:
            raise ValueError(f"{place}: {one['info']!r}; there are {', '.join(map(repr, _NEEDS))}")
        found.append(Script(place, _NEEDS[one["info"]], one["text"]))
    return [one for one in found if needs in ("", one.needs)]


def pages() -> list[str]:
    """Every page that there is, by its path in the repository."""
    return ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


def _blocks(page: str) -> list[re.Match[str]]:
    return list(_FENCED.finditer((ROOT / page).read_text()))
