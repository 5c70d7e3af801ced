"""Somebody who follows the pages on a new cluster."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from bundles import MODEL
from cluster.places import PROJECT
from desk import Desk
from published import PLAIN_HTTP
from tests.pages.commands import Script

NAMESPACE = "trading"
"""Of the pages."""
REGISTRY = "registry.example:5000"
_SIGNALYARD = Path(sys.executable).with_name("signalyard")


class Reader:
    """Types what the pages say, in a folder that has charts, manifests and the values that the pages show.

    Of those values the images, the addresses of bundles and their digests are not real; this cluster's take their place.
    """

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.scenario = desk.scenario
        self.desk = desk
        self.folder = folder
        for name in ("helm", "manifests"):
            (folder / name).symlink_to(PROJECT / name)
        (folder / "models").mkdir()
        (folder / "models" / f"{MODEL}-7").symlink_to(desk.published.bundles.version("7").folder)

    def types(self, *typed: Script) -> str:
        """In one shell; the output. Raises CommandError, which has the output, where a command fails."""
        registry = self.desk.published.registry
        lines = [
            f"cd '{self.folder}'",
            f"export USER=reader {PLAIN_HTTP}={registry} PATH='{_SIGNALYARD.parent}':$PATH",
            *(f"# {one.place}\n{one.text}".replace(REGISTRY, registry) for one in typed),
        ]
        script = "\n".join(lines)
        print(script)
        said = self.scenario.cluster.run("bash", "-eu", "-o", "pipefail", "-c", script, timeout=300)
        print(said)
        return said

    def writes(self, name: str, *pages: str) -> None:
        """A file of values, from those that stand in ``pages`` one over the other."""
        values: dict[str, Any] = {}
        for text in pages:
            values = merged(values, yaml.safe_load(text))
        for track in values.get("tracks", {}).values():
            if track:
                track.update(self.desk.published.version(track["version"]))
        (self.folder / name).write_text(yaml.safe_dump(merged(values, self._of_cluster(name))))

    def _of_cluster(self, name: str) -> dict[str, Any]:
        if name == "signals.yaml":
            return self.desk.router({})
        model = self.desk.model("7")
        return {"pods": model["pods"], "networkPolicy": model["networkPolicy"]}


def merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """As helm merges files of values."""
    both = {
        key: merged(values[key], each) if isinstance(each, dict) and isinstance(values.get(key), dict) else each
        for key, each in over.items()
    }
    return {**values, **both}
