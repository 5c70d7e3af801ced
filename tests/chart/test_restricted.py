"""That the judge of pods finds what is wrong with them."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from rendered.charts import render, values_of
from rendered.restricted import house_violations, restricted_violations

Pod = dict[str, Any]


def pod() -> Pod:
    release = render("model", values_of("model", "01-first-install"))
    return copy.deepcopy(release.of("Deployment")["rb-trend-stable"]["spec"]["template"]["spec"])


def server(spec: Pod) -> dict[str, Any]:
    return spec["containers"][0]


def security(spec: Pod) -> dict[str, Any]:
    return server(spec)["securityContext"]


def test_a_pod_of_ours_is_in_order() -> None:
    assert restricted_violations(pod()) + house_violations(pod()) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda spec: spec.update(hostNetwork=True), "hostNetwork"),
        (lambda spec: spec.update(hostPID=True), "hostPID"),
        (lambda spec: spec["volumes"].append({"name": "disk", "hostPath": {"path": "/"}}), "hostPath"),
        (lambda spec: security(spec).update(privileged=True), "privileged"),
        (lambda spec: security(spec).pop("allowPrivilegeEscalation"), "allowPrivilegeEscalation"),
        (lambda spec: security(spec).update(runAsNonRoot=False), "runAsNonRoot"),
        (lambda spec: security(spec).update(runAsUser=0), "root"),
        (lambda spec: security(spec).update(seccompProfile={"type": "Unconfined"}), "seccompProfile"),
        (lambda spec: security(spec).update(capabilities={"drop": ["NET_RAW"]}), "capabilities"),
        (lambda spec: security(spec).update(capabilities={"drop": ["ALL"], "add": ["SYS_PTRACE"]}), "adds"),
        (lambda spec: server(spec)["ports"][0].update(hostPort=80), "port of the host"),
        (lambda spec: spec["initContainers"][0].pop("securityContext"), "bundle"),
    ],
)
def test_what_the_restricted_level_refuses_is_found(spoil: Callable[[Pod], None], said: str) -> None:
    spec = pod()
    spoil(spec)
    found = restricted_violations(spec)
    assert any(said in each for each in found), found


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda spec: security(spec).update(readOnlyRootFilesystem=False), "root file system"),
        (lambda spec: spec.update(enableServiceLinks=True), "enableServiceLinks"),
        (lambda spec: spec.pop("automountServiceAccountToken"), "token"),
        (lambda spec: server(spec)["resources"].pop("limits"), "limits"),
        (lambda spec: server(spec)["resources"]["requests"].pop("memory"), "requests"),
        (lambda spec: server(spec).pop("terminationMessagePolicy"), "status"),
    ],
)
def test_what_we_ask_beyond_it_is_found(spoil: Callable[[Pod], None], said: str) -> None:
    spec = pod()
    spoil(spec)
    found = house_violations(spec)
    assert any(said in each for each in found), found
