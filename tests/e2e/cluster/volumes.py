"""Volumes for the journals of routers on a node of our own: folders of the machine, each claimed once."""

import json
from pathlib import Path

_COUNT = 64


def objects(folder: Path, node: str) -> str:
    """A default StorageClass and its volumes, as JSON for kubectl; their folders are made.

    They are `local` and not `hostPath`: with these the kubelet gives the folder to the pod's fsGroup.
    """
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    items = [storage_class, *(_volume(folder / f"{number:02d}", node) for number in range(_COUNT))]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _volume(folder: Path, node: str) -> dict[str, object]:
    folder.mkdir(parents=True)
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"folder-{folder.name}"},
        "spec": {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "standard",
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
