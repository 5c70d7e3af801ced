"""containerd, the kubelet, kube-proxy and the cluster's DNS on the one node."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.control_plane import NODE, SERVICE_RANGE
from cluster.credentials import Credentials
from cluster.namespaces import Namespaces
from cluster.services import Service

ADDRESS = "10.250.0.1"
PODS = "10.244.0.0/24"
GROUP = "signalyard-e2e"
"""The control group below which all pods are."""
PAUSE = "localhost/signalyard-pause:1"
_LINK = "veth-node"
_SOCKET = "/run/containerd/containerd.sock"
_PLUGINS = "/usr/lib/cni"


@dataclass(frozen=True)
class Node:
    """``data`` is a folder on a file system that can carry overlays."""

    bin: Path
    data: Path
    credentials: Credentials
    namespaces: Namespaces

    def prepare(self) -> None:
        """Mounts and network of the namespaces. Raises CommandError."""
        inside = self.namespaces.run
        # What the kubelet, containerd and the network plugins write into fixed places goes to our folder and not to the machine's.
        for place in ("var", "etc"):
            upper, work = self._folder(f"overlay/{place}"), self._folder(f"overlay/{place}.work")
            layers = f"lowerdir=/{place},upperdir={upper},workdir={work}"
            inside(["mount", "-t", "overlay", "overlay", "-o", layers, f"/{place}"])
        inside(["mount", "-t", "tmpfs", "tmpfs", "/run"])
        inside(["mount", "--make-rshared", "/"])
        inside(["ip", "link", "set", "lo", "up"])
        # A pair whose other end nobody uses: an interface that is up and bears the node's address.
        inside(["ip", "link", "add", _LINK, "type", "veth", "peer", "name", f"{_LINK}-end"])
        inside(["ip", "address", "add", f"{ADDRESS}/24", "dev", _LINK])
        for link in (_LINK, f"{_LINK}-end"):
            inside(["ip", "link", "set", link, "up"])
        # Service addresses need a route before kube-proxy's rules get to see them.
        inside(["ip", "route", "add", SERVICE_RANGE, "dev", _LINK])
        inside(["sysctl", "-qw", "net.ipv4.ip_forward=1"])

    def containerd(self) -> Service:
        """Containers, from images that were imported."""
        self._json(
            "cni/10-bridge.conflist",
            {
                "cniVersion": "0.4.0",
                "name": "pods",
                "plugins": [
                    {
                        "type": "bridge",
                        "bridge": "cni0",
                        "isGateway": True,
                        "hairpinMode": True,
                        "ipam": {
                            "type": "host-local",
                            "ranges": [[{"subnet": PODS}]],
                            "routes": [{"dst": "0.0.0.0/0"}],
                        },
                    },
                    {"type": "portmap", "capabilities": {"portMappings": True}},
                ],
            },
        )
        config = self._text("containerd.toml", _CONTAINERD.format(data=self.data, pause=PAUSE, plugins=_PLUGINS))
        return Service("containerd", ["containerd", "--config", config])

    def containers(self, *arguments: object) -> list[object]:
        """A command for containerd, for the inside of the namespaces."""
        return ["ctr", "--address", _SOCKET, "--namespace", "k8s.io", *arguments]

    def kubelet(self, api_server: str) -> Service:
        """The node itself."""
        config = self._json(
            "kubelet.json",
            {
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                "authentication": {
                    "anonymous": {"enabled": False},
                    "webhook": {"enabled": True},
                    "x509": {"clientCAFile": str(self.credentials.file("ca.crt"))},
                },
                "authorization": {"mode": "Webhook"},
                "cgroupDriver": "cgroupfs",
                "cgroupRoot": f"/{GROUP}",
                "clusterDNS": [ADDRESS],
                "clusterDomain": "cluster.local",
                "containerRuntimeEndpoint": f"unix://{_SOCKET}",
                # The machine is somebody's workplace: nothing of ours is thrown out because of what others fill.
                "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
                "failCgroupV1": False,
                "failSwapOn": False,
                "imageGCHighThresholdPercent": 100,
                "oomScoreAdj": 0,
                "podLogsDir": str(self._folder("pod-logs")),
                "resolvConf": str(self._text("resolv.conf", f"nameserver {ADDRESS}\n")),
                # Changed ConfigMaps and Secrets reach pods within this time.
                "syncFrequency": "10s",
            },
        )
        command = [
            self.bin / "kubelet",
            f"--config={config}",
            f"--kubeconfig={self.credentials.kubeconfig('kubelet', api_server)}",
            f"--root-dir={self._folder('kubelet')}",
            f"--hostname-override={NODE}",
            f"--node-ip={ADDRESS}",
        ]
        return Service("kubelet", command)

    def proxy(self, api_server: str) -> Service:
        """Services' addresses."""
        config = self._json(
            "kube-proxy.json",
            {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "mode": "iptables",
                "clientConnection": {"kubeconfig": str(self.credentials.kubeconfig("proxy", api_server))},
                "clusterCIDR": PODS,
                "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
                "hostnameOverride": NODE,
                "oomScoreAdj": 0,
            },
        )
        return Service("kube-proxy", [self.bin / "kube-proxy", f"--config={config}"])

    def dns(self, api_server: str) -> Service:
        """CoreDNS as a process of the node. It answers for the cluster and for nothing else, as there is no way out."""
        config = self._text(
            "Corefile",
            _COREFILE.format(address=ADDRESS, kubeconfig=self.credentials.kubeconfig("dns", api_server)),
        )
        return Service("coredns", [self.bin / "coredns", "-conf", config])

    def _folder(self, name: str) -> Path:
        path = self.data / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _text(self, name: str, text: str) -> Path:
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def _json(self, name: str, content: dict[str, Any]) -> Path:
        return self._text(name, json.dumps(content, indent=2))


_CONTAINERD = """\
version = 2
root = "{data}/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# Without it no pod starts on a machine whose root lacks CAP_SYS_RESOURCE; runc's message then hides the reason.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{data}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""
_COREFILE = """\
cluster.local:53 in-addr.arpa:53 {{
  bind {address}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {kubeconfig}
    ttl 5
  }}
}}
.:53 {{
  bind {address}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""
