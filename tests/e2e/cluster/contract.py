"""What the tests know of a cluster."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

SCENARIO = "signalyard.io/e2e"
"""The label of scenarios' namespaces."""


class Cluster(Protocol):
    """Any of ours. Errors are CommandError."""

    @property
    def kubeconfig(self) -> Path:
        """The admin's."""

    def environment(self) -> dict[str, str]:
        """The variables under which :meth:`client` commands find cluster, kubectl and helm."""

    def client(self, command: Sequence[object]) -> list[str]:
        """The command that runs ``command``, of this machine, where it reaches the API server."""

    def run(self, *command: object, timeout: float = 60.0, stdin: str | None = None) -> str:
        """Run it so to its end, and give its output."""

    def script(self, script: Path, *arguments: object) -> list[str]:
        """The command that runs a Python script where services and pods are reached by their addresses.

        The script may use the package ``signalyard``; it ends when its standard input does.
        """

    def router_image(self) -> str:
        """Build the router's image and give it to the nodes; its name."""

    def runtimes_image(self, framework: str = "lightgbm") -> str:
        """The same for a model server."""

    def program_image(self, program: str) -> str:
        """The same for a program that is not ours and that scenarios need: ``alertmanager``, ``redis-server``, or one of
        :mod:`cluster.programs`."""

    def registry(self) -> str:
        """Host and port of a registry for bundles, in plain HTTP, that pods and :meth:`client` commands reach."""

    def crash(self, namespace: str, pod: str, container: str) -> None:
        """Kill the process of a container; where that cannot be done, its pod is deleted without grace. Raises CommandError."""

    def freeze(self, namespace: str, pod: str, container: str) -> None:
        """Stop the process of a container where it stands. Raises CommandError; NotImplementedError where that cannot be."""

    def thaw(self, namespace: str, pod: str, container: str) -> None:
        """Let it go on."""

    def inside(self, namespace: str, pod: str, container: str, *command: object) -> str:
        """Run a command in a container without the API server. Raises as :meth:`freeze` does."""

    def kill(self, name: str) -> None:
        """End a program of the cluster itself: ``kube-apiserver``, ``kubelet``. Raises NotImplementedError where that cannot be."""

    def start(self, name: str) -> None:
        """Start it again."""

    def await_api(self) -> None:
        """Wait until the API server is ready. Raises CommandError."""

    def await_node(self) -> None:
        """Wait until the node whose kubelet was killed is Ready. Raises CommandError."""
