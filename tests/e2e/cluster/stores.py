"""Where bundles come from on a node of our own, inside its network: a registry and an S3."""

import json
from dataclasses import dataclass

from cluster.node import ADDRESS
from cluster.places import PROJECT, Places
from cluster.services import Service

REGISTRY = f"{ADDRESS}:5000"
S3 = f"http://{ADDRESS}:5001"


@dataclass(frozen=True)
class Stores:
    """Both forget everything with the node."""

    places: Places

    def registry(self) -> Service:
        """Debian's docker-registry, in plain HTTP."""
        config = self.places.node / "registry.json"
        config.write_text(
            json.dumps(
                {
                    "version": 0.1,
                    "log": {"level": "warn"},
                    "storage": {"filesystem": {"rootdirectory": str(self.places.node / "registry")}},
                    "http": {"addr": REGISTRY},
                }
            )
        )
        return Service("registry", ["docker-registry", "serve", config])

    def s3(self) -> Service:
        """moto's server, from an environment of its own; any credentials are good."""
        host, port = S3.removeprefix("http://").split(":")
        return Service("s3", [PROJECT / ".venv" / "s3" / "bin" / "moto_server", "-H", host, "-p", port])
