"""Debian packages that the cluster needs, installed where they are missing."""

import os

from cluster.commands import CommandError, run
from cluster.progress import step

CLUSTER = (
    "buildah",
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "curl",
    "debootstrap",
    "docker-registry",
    "etcd-server",
    "iproute2",
    "iptables",
    "openssl",
    "procps",
    "runc",
)


def install(packages: tuple[str, ...] = CLUSTER) -> None:
    """Install those that are not there. Their own services are not started. Raises CommandError."""
    missing = [package for package in packages if not _installed(package)]
    if not missing:
        return
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    with step(f"apt-get install {' '.join(missing)}"):
        run(["apt-get", "update", "-qq"], env=env, timeout=300)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], env=env, timeout=900)


def _installed(package: str) -> bool:
    try:
        return run(["dpkg-query", "-W", "-f=${db:Status-Status}", package], timeout=30) == "installed"
    except CommandError:
        return False
