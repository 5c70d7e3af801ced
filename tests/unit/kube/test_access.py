"""Who the router is to the API server, and where that is."""

import base64
import os

import pytest
import yaml

from signalyard.problems import CallerError, Problem
from signalyard_router.adapters.kube.access import from_kubeconfig, in_cluster


def kubeconfig(tmp_path, user=None, cluster=None, context=None, **more):
    config = {
        "current-context": "desk",
        "contexts": [{"name": "desk", "context": {"cluster": "c", "user": "u", **(context or {})}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://api:8080", **(cluster or {})}}],
        "users": [{"name": "u", "user": user if user is not None else {"token": "secret"}}],
    } | more
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_token_and_the_contexts_namespace(tmp_path):
    access = from_kubeconfig(kubeconfig(tmp_path, context={"namespace": "trading"}))
    assert (access.host, access.port, access.namespace) == ("api", 8080, "trading")
    assert access.authorization() == "Bearer secret"
    assert access.context() is None, "plain HTTP"


def test_defaults_and_a_path_before_every_other(tmp_path):
    access = from_kubeconfig(kubeconfig(tmp_path, cluster={"server": "https://host/k8s/clusters/one/"}))
    assert (access.port, access.namespace, access.prefix) == (443, "default", "/k8s/clusters/one")
    assert access.context() is not None


def test_a_tokens_file_is_read_again_and_lies_beside_the_kubeconfig(tmp_path):
    (tmp_path / "token").write_text("one\n")
    access = from_kubeconfig(kubeconfig(tmp_path, user={"tokenFile": "token"}))
    assert access.authorization() == "Bearer one"
    (tmp_path / "token").write_text("two\n")
    assert access.authorization() == "Bearer two"


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"user": {"exec": {"command": "aws"}}}, "not run by a router"),
        ({"user": {"auth-provider": {"name": "gcp"}}}, "auth providers are gone"),
        ({"user": {"username": "admin", "password": "x"}}, "no passwords"),
        ({"user": {"token": "x", "as": "somebody"}}, "does not impersonate"),
        ({"user": {"token": "x\r\nx-evil: 1"}}, "no token"),
        ({"user": {"tokenFile": "nowhere"}}, "cannot be used"),
        ({"user": {"client-certificate": "cert"}}, "go together"),
        ({"user": {"client-certificate-data": "!!", "client-key-data": "!!"}}, "not base64"),
        ({"cluster": {"server": "api:8080"}}, "such as https://host:6443"),
        ({"cluster": {"proxy-url": "http://proxy"}}, "no proxy"),
        ({"cluster": {"tls-server-name": "other"}}, "name the server"),
        ({"cluster": {"server": "https://api", "certificate-authority": "nowhere"}}, "cannot be used"),
        (
            {"cluster": {"server": "https://api", "certificate-authority-data": base64.b64encode(b"no").decode()}},
            "cannot be used",
        ),
        ({"context": {"cluster": "other"}}, "no cluster named 'other'"),
        ({"context": {"user": "other"}}, "no user named 'other'"),
        ({"current-context": None}, "no current-context"),
        ({"current-context": "other"}, "no context named 'other'"),
        ({"contexts": 7}, "no context named 'desk'"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path, parts, text):
    with pytest.raises(CallerError, match=text) as raised:
        from_kubeconfig(kubeconfig(tmp_path, **parts))
    assert raised.value.problem is Problem.INVALID_SETTING
    assert raised.value.pointer == "/kubeconfig"


@pytest.mark.parametrize("text", ["", "[]", "a: [", "\xff"])
def test_what_is_no_kubeconfig(tmp_path, text):
    path = tmp_path / "kubeconfig"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CallerError, match="kubeconfig"):
        from_kubeconfig(path)


def test_a_list_of_kubeconfigs_is_refused(tmp_path):
    with pytest.raises(CallerError, match="one kubeconfig, not a list"):
        from_kubeconfig(tmp_path / f"a{os.pathsep}b")


def test_outside_of_a_pod_a_kubeconfig_is_asked_for(tmp_path):
    with pytest.raises(CallerError, match="give a kubeconfig"):
        in_cluster({}, tmp_path)


def test_a_pod_without_its_token_says_how_it_gets_one(tmp_path):
    with pytest.raises(CallerError, match="automountServiceAccountToken"):
        in_cluster({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}, tmp_path)
