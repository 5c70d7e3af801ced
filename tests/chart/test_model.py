"""What a change of the model chart's values changes, and what it leaves alone."""

from typing import Any

import helm_python
import pytest
from rendered.charts import Object, Rendered, changed, render, values_of

Values = dict[str, Any]


def version(name: str) -> Values:
    """A version of one digit, with a digest and an URI of its own."""
    uri = f"oci://registry.example.com/models/rb-trend:{name}"
    return {"version": name, "digest": "sha256:" + name * 64, "uri": uri}


def values(stable: str, standbys: str, canary: Values | None = None, **paths: Any) -> Values:
    base = values_of("model", "01-first-install")
    standing = [version(name) for name in standbys]
    tracks = {"stable": version(stable), "canary": canary or {}}
    return changed(base, keep={"fewer": ""}, tracks=tracks, standbys=standing, **paths)


def changes(before: Rendered, after: Rendered) -> set[str]:
    """The objects that are not as they were, as kind/name."""
    one, other = (
        {f"{each['kind']}/{each['metadata']['name']}": each for each in release.objects} for release in (before, after)
    )
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


def route_tracks(release: Rendered) -> list[tuple[str, str, Any]]:
    tracks = release.of("SignalRoute")["rb-trend"]["spec"]["tracks"]
    return [(each["name"], each["version"], each.get("weight", each.get("mirror"))) for each in tracks]


def template(release: Rendered, name: str) -> Object:
    found: Object = release.of("Deployment")[name]["spec"]["template"]
    return found


def test_a_new_version_changes_the_pod_template_and_the_route_and_nothing_else() -> None:
    before, after = render("model", values("7", "65")), render("model", values("8", "65"))
    assert changes(before, after) == {"Deployment/rb-trend-stable", "SignalRoute/rb-trend", "Pod/rb-trend-test"}
    one, other = before.of("Deployment")["rb-trend-stable"], after.of("Deployment")["rb-trend-stable"]
    # What a rollout undo brings back: the template, and the cause in the annotations with it.
    assert {**one["spec"], "template": None} == {**other["spec"], "template": None}
    assert one["metadata"]["labels"] == other["metadata"]["labels"]
    assert other["metadata"]["annotations"] == {"kubernetes.io/change-cause": "version 8, sha256:888888888888"}


def test_the_pod_template_alone_says_what_is_served() -> None:
    served = template(render("model", values("7", "65")), "rb-trend-stable")
    assert served["metadata"]["annotations"] == {
        "signalyard.io/version": "7",
        "signalyard.io/digest": "sha256:" + "7" * 64,
        "kubernetes.io/change-cause": "version 7, sha256:777777777777",
    }
    (bundle,), (server,) = served["spec"]["initContainers"], served["spec"]["containers"]
    assert bundle["args"] == [
        "bundle",
        "pull",
        "oci://registry.example.com/models/rb-trend:7",
        "--digest",
        "sha256:" + "7" * 64,
        "--out",
        "/models/rb-trend-7",
    ]
    assert server["args"][-2:] == ["--require", "sha256:" + "7" * 64]
    for probe in ("startupProbe", "readinessProbe"):
        assert server[probe]["httpGet"] == {"path": "/v2/models/rb-trend/versions/7/ready", "port": 8080}
    assert server["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
    assert "configMap" not in str(served["spec"]["volumes"])


@pytest.mark.parametrize("workload", ["Deployment", "InferenceService"])
def test_keys_are_taken_from_a_secret_and_everything_served_must_be_signed(workload: str) -> None:
    plain = values("7", "65", pods__workload=workload)
    signed = changed(plain, pods__trust={"secret": "bundle-keys"})
    if workload == "Deployment":
        spec = template(render("model", signed), "rb-trend-stable")["spec"]
        (server,) = spec["containers"]
        assert server["args"][-2:] == ["--trust", "/trust"]
        # What pulls needs no keys: it loads nothing.
        assert "trust" not in str(spec["initContainers"])
    else:
        spec = render("model", signed).of("InferenceService")["rb-trend-7"]["spec"]["predictor"]
        server = spec["model"]
        assert {"name": "SIGNALYARD_TRUST", "value": "/trust"} in server["env"]
    assert {"name": "trust", "mountPath": "/trust", "readOnly": True} in server["volumeMounts"]
    assert {"name": "trust", "secret": {"secretName": "bundle-keys"}} in spec["volumes"]
    assert "trust" not in str(render("model", plain).objects)


def test_one_track_may_trust_other_keys() -> None:
    canary = {**version("8"), "weight": 10, "trust": {"secret": "trial-keys"}}
    release = render("model", values("7", "65", canary, pods__trust={"secret": "bundle-keys"}))
    secrets = {
        name: [
            volume["secret"]["secretName"]
            for volume in one["spec"]["template"]["spec"]["volumes"]
            if "secret" in volume
        ]
        for name, one in release.of("Deployment").items()
    }
    assert secrets["rb-trend-canary"] == ["trial-keys"]
    assert secrets["rb-trend-stable"] == secrets["rb-trend-standby-6"] == ["bundle-keys"]


def test_nothing_of_a_version_or_of_the_chart_rolls_other_pods() -> None:
    labels = template(render("model", values("7", "65")), "rb-trend-stable")["metadata"]["labels"]
    assert labels == {
        "app.kubernetes.io/name": "signalyard-model",
        "app.kubernetes.io/instance": "rel",
        "app.kubernetes.io/component": "stable",
        "signalyard.io/model": "rb-trend",
        "signalyard.io/track": "stable",
    }


def test_a_pod_goes_only_when_its_successor_is_ready_and_in_its_own_time() -> None:
    deployment = render("model", values("7", "65")).of("Deployment")["rb-trend-stable"]
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert deployment["spec"]["revisionHistoryLimit"] >= 3
    spec = deployment["spec"]["template"]["spec"]
    assert spec["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 3}}}


def test_a_promotion_is_four_changes_of_values_and_no_old_version_is_ever_unloaded() -> None:
    steps = [
        values("7", "65", {**version("8"), "weight": 10}),
        values("7", "65", {**version("8"), "weight": 100}),
        values("7", "765", {**version("8"), "weight": 100}),
        values("8", "76", {**version("8"), "weight": 100}),
        values("8", "76"),
    ]
    trial, weighed, kept, rolled, done = (render("model", step) for step in steps)
    assert changes(trial, weighed) == {"SignalRoute/rb-trend"}
    assert route_tracks(weighed)[:2] == [("stable", "7", 0), ("canary", "8", 100)]

    new = {f"{kind}/rb-trend-standby-7" for kind in ("Deployment", "Service", "PodDisruptionBudget")}
    assert changes(weighed, kept) == {"SignalRoute/rb-trend", *new}

    old = {f"{kind}/rb-trend-standby-5" for kind in ("Deployment", "Service", "PodDisruptionBudget")}
    assert changes(kept, rolled) == {"SignalRoute/rb-trend", "Deployment/rb-trend-stable", "Pod/rb-trend-test", *old}
    # Stable's pods roll under no weight: the canary decides meanwhile.
    assert route_tracks(rolled)[:2] == [("stable", "8", 0), ("canary", "8", 100)]

    gone = {f"{kind}/rb-trend-canary" for kind in ("Deployment", "Service", "PodDisruptionBudget")}
    assert changes(rolled, done) == {"SignalRoute/rb-trend", *gone}
    assert route_tracks(done) == [("stable", "8", 100), ("standby", "7", None), ("standby", "6", None)]


def test_old_versions_are_those_that_are_not_stables() -> None:
    with pytest.raises(helm_python.HelmRenderError, match=r"standbys: 1 version\(s\) other than stable's"):
        render("model", values("7", "76"))


def test_a_standby_is_as_large_as_what_it_stands_in_for() -> None:
    scaled = values("7", "65", tracks__stable__autoscaling={"enabled": True, "minReplicas": 2, "maxReplicas": 5})
    release = render("model", changed(scaled, standbys=[version("6"), {**version("5"), "replicas": 1}]))
    sizes = {name: each["spec"].get("replicas") for name, each in release.of("Deployment").items()}
    # Stable's own number is the autoscaler's to say: an upgrade must not scale it back.
    assert sizes == {"rb-trend-stable": None, "rb-trend-standby-6": 5, "rb-trend-standby-5": 1}
    assert list(release.of("HorizontalPodAutoscaler")) == ["rb-trend-stable"]
    # With one pod a budget would hold up every drain.
    assert set(release.of("PodDisruptionBudget")) == {"rb-trend-stable", "rb-trend-standby-6"}


def test_nothing_and_false_count_where_a_track_says_them() -> None:
    canary = {**version("8"), "weight": 0, "replicas": 0, "warmup": 0, "spread": []}
    shadow = {**version("9"), "mirror": 0, "disruptionBudget": {"enabled": False}}
    release = render("model", changed(values("7", "65", canary), tracks__shadow=shadow))
    assert release.of("Deployment")["rb-trend-canary"]["spec"]["replicas"] == 0
    spec = template(release, "rb-trend-canary")["spec"]
    args = spec["containers"][0]["args"]
    assert args[args.index("--warmup") + 1] == "0"
    assert "topologySpreadConstraints" not in spec
    assert "rb-trend-shadow" not in release.of("PodDisruptionBudget")
    assert route_tracks(release)[:3] == [("stable", "7", 100), ("canary", "8", 0), ("shadow", "9", 0)]


def test_only_the_container_that_pulls_has_the_credentials() -> None:
    release = render("model", values_of("model", "02-canary-and-shadow"))
    for name, pod in release.pods():
        for container in pod["spec"]["containers"]:
            assert "envFrom" not in container, name
            assert "AWS_REGION" not in {each["name"] for each in container["env"]}
        for container in pod["spec"].get("initContainers", []):
            assert container["envFrom"] == [{"secretRef": {"name": "bundle-store"}}]


def test_a_track_may_run_on_an_image_of_its_own() -> None:
    release = render("model", values_of("model", "02-canary-and-shadow"))
    images = {
        name: {c["image"] for c in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]}
        for name, pod in release.pods()
    }
    assert images["Deployment/rb-trend-stable"] == {"signalyard-runtimes:0.1.0"}
    assert images["Deployment/rb-trend-shadow"] == {"signalyard-runtimes-sklearn:0.1.0"}
    digest = "sha256:" + "1" * 64
    pinned = render("model", values("7", "65", pods__image={"repository": "r", "tag": "t", "digest": digest}))
    assert template(pinned, "rb-trend-stable")["spec"]["containers"][0]["image"] == f"r@{digest}"


def test_kserve_has_one_service_a_version_and_a_change_of_track_touches_the_route_alone() -> None:
    kserve = {"pods__workload": "InferenceService"}
    trial = render("model", values("7", "65", {**version("8"), "weight": 10}, **kserve))
    assert not trial.of("Deployment")
    services = trial.of("InferenceService")
    assert list(services) == ["rb-trend-7", "rb-trend-8", "rb-trend-6", "rb-trend-5"]
    eight = services["rb-trend-8"]
    assert eight["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"
    assert eight["spec"]["predictor"]["model"]["storageUri"] == (
        "signalyard+oci://registry.example.com/models/rb-trend:8#sha256:" + "8" * 64
    )
    assert "signalyard.io/track" not in eight["spec"]["predictor"]["labels"]
    assert route_tracks(trial)[:2] == [("stable", "7", 90), ("canary", "8", 10)]

    promoted = render("model", values("8", "76", **kserve))
    # 5 goes; 8 is stable now, and its pods know nothing of it.
    assert changes(trial, promoted) == {
        "SignalRoute/rb-trend",
        "Pod/rb-trend-test",
        "InferenceService/rb-trend-5",
        "Service/rb-trend-5-server",
        "PodDisruptionBudget/rb-trend-5",
        # Their Services' labels say the track, for the metrics.
        "Service/rb-trend-8-server",
        "Service/rb-trend-7-server",
    }
    endpoints = [each["endpoint"]["service"] for each in promoted.of("SignalRoute")["rb-trend"]["spec"]["tracks"]]
    assert endpoints == ["rb-trend-8-server", "rb-trend-7-server", "rb-trend-6-server"]


def test_the_notes_say_how_to_go_back() -> None:
    notes = render("model", values("7", "65")).notes
    for command in (
        "signalyard route rollback rb-trend --to 6",
        "kubectl -n trading rollout undo deployment/rb-trend-stable",
        "helm -n trading rollback rel --force-conflicts",
        "--force-conflicts",
        "signalyard route halt rb-trend",
    ):
        assert command in notes
    kserve = render("model", values_of("model", "04-kserve")).notes
    assert "rollout undo deployment" not in kserve
    assert "KServe's controller reverts it" in kserve


def test_models_are_called_by_rest_or_by_grpc() -> None:
    def endpoints(**changes: Any) -> list[Object]:
        tracks = render("model", values("7", "65", **changes)).of("SignalRoute")["rb-trend"]["spec"]["tracks"]
        return [track["endpoint"] for track in tracks]

    assert {(each["port"], each.get("protocol")) for each in endpoints()} == {(8080, None)}
    asked = endpoints(route__protocol="grpc")
    assert {(each["port"], each["protocol"]) for each in asked} == {(8081, "grpc")}
