"""The values of a chart, with what the comments beside them say.

A value is described by the comment right above its key that begins with ``# --``; lines that follow belong to it. A map may be
described as a whole, or key by key.
"""

import json
from dataclasses import dataclass

import yaml

_MARK = "# -- "


@dataclass(frozen=True)
class Value:
    """One line of the table: the path with dots, the default as JSON, and what the comment says."""

    path: str
    default: str
    description: str


class UndescribedValueError(Exception):
    """A value has no comment. The message is its path."""


def read_values(text: str) -> list[Value]:
    """The values of a ``values.yaml``, in its order. Raises UndescribedValueError for one that no comment describes."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    return _values(root, text.splitlines(), ())


def _values(node: yaml.MappingNode, lines: list[str], above: tuple[str, ...]) -> list[Value]:
    found: list[Value] = []
    for key, child in node.value:
        path = (*above, key.value)
        description = _description(lines, key.start_mark.line)
        if description is not None:
            found.append(Value(".".join(path), json.dumps(yaml.safe_load(yaml.serialize(child))), description))
        elif isinstance(child, yaml.MappingNode) and child.value:
            found.extend(_values(child, lines, path))
        else:
            raise UndescribedValueError(".".join(path))
    return found


def _description(lines: list[str], line: int) -> str | None:
    """What the comment right above ``line`` says; None if there is none that begins with the mark."""
    comment: list[str] = []
    for text in reversed([above.strip() for above in lines[:line]]):
        if text.startswith(_MARK):
            return " ".join([text.removeprefix(_MARK), *comment])
        if not text.startswith("# "):
            return None
        comment.insert(0, text.removeprefix("# "))
    return None
