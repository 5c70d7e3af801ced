"""Clusters that others run: the one of KUBECONFIG, and kind where there is Docker."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.commands import CommandError, run
from cluster.contract import SCENARIO
from cluster.places import PROJECT
from cluster.progress import step

_CLIENT = "signalyard-e2e-client"
_NAMESPACE = "default"
_BUILD_SECONDS = 1800.0
_PULLED = "an image of ours that the cluster's nodes can pull"
KIND = "signalyard-e2e"


@dataclass(frozen=True)
class GivenCluster:
    """A cluster that is there. Its nodes pull the images, which therefore have to be named: E2E_ROUTER_IMAGE, E2E_RUNTIMES_IMAGE."""

    kubeconfig: Path

    def environment(self) -> dict[str, str]:
        """kubectl and helm are the user's."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def client(self, command: Sequence[object]) -> list[str]:
        """As it is: whoever has a KUBECONFIG reaches the API server."""
        return [str(part) for part in command]

    def run(self, *command: object, timeout: float = 60.0, stdin: str | None = None) -> str:
        """Raises CommandError."""
        return run(self.client(command), timeout=timeout, stdin=stdin, env=self.environment())

    def script(self, script: Path, *arguments: object) -> list[str]:
        """In a pod of the router's image, as services have no addresses outside the cluster. Raises CommandError."""
        self._client_pod()
        python = ["/opt/signalyard/bin/python", "-c", script.read_text()]
        return ["kubectl", "exec", "-i", "-n", _NAMESPACE, _CLIENT, "--", *python, *map(str, arguments)]

    def router_image(self) -> str:
        """Raises CommandError."""
        return _named("E2E_ROUTER_IMAGE", _PULLED)

    def runtimes_image(self, framework: str = "lightgbm") -> str:
        """That of another framework is named by E2E_RUNTIMES_SKLEARN_IMAGE, and so on. Raises CommandError."""
        other = "" if framework == "lightgbm" else f"{framework.upper()}_"
        return _named(f"E2E_RUNTIMES_{other}IMAGE", _PULLED)

    def program_image(self, program: str) -> str:
        """``prometheus-operator`` is named by E2E_PROMETHEUS_OPERATOR_IMAGE, and so on. Raises CommandError."""
        variable = f"E2E_{program.upper().replace('-', '_')}_IMAGE"
        return _named(variable, f"an image whose entry point is {program}, and that the cluster's nodes can pull")

    def registry(self) -> str:
        """Raises CommandError."""
        return _named(
            "E2E_REGISTRY", "a registry, HOST:PORT in plain HTTP, that the cluster's pods and this machine reach"
        )

    def crash(self, namespace: str, pod: str, container: str) -> None:
        """Raises CommandError."""
        self.run("kubectl", "-n", namespace, "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")

    def freeze(self, namespace: str, pod: str, container: str) -> None:
        """Its nodes are not ours."""
        raise NotImplementedError(f"{pod} on a node that others run is not frozen")

    def thaw(self, namespace: str, pod: str, container: str) -> None:
        """It was not frozen."""
        raise NotImplementedError(f"{pod} on a node that others run was not frozen")

    def inside(self, namespace: str, pod: str, container: str, *command: object) -> str:
        """Its nodes are not ours."""
        raise NotImplementedError(
            f"the node of {pod} is run by others: its containers are reached by the API server alone"
        )

    def kill(self, name: str) -> None:
        """It is not ours to kill."""
        raise NotImplementedError(f"{name} of a cluster that others run is not killed")

    def start(self, name: str) -> None:
        """It was not killed."""
        raise NotImplementedError(f"{name} of a cluster that others run is not started")

    def end(self) -> None:
        """Wait until the scenarios' namespaces are gone, and take away what was put beside them. Raises CommandError."""
        gone = ("-l", SCENARIO, "--timeout=300s")
        self.run("kubectl", "delete", "namespace", *gone, timeout=310)
        self.run(
            "kubectl", "delete", "pod", "-n", _NAMESPACE, _CLIENT, "--ignore-not-found", "--timeout=60s", timeout=70
        )

    def await_api(self) -> None:
        """It was not killed."""

    def await_node(self) -> None:
        """It was not killed."""

    def _client_pod(self) -> None:
        self.run(
            "kubectl", "apply", "-n", _NAMESPACE, "-f", "-",
            stdin=_CLIENT_POD.format(name=_CLIENT, image=self.router_image()),
        )  # fmt: skip
        self.run(
            "kubectl",
            "wait",
            "-n",
            _NAMESPACE,
            "--for=condition=Ready",
            f"pod/{_CLIENT}",
            "--timeout=120s",
            timeout=130,
        )


@dataclass(frozen=True)
class KindCluster(GivenCluster):
    """kind on the user's Docker; images are built there and given to its node."""

    @classmethod
    def up(cls, kubeconfig: Path) -> "KindCluster":
        """Make it, as `make kind` does. Raises CommandError."""
        kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        config = PROJECT / "manifests" / "kind.yaml"
        with step("kind create cluster"):
            run(["kind", "delete", "cluster", "--name", KIND], timeout=120)
            run(
                [
                    "kind",
                    "create",
                    "cluster",
                    "--name",
                    KIND,
                    "--config",
                    config,
                    "--kubeconfig",
                    kubeconfig,
                    "--wait",
                    "120s",
                ],
                timeout=_BUILD_SECONDS,
            )
        return cls(kubeconfig)

    def down(self) -> None:
        """Take it away. Raises CommandError."""
        run(["kind", "delete", "cluster", "--name", KIND], timeout=120)

    def router_image(self) -> str:
        """Raises CommandError."""
        return self._build("signalyard-router:e2e", "router/Dockerfile")

    def runtimes_image(self, framework: str = "lightgbm") -> str:
        """Raises CommandError."""
        name = f"signalyard-runtimes:e2e-{framework}"
        return self._build(name, "runtimes/Dockerfile", "--build-arg", f"FRAMEWORK={framework}")

    def _build(self, name: str, dockerfile: str, *options: str) -> str:
        with step(f"image {name}"):
            run(
                ["docker", "build", "-q", "-t", name, "-f", PROJECT / dockerfile, *options, PROJECT],
                timeout=_BUILD_SECONDS,
            )
            run(["kind", "load", "docker-image", name, "--name", KIND], timeout=300)
        return name


def docker_answers() -> bool:
    """Whether there is a Docker engine, and kind."""
    try:
        run(["docker", "version"], timeout=10)
        run(["kind", "version"], timeout=10)
    except CommandError:
        return False
    return True


def _named(variable: str, what: str) -> str:
    try:
        return os.environ[variable]
    except KeyError:
        raise CommandError(f"with KUBECONFIG, {variable} names {what}") from None


_CLIENT_POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 1
  securityContext: {{runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: client
      image: {image}
      command: [sleep, infinity]
      securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
      resources: {{requests: {{cpu: 50m, memory: 64Mi}}, limits: {{cpu: "1", memory: 256Mi}}}}
"""
