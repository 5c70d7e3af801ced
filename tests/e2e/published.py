"""Bundles in the registry from which the cluster's pods pull them."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from bundles import MODEL, Bundle, Bundles
from cluster.contract import Cluster

PLAIN_HTTP = "SIGNALYARD_OCI_PLAIN_HTTP"
_SIGNALYARD = Path(sys.executable).with_name("signalyard")
_DAMAGED = Path(__file__).with_name("damaged.py")


@dataclass(frozen=True)
class Published:
    """Versions of the model, each pushed once, when it is asked for."""

    cluster: Cluster
    bundles: Bundles
    pushed: dict[str, str] = field(default_factory=dict)

    def version(self, version: str) -> dict[str, str]:
        """As a track's values name it: version, digest, uri. Raises CommandError."""
        bundle = self.bundles.version(version)
        if version not in self.pushed:
            self.pushed[version] = self.push(bundle, f"models/{MODEL}:{version}")
        return {"version": version, "digest": bundle.manifest.digest, "uri": self.pushed[version]}

    def push(self, bundle: Bundle, place: str) -> str:
        """Its address, without the digest. Raises CommandError."""
        return self._send(place, _SIGNALYARD, "bundle", "push", bundle.folder)

    def push_without(self, name: str, bundle: Bundle, place: str) -> str:
        """The same for an archive that lacks the file ``name``. Raises CommandError."""
        return self._send(place, sys.executable, _DAMAGED, bundle.folder, name)

    @property
    def registry(self) -> str:
        """HOST:PORT, in plain HTTP."""
        return self.cluster.registry()

    def _send(self, place: str, *command: object) -> str:
        uri = f"oci://{self.registry}/{place}"
        self.cluster.run("env", f"{PLAIN_HTTP}={self.registry}", *command, uri, timeout=120)
        return uri
