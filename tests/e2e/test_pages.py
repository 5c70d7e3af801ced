"""The pages, as a reader follows them on a new cluster: every command as it stands, in the order of the pages."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from bundles import MODEL
from cluster.places import PROJECT
from desk import Desk
from published import PLAIN_HTTP
from scenario import Scenario
from tests.pages.commands import Script, fenced, scripts

NAMESPACE = "trading"
REGISTRY = "registry.example:5000"
SIGNALYARD = Path(sys.executable).with_name("signalyard")


class Reader:
    """Types what the pages say, in a folder that has charts, manifests and the values that the pages show.

    Of those values the images, the addresses of bundles and their digests are not real; this cluster's take their place.
    """

    def __init__(self, scenario, desk, folder):
        self.scenario = scenario
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
            f"export USER=reader {PLAIN_HTTP}={registry} PATH='{SIGNALYARD.parent}':$PATH",
            *(f"# {one.place}\n{one.text}".replace(REGISTRY, registry) for one in typed),
        ]
        script = "\n".join(lines)
        print(script)
        said = self.scenario.cluster.run("bash", "-eu", "-o", "pipefail", "-c", script, timeout=300)
        print(said)
        return said

    def writes(self, name: str, *pages: str) -> None:
        """A file of values, from those that stand in ``pages`` one over the other."""
        values = {}
        for text in pages:
            values = merged(values, yaml.safe_load(text))
        for track in values.get("tracks", {}).values():
            if track:
                track.update(self.desk.published.version(track["version"]))
        (self.folder / name).write_text(yaml.safe_dump(merged(values, self._of_cluster(name))))

    def _of_cluster(self, name):
        if name == "signals.yaml":
            return {**self.desk.router({}), "serviceMonitor": {"enabled": False}, "rules": {"enabled": False}}
        model = self.desk.model("7")
        return {"pods": model["pods"], "networkPolicy": model["networkPolicy"]}


def merged(values, over):
    """As helm merges files of values."""
    both = {
        key: merged(values[key], each) if isinstance(each, dict) and isinstance(values.get(key), dict) else each
        for key, each in over.items()
    }
    return {**values, **both}


def answering(scenario):
    """The versions of the tracks that decide, as far as a pod answers."""
    tracks = scenario.get("signalroute", MODEL).get("status", {}).get("tracks", ())
    return {one["name"]: one["serving"] for one in tracks if one["ready"] and one["name"] in ("stable", "canary")}


@pytest.fixture
def trading(cluster, places):
    """The pages' namespace, which their commands make."""
    made = Scenario(cluster, NAMESPACE, places.results / "pages")
    made.folder.mkdir(parents=True, exist_ok=True)
    made.end()
    yield made
    made.end()


def test_pages(trading, crds, published, router_image, runtimes_image, tmp_path):
    reader = Reader(trading, Desk(trading, published, router_image, runtimes_image), tmp_path)
    desk = reader.desk
    (namespace, router, model, uninstall) = scripts("docs/install.md", "cluster")
    (signals, rb_trend, _) = fenced("docs/install.md", "yaml")
    (to_8, canary, shadow) = fenced("docs/tracks.md", "yaml")
    (upgrade, promotion, scale) = scripts("docs/tracks.md", "cluster")
    (lever, undo, conflict, release) = scripts("docs/rollback.md", "cluster")

    reader.types(namespace)
    reader.writes("signals.yaml", signals)
    reader.types(router)
    reader.writes("rb-trend.yaml", rb_trend)
    reader.types(model)
    desk.await_ready()

    reader.writes("rb-trend.yaml", rb_trend, canary, shadow)
    reader.types(upgrade)
    trading.await_rollout(f"deployment/{MODEL}-canary")
    trading.until(lambda: answering(trading) == {"stable": "7", "canary": "8"}, "both tracks answer")
    reader.types(promotion)
    desk.await_condition("Overridden", "True", "Rollback")
    reader.types(lever)

    reader.writes("rb-trend.yaml", rb_trend, to_8)
    reader.types(upgrade)
    desk.await_condition("VersionDrift", "False", "AsPinned")
    desk.await_condition("Overridden", "False")
    reader.types(undo)
    desk.await_condition("VersionDrift", "True")
    reader.types(conflict)
    trading.await_rollout(f"deployment/{MODEL}-stable")
    desk.await_condition("VersionDrift", "False", "AsPinned")
    reader.types(release)
    reader.types(scale)
    trading.await_rollout(f"deployment/{MODEL}-stable")

    for page in ("docs/kubernetes.md", "docs/gitops.md", "docs/security.md"):
        reader.types(*scripts(page, "cluster"))
    said = reader.types(*scripts("docs/shipping.md", "cluster"))
    assert (
        f"{REGISTRY}/models/{MODEL}:7#{published.version('7')['digest']}".replace(REGISTRY, published.registry) in said
    )
    assert (tmp_path / "served" / f"{MODEL}-7" / "manifest.json").exists()
    reader.types(uninstall)
    left = json.loads(trading.kubectl("get", "deployments,statefulsets,services,signalroutes", "-o", "json"))["items"]
    assert [one["metadata"]["name"] for one in left] == []
