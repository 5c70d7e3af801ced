"""The dashboards that ship: those of the code, readable by Grafana, every query PromQL of one release."""

import json
import re
from pathlib import Path

import pytest
from expressions import parsed

from signalyard_dashboards.files import FILES, text

CHARTS = Path(__file__).resolve().parents[2] / "helm"


@pytest.mark.parametrize("place", FILES)
def test_the_file_is_what_the_code_says(place):
    assert (CHARTS / place).read_text(encoding="utf-8") == text(FILES[place]), "say `make generate`"


def test_there_are_no_others():
    found = {str(path.relative_to(CHARTS)) for path in CHARTS.glob("*/files/dashboards/*")}
    assert found == set(FILES)


@pytest.mark.parametrize("place", FILES)
def test_panels_have_places_of_their_own(place):
    panels = json.loads((CHARTS / place).read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("dashboard", FILES.values(), ids=lambda dashboard: dashboard.uid)
def test_queries_parse_and_keep_to_what_was_chosen(dashboard):
    names = {variable.name for variable in dashboard.variables} | {"__rate_interval"}
    for query in dashboard.queries():
        assert set(re.findall(r"\$(\w+)", query)) <= names
        selectors, _ = parsed(query.replace("$__rate_interval", "5m"))
        assert selectors
        for selector in selectors:
            assert {"namespace", "job"} <= selector.labels, query


@pytest.mark.parametrize("dashboard", FILES.values(), ids=lambda dashboard: dashboard.uid)
def test_legends_name_labels_that_are_there(dashboard):
    for row in dashboard.rows:
        for panel in row.panels:
            for query in panel.queries:
                grouped = re.match(
                    r"(?:topk\(\d+, |histogram_quantile\([\d.]+, )?sum by \(([a-z, ]+)\)", query.expression
                )
                if grouped:
                    assert set(re.findall(r"{{(\w+)}}", query.legend)) <= set(grouped[1].split(", ")), panel.title
