"""Documents of routes and groups from the YAML and JSON files of a folder."""

import asyncio
import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from signalyard.problems import Problem, error
from signalyard_router.rules.documents import Document, GroupDocument, RouteDocument, in_namespace, parse_any
from signalyard_router.rules.groups import compile_group, refuse_shared_routes
from signalyard_router.rules.route import compile_route
from signalyard_router.rules.table import refuse_repeated_names
from signalyard_router.stamp import Stamp, stamp

_SUFFIXES = (".yaml", ".yml", ".json")
_PAUSE = 0.002
"""Seconds between two files that are parsed, so that a decision meets at most one of them on its way."""

_Documents = list[tuple[Document, str]]

_MISREAD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What PyYAML lets through from Python where a scalar looks like a date or a number, or is tagged as one, and is none."""


class FileRouteStore:
    """Implements `ports.RouteStore`. A file may hold several YAML documents; JSON is YAML.

    What was read of a file is kept until the file changes: one route among hundreds is then read alone.
    """

    def __init__(self, folder: Path) -> None:
        self.refused: dict[str, str] = {}  # a folder is taken as a whole, or not at all
        self._folder = folder
        self._read: dict[str, tuple[Stamp, _Documents]] = {}

    def version(self) -> Hashable:
        try:
            with os.scandir(self._folder) as entries:
                return frozenset(
                    (entry.name, *stamp(entry.stat())) for entry in entries if entry.name.endswith(_SUFFIXES)
                )
        except OSError as exc:
            return str(exc)

    async def load(self) -> list[tuple[Document, str]]:
        try:
            paths = self._paths()
        except OSError as exc:
            raise error(Problem.INVALID_SETTING, f"the routes' folder cannot be read: {exc}", "/routes") from exc
        if not paths:
            raise error(
                Problem.INVALID_SETTING,
                f"{self._folder} holds no route: put SignalRoute documents there, in files ending in {', '.join(_SUFFIXES)}",
                "/routes",
            )
        documents: _Documents = []
        for path in paths:
            known = self._read.get(path.name)
            documents += self._documents(path)
            if self._read[path.name] is not known:
                await asyncio.sleep(_PAUSE)
        for name in self._read.keys() - {path.name for path in paths}:
            del self._read[name]
        refuse_repeated_names(documents)
        refuse_shared_routes([(group, place) for group, place in documents if isinstance(group, GroupDocument)])
        return documents

    def _paths(self) -> list[Path]:
        return sorted(path for path in self._folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())

    def _documents(self, path: Path) -> _Documents:
        try:
            signature = stamp(path.stat())
        except OSError as exc:
            raise error(Problem.INVALID_DOCUMENT, f"{_shown(path.name)} cannot be read: {exc}") from exc
        known = self._read.get(path.name)
        if known is not None and known[0] == signature:
            return known[1]
        documents = [(_document(data, place), place) for data, place in _parts(path) if data is not None]
        self._read[path.name] = (signature, documents)
        return documents


def _document(data: Any, place: str) -> Document:
    """A document that is good by itself. A file that is meant for a cluster, too, may name a namespace; here there is none."""
    document = parse_any(data, place)
    if isinstance(document, RouteDocument):
        compile_route(document, place=place)
        return in_namespace(document, "")
    compile_group(document, place)
    return in_namespace(document, "")


def _parts(path: Path) -> list[tuple[Any, str]]:
    name = _shown(path.name)
    try:
        parts = list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=_Loader))
    except (OSError, UnicodeDecodeError) as exc:
        raise error(Problem.INVALID_DOCUMENT, f"{name} cannot be read: {exc}") from exc
    except (yaml.YAMLError, RecursionError, *_MISREAD) as exc:
        mark = getattr(exc, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        text = getattr(exc, "problem", None) or exc
        raise error(Problem.INVALID_DOCUMENT, f"{name}{place}: not YAML: {text}") from exc
    if len(parts) == 1:
        return [(parts[0], name)]
    return [(part, f"{name}, document {number}") for number, part in enumerate(parts, start=1)]


def _shown(name: str) -> str:
    """A file's name as text that can be written down; names on disk are bytes, and hold what they like."""
    return name if name.isprintable() else ascii(name)[1:-1]


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would keep the last silently.

    Python's own parser, though libyaml's is ten times faster: that one crashes the process on a deeply nested document.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        if not isinstance(node, yaml.MappingNode):
            return super().construct_mapping(node, deep)  # which says so
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is given twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)
