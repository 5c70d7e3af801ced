"""Plain manifests of pods that a `restricted` namespace lets in."""

SECURE = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def service(name, port):
    spec = {
        "selector": {"app.kubernetes.io/name": name},
        "ports": [{"name": "http", "port": port, "targetPort": "http"}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def deployment(name, containers, volumes, init=()):
    labels = {"app.kubernetes.io/name": name}
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [_restricted(one) for one in init],
        "containers": [_restricted(one) for one in containers],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *volumes],
    }
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def _restricted(container):
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, *container.get("volumeMounts", [])]
    limits = {"cpu": "1", "memory": "512Mi"}
    resources = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": limits}
    return {**container, "securityContext": SECURE, "volumeMounts": mounts, "resources": resources}


def probe(path):
    return {"httpGet": {"path": path, "port": "http"}, "periodSeconds": 1, "failureThreshold": 60}
