"""etcd, the API server, the controller manager and the scheduler: how they are told to be one small cluster."""

from dataclasses import dataclass
from pathlib import Path

from cluster.credentials import Credentials, Identity
from cluster.services import Service

NODE = "node"
IDENTITIES = {
    "admin": Identity("admin", ("system:masters",)),
    "controller-manager": Identity("system:kube-controller-manager"),
    "scheduler": Identity("system:kube-scheduler"),
    "kubelet": Identity(f"system:node:{NODE}", ("system:nodes",)),
    "proxy": Identity("system:kube-proxy"),
    "dns": Identity("coredns", ("system:masters",)),
}
SERVICE_RANGE = "10.96.0.0/16"
FIRST_SERVICE = "10.96.0.1"
"""Address of the Service ``kubernetes``: the API server as pods see it."""


@dataclass(frozen=True)
class ControlPlane:
    """``address`` is where the API server listens and what it tells pods; ``port`` its port, ``etcd`` those of etcd (clients, peers)."""

    bin: Path
    data: Path
    credentials: Credentials
    address: str
    port: int = 6443
    etcd: tuple[int, int] = (2379, 2380)

    @classmethod
    def server_names(cls, address: str) -> list[str]:
        """What its certificate has to say."""
        names = [f"IP:{ip}" for ip in dict.fromkeys((address, "127.0.0.1", FIRST_SERVICE))]
        inside = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
        return names + [f"DNS:{name}" for name in ("localhost", *inside)]

    @property
    def url(self) -> str:
        """Of the API server."""
        return f"https://{self.address}:{self.port}"

    def store(self) -> Service:
        """etcd. Nothing here outlives a power loss, so it need not wait for the disk."""
        clients, peers = (f"http://127.0.0.1:{port}" for port in self.etcd)
        command = [
            "etcd", "--name=node", f"--data-dir={self.data / 'etcd'}", "--unsafe-no-fsync", "--logger=zap", "--log-level=warn",
            f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}", f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=node={peers}",
        ]  # fmt: skip
        return Service("etcd", command)

    def api_server(self) -> Service:
        """Ready when ``/readyz`` says so."""
        pki = self.credentials.file
        command = [
            self.bin / "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.etcd[0]}",
            "--bind-address=0.0.0.0" if self.address != "127.0.0.1" else "--bind-address=127.0.0.1",
            f"--advertise-address={self.address}",
            f"--secure-port={self.port}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--token-auth-file={pki('tokens.csv')}",
            f"--client-ca-file={pki('ca.crt')}",
            f"--tls-cert-file={pki('server.crt')}",
            f"--tls-private-key-file={pki('server.key')}",
            f"--kubelet-client-certificate={pki('kubelet-client.crt')}",
            f"--kubelet-client-key={pki('kubelet-client.key')}",
            # The node's name is in nobody's DNS; without this `kubectl logs` looks it up.
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki('service-accounts.key')}",
            f"--service-account-signing-key-file={pki('service-accounts.key')}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            # Leases in etcd would name a killed server's address for its time to live.
            "--endpoint-reconciler-type=master-count",
        ]
        return Service("kube-apiserver", command)

    def controller_manager(self) -> Service:
        """It exits where the API server does not answer, so it is started after it."""
        config = self.credentials.kubeconfig("controller-manager", self.url)
        command = [
            self.bin / "kube-controller-manager",
            f"--kubeconfig={config}",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self.credentials.file('service-accounts.key')}",
            f"--root-ca-file={self.credentials.file('ca.crt')}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        ]
        return Service("kube-controller-manager", command)

    def scheduler(self) -> Service:
        """As the controller manager."""
        config = self.credentials.kubeconfig("scheduler", self.url)
        command = [
            self.bin / "kube-scheduler",
            f"--kubeconfig={config}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        ]
        return Service("kube-scheduler", command)
