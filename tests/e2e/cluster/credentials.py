"""The cluster's own authority, and a token for each component that calls the API server."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from cluster.commands import run

_DAYS = 30


@dataclass(frozen=True)
class Identity:
    """A user of the API server and the groups that say what it may do."""

    user: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Credentials:
    """Files in one folder, made anew with each cluster."""

    folder: Path

    def file(self, name: str) -> Path:
        """``ca.crt``, ``server.crt``, ``server.key``, ``kubelet-client.crt``, ``service-accounts.key``, ``tokens.csv`` and so on."""
        return self.folder / name

    @classmethod
    def make(cls, folder: Path, server_names: list[str], identities: dict[str, Identity]) -> "Credentials":
        """``server_names``: what the API server is called, as openssl writes it (``IP:10.0.0.1``, ``DNS:kubernetes``).

        ``identities``: by the name under which :meth:`kubeconfig` finds the token. Raises CommandError.
        """
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        made = cls(folder)
        made._authority()
        made._certificate("server", "/CN=kube-apiserver", f"subjectAltName={','.join(server_names)}")
        # The API server's certificate towards kubelets; its group lets it read logs and run commands in pods.
        made._certificate(
            "kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", "extendedKeyUsage=clientAuth"
        )
        made._openssl("genrsa", "-out", made.file("service-accounts.key"), "2048")
        lines = []
        for name, identity in identities.items():
            token = secrets.token_hex(24)
            made.file(f"{name}.token").write_text(token)
            lines.append(f'{token},{identity.user},{name},"{",".join(identity.groups)}"')
        made.file("tokens.csv").write_text("\n".join(lines) + "\n")
        return made

    def kubeconfig(self, name: str, server: str, to: Path | None = None) -> Path:
        """Write a kubeconfig of the identity ``name`` for the API server at ``server``, an https URL."""
        path = to or self.file(f"{name}.kubeconfig")
        path.touch(mode=0o600)
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {
                            "name": "signalyard-e2e",
                            "cluster": {"server": server, "certificate-authority": str(self.file("ca.crt"))},
                        }
                    ],
                    "users": [{"name": name, "user": {"token": self.file(f"{name}.token").read_text()}}],
                    "contexts": [{"name": "default", "context": {"cluster": "signalyard-e2e", "user": name}}],
                    "current-context": "default",
                },
                indent=2,
            )
        )
        return path

    def _authority(self) -> None:
        self._openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", _DAYS, "-subj", "/CN=signalyard-e2e",
            "-keyout", self.file("ca.key"), "-out", self.file("ca.crt"),
        )  # fmt: skip

    def _certificate(self, name: str, subject: str, extension: str) -> None:
        self._openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", _DAYS, "-subj", subject, "-addext", extension,
            "-addext", "basicConstraints=critical,CA:FALSE", "-CA", self.file("ca.crt"), "-CAkey", self.file("ca.key"),
            "-keyout", self.file(f"{name}.key"), "-out", self.file(f"{name}.crt"),
        )  # fmt: skip

    @staticmethod
    def _openssl(*arguments: object) -> None:
        run(["openssl", *arguments], timeout=60)
