"""The pages, as a reader follows them on a new cluster: every command as it stands, in the order of the pages."""

import json

from bundles import MODEL
from tests.pages.commands import fenced, scripts


def answering(scenario):
    """The versions of the tracks that decide, as far as a pod answers."""
    tracks = scenario.get("signalroute", MODEL).get("status", {}).get("tracks", ())
    return {one["name"]: one["serving"] for one in tracks if one["ready"] and one["name"] in ("stable", "canary")}


def test_pages(reader, prometheus_operator):
    desk, trading = reader.desk, reader.scenario
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
    desk.await_ready("signals")

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
    seven = desk.published.version("7")
    assert f"{seven['uri']}#{seven['digest']}" in said
    assert (reader.folder / "served" / f"{MODEL}-7" / "manifest.json").exists()
    reader.types(uninstall)
    left = json.loads(trading.kubectl("get", "deployments,statefulsets,services,signalroutes", "-o", "json"))["items"]
    assert [one["metadata"]["name"] for one in left] == []


def test_pages_for_kserve(reader, kserve):
    (namespace, *_) = scripts("docs/install.md", "cluster")
    reader.types(namespace)
    try:
        reader.types(*scripts("docs/kserve.md", "cluster"))
        assert reader.scenario.get("servingruntime", "signalyard")
        assert reader.scenario.get("clusterstoragecontainer", "signalyard")
    finally:
        # It is the whole cluster's, and does not go with the namespace.
        reader.scenario.kubectl("delete", "clusterstoragecontainer", "signalyard", "--ignore-not-found")
