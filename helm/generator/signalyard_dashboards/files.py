"""Which dashboard ships in which chart's file."""

import json

from signalyard_dashboards.model import MODEL
from signalyard_dashboards.panels import Dashboard
from signalyard_dashboards.router import ROUTER

FILES: dict[str, Dashboard] = {
    "router/files/dashboards/signalyard-router.json": ROUTER,
    "model/files/dashboards/signalyard-model.json": MODEL,
}
"""By the path within the folder of charts."""


def text(dashboard: Dashboard) -> str:
    """The whole file."""
    return json.dumps(dashboard.to_json(), indent=1, ensure_ascii=False) + "\n"
