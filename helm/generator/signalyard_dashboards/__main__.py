"""Write the dashboards into the charts: ``python -m signalyard_dashboards CHARTS``."""

import sys
from pathlib import Path

from signalyard_dashboards.files import FILES, text


def main(charts: Path) -> None:
    """Write every file."""
    for place, dashboard in FILES.items():
        path = charts / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
