"""The images alone, without charts: a model server and a router by plain manifests, as anyone could write them."""

import base64

from bundles import MODEL, Bundle
from plain import deployment, probe, service

DEADLINE = 0.25
WINDOW = 0.5
ROUTE = f"""
apiVersion: signalyard.io/v1alpha1
kind: SignalRoute
metadata: {{name: {MODEL}}}
spec:
  model: {MODEL}
  instruments: ["rb*.SHFE"]
  deadline: {DEADLINE * 1000:.0f}ms
  maxAge: 30s
  tracks: [{{name: stable, version: "7", weight: 100, endpoint: {{service: model, port: 8080}}}}]
  mapping: {{long: {{enter: 0.6, exit: 0.52}}, short: {{enter: 0.4, exit: 0.48}}, otherwise: abstain}}
  dedupe: {{window: {WINDOW * 1000:.0f}ms}}
"""


def files(bundle: Bundle):
    """A ConfigMap of a bundle's files, and the items that put each at its path."""
    data, items = {}, []
    for number, path in enumerate(sorted(one for one in bundle.folder.rglob("*") if one.is_file())):
        data[f"file-{number}"] = base64.b64encode(path.read_bytes()).decode()
        items.append({"key": f"file-{number}", "path": str(path.relative_to(bundle.folder))})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bundle"}, "binaryData": data}, items


def model(image, bundle):
    configuration, items = files(bundle)
    # A ConfigMap's files are links, which a bundle must not have.
    copy = {
        "name": "bundle",
        "image": image,
        "command": ["cp", "-rL", "/bundle/files", f"/models/{MODEL}-7"],
        "volumeMounts": [{"name": "bundle", "mountPath": "/bundle"}, {"name": "models", "mountPath": "/models"}],
    }
    for item in items:
        item["path"] = f"files/{item['path']}"
    serve = {
        "name": "server",
        "image": image,
        "args": ["serve", "--models", "/models", "--host", "0.0.0.0"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "startupProbe": probe(f"/v2/models/{MODEL}/versions/7/ready"),
        "readinessProbe": probe(f"/v2/models/{MODEL}/versions/7/ready"),
        "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
    }
    volumes = [
        {"name": "bundle", "configMap": {"name": "bundle", "items": items}},
        {"name": "models", "emptyDir": {}},
    ]
    return configuration, deployment("model", [serve], volumes, [copy]), service("model", 8080)


def router(image):
    routes = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "routes"}, "data": {"rb.yaml": ROUTE}}
    run = {
        "name": "router",
        "image": image,
        "args": ["router", "--routes", "/routes", "--journal", "/var/lib/signalyard", "--host", "0.0.0.0"],
        "ports": [{"name": "http", "containerPort": 8090}],
        "readinessProbe": probe("/readyz"),
        "volumeMounts": [
            {"name": "routes", "mountPath": "/routes"},
            {"name": "journal", "mountPath": "/var/lib/signalyard"},
        ],
    }
    volumes = [{"name": "routes", "configMap": {"name": "routes"}}, {"name": "journal", "emptyDir": {}}]
    return routes, deployment("router", [run], volumes), service("router", 8090)


def test_images_by_plain_manifests(scenario, router_image, runtimes_image, bundles):
    bundle = bundles.version("7")
    scenario.apply(*model(runtimes_image, bundle), *router(router_image))
    scenario.await_rollout("deployment/model")
    scenario.await_rollout("deployment/router")
    # Nothing else waits between the Services' making and their first use.
    scenario.await_reached("model", "/v2/health/ready")
    scenario.await_reached("router", "/readyz")

    with scenario.load("router", deadline=DEADLINE) as load:
        load.await_more(300)
    account = scenario.account(load, window=WINDOW, pod="deployment/router")

    assert account.requests >= 300
    assert account.failures == account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    # Signals of both directions, of one version, under the digest that was packed.
    assert account.outcomes["emitted"] > 20
    assert set(account.versions) == {"7"}
    signals = [one for line in load.lines() for one in line["decisions"] if one["outcome"] == "emitted"]
    assert {one["direction"] for one in signals} == {"long", "short"}
    assert {one["digest"] for one in signals} == {bundle.manifest.digest}
