"""Writes what is generated in the charts under the folder given as the only argument."""

import json
import sys
from pathlib import Path
from typing import Any

from signalyard_charts.readme import with_table
from signalyard_charts.route_schema import WRITTEN_BY_THE_CHART, with_route
from signalyard_charts.values import read_values


def generated(helm: Path) -> dict[Path, str]:
    """What each generated file should hold. ``helm`` is the folder of the charts."""
    model, router = helm / "model", helm / "router"
    schemas = {
        model: with_route(_schema(model), "routeSpec", without=WRITTEN_BY_THE_CHART, whole=False),
        router: with_route(_schema(router), "routeDocumentSpec"),
    }
    files = {chart / "values.schema.json": json.dumps(schema, indent=2) + "\n" for chart, schema in schemas.items()}
    for chart in schemas:
        readme = chart / "README.md"
        files[readme] = with_table(readme.read_text(), read_values((chart / "values.yaml").read_text()))
    return files


def _schema(chart: Path) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((chart / "values.schema.json").read_text())
    return schema


if __name__ == "__main__":
    for path, text in generated(Path(sys.argv[1])).items():
        path.write_text(text)
