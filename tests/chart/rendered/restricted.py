"""The `restricted` level of Kubernetes' Pod Security Standards, and what else we ask of every pod.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from collections.abc import Iterator
from typing import Any

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_SECCOMP = {"RuntimeDefault", "Localhost"}

Fields = dict[str, Any]


def restricted_violations(pod: Fields) -> list[str]:
    """Where a pod's spec fails the `restricted` level (which includes `baseline`); empty if nowhere."""
    found = [f"{field} is set" for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
    security = pod.get("securityContext", {})
    if security.get("sysctls"):
        found.append("sysctls are set")
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= _VOLUMES:
            found.append(f"volume {volume['name']} is a {', '.join(sorted(kinds))}")
    for container in _containers(pod):
        found.extend(f"container {container['name']}: {text}" for text in _container_violations(container, security))
    return found


def _container_violations(container: Fields, pod_security: Fields) -> Iterator[str]:
    own = container.get("securityContext", {})
    security = {**pod_security, **own}
    if own.get("privileged"):
        yield "is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if security.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if security.get("runAsUser") == 0:
        yield "runs as root"
    if security.get("seccompProfile", {}).get("type") not in _SECCOMP:
        yield "seccompProfile is not RuntimeDefault"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "does not drop ALL capabilities"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "adds capabilities"
    if own.get("procMount", "Default") != "Default":
        yield "procMount is not Default"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "takes a port of the host"


def house_violations(pod: Fields) -> list[str]:
    """Where a pod's spec fails what we ask beyond `restricted`."""
    found = []
    if pod.get("enableServiceLinks") is not False:
        found.append("enableServiceLinks is not false")
    if "automountServiceAccountToken" not in pod:
        found.append("does not say whether it gets a token")
    for container in _containers(pod):
        security = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
        if security.get("readOnlyRootFilesystem") is not True:
            found.append(f"container {container['name']}: writes its root file system")
        if not isinstance(security.get("runAsUser"), int):
            found.append(f"container {container['name']}: has no numeric user")
        resources = container.get("resources", {})
        for bound in ("requests", "limits"):
            if not {"cpu", "memory"} <= set(resources.get(bound, {})):
                found.append(f"container {container['name']}: has no {bound} of CPU and memory")
        if container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            found.append(f"container {container['name']}: does not say in its status why it ended")
    return found


def _containers(pod: Fields) -> list[Fields]:
    return [*pod.get("initContainers", []), *pod["containers"], *pod.get("ephemeralContainers", [])]
