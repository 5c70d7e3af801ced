"""Where the API server is, and who the router is to it: from a pod's service account, or from a kubeconfig.

Files are read again when they are used again: tokens and certificates rotate under a running pod.
"""

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import yaml

from signalyard.problems import Problem, SignalyardError, error
from signalyard_router.stamp import Stamp, stamp

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_REFUSED_USER = {
    "exec": "a program that makes credentials (exec) is not run by a router: give it a service account's token or a client certificate",
    "auth-provider": "auth providers are gone from Kubernetes: give a token or a client certificate",
    "username": "API servers take no passwords: give a token or a client certificate",
    "as": "a router does not impersonate: give it an account of its own",
}
_REFUSED_CLUSTER = {
    "proxy-url": "the router uses no proxy to the API server",
    "tls-server-name": "name the server as its certificate does, in server",
}


class Secret(msgspec.Struct, frozen=True):
    """A part of the credentials: a file, or what it would hold."""

    path: Path | None = None
    data: bytes | None = None

    def read(self) -> bytes:
        """Its bytes as they are now. Raises OSError."""
        return self.data if self.path is None else self.path.read_bytes()  # type: ignore[return-value]  # one of both

    def stamp(self) -> Stamp | None:
        """Something that differs after the file was written anew. Raises OSError."""
        return None if self.path is None else stamp(self.path.stat())


class Access:
    """The way to one API server. ``namespace`` is the one that it speaks of itself."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        namespace: str,
        tls: bool = True,
        verify: bool = True,
        authority: Secret | None = None,
        certificate: Secret | None = None,
        key: Secret | None = None,
        token: Secret | None = None,
        prefix: str = "",
    ) -> None:
        self.host = host
        self.port = port
        self.namespace = namespace
        self.prefix = prefix
        self._tls = tls
        self._verify = verify
        self._authority = authority
        self._certificate = certificate
        self._key = key
        self._token = token
        self._context: ssl.SSLContext | None = None
        self._stamps: list[Stamp | None] | None = None

    def authorization(self) -> str:
        """The header that says who calls, or "". Raises OSError, ValueError where the token is none."""
        if self._token is None:
            return ""
        token = self._token.read().decode("ascii").strip()
        if not token or any(character.isspace() or not character.isprintable() for character in token):
            raise ValueError("the token is no token: it holds white space, or nothing")
        return f"Bearer {token}"

    def context(self) -> ssl.SSLContext | None:
        """How to speak TLS; made anew after a file of it has changed. None for plain HTTP. Raises OSError, ssl.SSLError."""
        if not self._tls:
            return None
        parts = (self._authority, self._certificate, self._key)
        stamps = [part.stamp() for part in parts if part is not None]
        if self._context is None or stamps != self._stamps:
            self._context, self._stamps = self._made(), stamps
        return self._context

    def _made(self) -> ssl.SSLContext:
        if not self._verify:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self._authority is not None:
            context = ssl.create_default_context(cadata=self._authority.read().decode("ascii"))
        else:
            context = ssl.create_default_context()
        if self._certificate is not None and self._key is not None:
            # ssl takes certificates from files alone
            with tempfile.TemporaryDirectory() as folder:
                chain = _written(folder, "chain", self._certificate)
                context.load_cert_chain(chain, _written(folder, "key", self._key))
        return context


def _written(folder: str, name: str, secret: Secret) -> Path:
    path = Path(folder) / name
    path.touch(mode=0o600)
    path.write_bytes(secret.read())
    return path


def in_cluster(environment: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT) -> Access:
    """As a pod's service account. Raises CallerError (invalid_setting) where this is no pod."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not port.isdigit():
        raise _refuse("this is no pod (there is no KUBERNETES_SERVICE_HOST): give a kubeconfig", "/kubeconfig")
    try:
        namespace = (folder / "namespace").read_text(encoding="ascii").strip()
        access = Access(
            host=host,
            port=int(port),
            namespace=namespace,
            authority=Secret(folder / "ca.crt"),
            token=Secret(folder / "token"),
        )
        access.authorization()
        access.context()
    except (OSError, ValueError) as exc:
        text = f"the pod's service account cannot be used: {exc}; let the pod mount its token (automountServiceAccountToken)"
        raise _refuse(text, "/kubeconfig") from exc
    return access


def from_kubeconfig(path: Path) -> Access:
    """As the current context of a kubeconfig says. Raises CallerError (invalid_setting) naming what cannot be used."""
    if os.pathsep in str(path) and not path.exists():
        raise _refuse("give one kubeconfig, not a list of them", "/kubeconfig")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as exc:
        raise _refuse(f"the kubeconfig cannot be read: {exc}", "/kubeconfig") from exc
    if not isinstance(config, dict):
        raise _refuse(f"{path} is no kubeconfig", "/kubeconfig")
    current = config.get("current-context")
    if not current:
        raise _refuse(f"{path} has no current-context: set one with kubectl config use-context", "/kubeconfig")
    context = _named(config, "contexts", "context", current)
    cluster = _named(config, "clusters", "cluster", context.get("cluster"))
    user = _named(config, "users", "user", context.get("user")) if context.get("user") else {}
    for part, refused in ((user, _REFUSED_USER), (cluster, _REFUSED_CLUSTER)):
        for name, text in refused.items():
            if part.get(name):
                raise _refuse(text, "/kubeconfig")
    server = urlsplit(str(cluster.get("server", "")))
    if server.scheme not in ("http", "https") or not server.hostname:
        raise _refuse(f"the cluster's server must be such as https://host:6443, not {server.geturl()!r}", "/kubeconfig")
    folder = path.parent
    token = user.get("token")
    certificate, key = _secret(user, "client-certificate", folder), _secret(user, "client-key", folder)
    if (certificate is None) != (key is None):
        raise _refuse("a client certificate and its key go together", "/kubeconfig")
    access = Access(
        host=server.hostname,
        port=server.port or (443 if server.scheme == "https" else 80),
        namespace=str(context.get("namespace") or "default"),
        tls=server.scheme == "https",
        verify=not cluster.get("insecure-skip-tls-verify"),
        authority=_secret(cluster, "certificate-authority", folder),
        certificate=certificate,
        key=key,
        token=Secret(data=str(token).encode()) if token else _secret(user, "tokenFile", folder),
        prefix=server.path.rstrip("/"),
    )
    try:
        access.authorization()
        access.context()
    except (OSError, ValueError) as exc:
        raise _refuse(f"the credentials of {current!r} cannot be used: {exc}", "/kubeconfig") from exc
    return access


def _named(config: dict[str, Any], plural: str, single: str, name: object) -> dict[str, Any]:
    entries = config.get(plural)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(single), dict):
            found: dict[str, Any] = entry[single]
            return found
    raise _refuse(f"the kubeconfig has no {single} named {name!r}", "/kubeconfig")


def _secret(part: dict[str, Any], name: str, folder: Path) -> Secret | None:
    encoded = part.get(f"{name}-data")
    if encoded:
        try:
            return Secret(data=base64.b64decode(str(encoded), validate=True))
        except binascii.Error as exc:
            raise _refuse(f"{name}-data is not base64: {exc}", "/kubeconfig") from exc
    path = part.get(name)
    return Secret(folder / str(path)) if path else None


def _refuse(text: str, pointer: str) -> SignalyardError:
    return error(Problem.INVALID_SETTING, text, pointer)
