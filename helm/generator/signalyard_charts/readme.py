"""The table of values at the end of a chart's README."""

from signalyard_charts.values import Value

MARK = "<!-- The rest is generated from values.yaml by `make generate`. -->"


def with_table(readme: str, values: list[Value]) -> str:
    """``readme`` with a new table behind the mark. Raises ValueError where the mark is missing."""
    written, mark, _ = readme.partition(MARK)
    if not mark:
        raise ValueError(f"a chart's README must hold the line {MARK!r}")
    rows = [f"| `{value.path}` | `{_cell(value.default)}` | {_cell(value.description)} |" for value in values]
    return "\n".join([written + MARK, "", "## Values", "", "| value | default | meaning |", "|---|---|---|", *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
