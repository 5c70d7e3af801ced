"""etcd and an API server alone, on loopback: enough for tests of custom resources, and nothing in them runs a pod."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import packages, programs
from cluster.commands import CommandError, run
from cluster.control_plane import IDENTITIES, ControlPlane
from cluster.credentials import Credentials
from cluster.places import Places
from cluster.services import Service

_HOST = "127.0.0.1"
_PATIENCE = 90.0


@dataclass(frozen=True)
class Api:
    """Any number may run on a machine, each with its ports and folder. ``kubeconfig`` is the admin's."""

    plane: ControlPlane
    kubeconfig: Path
    processes: dict[str, subprocess.Popen[bytes]]

    @classmethod
    @contextlib.contextmanager
    def start(cls, places: Places, folder: Path) -> Iterator["Api"]:
        """Ready inside the block, gone after it. Raises CommandError."""
        packages.install(("etcd-server", "openssl"))
        programs.build(programs.API, places)
        credentials = Credentials.make(folder / "pki", ControlPlane.server_names(_HOST), IDENTITIES)
        port, clients, peers = _free_ports(3)
        plane = ControlPlane(places.bin, folder, credentials, _HOST, port, (clients, peers))
        api = cls(plane, credentials.kubeconfig("admin", plane.url, folder / "kubeconfig"), {})
        try:
            api.run(plane.store())
            api.run(plane.api_server())
            api._await(folder / "kube-apiserver.log")
            yield api
        finally:
            for name in list(api.processes):
                api.kill(name)

    def run(self, service: Service) -> None:
        """Start ``kube-apiserver`` (after a kill) or ``etcd``."""
        # They end with us, however we end; etcd accepts any folder that nobody else can read.
        with (self.plane.data / f"{service.name}.log").open("ab") as sink:
            self.processes[service.name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *map(str, service.command)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """End ``kube-apiserver`` or ``etcd``, as it may happen to it."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def kubectl(self, *arguments: object, timeout: float = 30.0, stdin: str | None = None) -> str:
        """Run kubectl as the admin. Raises CommandError."""
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        return run([self.plane.bin / "kubectl", *arguments], timeout=timeout, stdin=stdin, env=env)

    def wait(self) -> None:
        """Until SIGINT or SIGTERM."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        signal.sigwait({signal.SIGINT, signal.SIGTERM})

    def _await(self, log: Path) -> None:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self.kubectl("get", "--raw=/readyz")
            except CommandError as exc:
                if time.monotonic() > until or self.processes["kube-apiserver"].poll() is not None:
                    said = log.read_text(errors="replace")[-2000:]
                    raise CommandError(f"the API server is not ready:\n{said}") from exc
                time.sleep(0.2)
            else:
                return


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((_HOST, 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports
