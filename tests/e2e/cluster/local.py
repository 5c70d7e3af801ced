"""A real Kubernetes on this machine: up, used, down."""

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster import packages, programs, stores, volumes
from cluster.commands import CommandError, run
from cluster.control_plane import IDENTITIES, ControlPlane
from cluster.credentials import Credentials
from cluster.images import PACKAGED, Image, Images
from cluster.lock import Lock
from cluster.namespaces import Namespaces
from cluster.node import ADDRESS, GROUP, NODE, Node
from cluster.places import Places
from cluster.progress import step
from cluster.services import Service, Services

_RECORD = Path("/run/signalyard-e2e.json")
"""One node a machine: the namespaces' first process and whose it is, also for a run from another checkout."""
# Sixteen processes' worth of the processors, in version 1 and 2: the pods are to have what pods have on a node, where those of the system
# count as one group. Here each of the machine's processes counts as much as one.
_WEIGHT = {"cpu.shares": 16 * 1024, "cpu.weight": 16 * 100}

_GOVERNING = ("kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True)
class LocalCluster:
    """One node in namespaces of its own. What is killed on it can be started again by its name."""

    places: Places
    namespaces: Namespaces

    @classmethod
    def up(cls, places: Places, *, tied: bool) -> "LocalCluster":
        """End what an earlier run left or kept, and start. Raises CommandError; then nothing is left.

        ``tied``: its processes end with this one, even if it is killed.
        """
        if os.geteuid() != 0:
            raise CommandError("a node needs root: run as root, or set KUBECONFIG to a cluster of yours")
        found = Namespaces.read(_RECORD)
        if found is not None and found.owner:
            raise CommandError(
                f"the machine's node is in use by the run with the process id {found.owner}: wait for its end"
            )
        down(places)
        packages.install()
        programs.build(programs.CLUSTER, places)
        pause = Images(places).pause()
        shutil.rmtree(places.logs, ignore_errors=True)
        places.node.mkdir(parents=True)
        cluster = cls(places, Namespaces.make(_RECORD, tied=tied))
        try:
            cluster._start(pause)
        except BaseException:
            down(places)
            raise
        return cluster

    @classmethod
    def running(cls, places: Places) -> "LocalCluster | None":
        """The one that was left running, by this checkout or one that shares its cache."""
        namespaces = Namespaces.read(_RECORD)
        return cls(places, namespaces) if namespaces and places.kubeconfig.exists() else None

    @property
    def kubeconfig(self) -> Path:
        """The admin's, good inside :meth:`client`."""
        return self.places.kubeconfig

    def client(self, command: Sequence[object]) -> list[str]:
        """The command that runs ``command`` on this machine where it reaches API server, services and pods by their addresses."""
        return self.namespaces.network(command)

    def environment(self) -> dict[str, str]:
        """For such a command: kubectl and helm of the cluster come first."""
        found = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": f"{self.places.bin}:{os.environ['PATH']}"}
        # Helm keeps nothing in the user's home.
        return found | {f"HELM_{name}_HOME": str(self.places.node / "helm") for name in ("CACHE", "CONFIG", "DATA")}

    def run(self, *command: object, timeout: float = 60.0, stdin: str | None = None) -> str:
        """Run it there to its end: ``run("kubectl", "get", "pods")``. Raises CommandError."""
        return run(self.client(command), timeout=timeout, stdin=stdin, env=self.environment())

    def script(self, script: Path, *arguments: object) -> list[str]:
        """The command that runs a script of this project, with its Python, where services and pods are reached."""
        return self.client([sys.executable, script, *arguments])

    def router_image(self) -> str:
        """Build it, load it; its name. Raises CommandError."""
        return self._provide(Images(self.places).router())

    def runtimes_image(self, framework: str = "lightgbm") -> str:
        """The same for a model server. Raises CommandError."""
        return self._provide(Images(self.places).runtimes(framework))

    def program_image(self, program: str) -> str:
        """Build program and image, load it; its name. Raises CommandError."""
        images = Images(self.places)
        if program in PACKAGED:
            return self._provide(images.of_package(program))
        programs.build(programs.named(program), self.places)
        return self._provide(images.of_program(program, f"localhost/{program}:e2e"))

    def registry(self) -> str:
        """Host and port of a registry, in plain HTTP, for pods and :meth:`client` commands. Raises CommandError."""
        self._store("registry", f"http://{stores.REGISTRY}/v2/")
        return stores.REGISTRY

    def s3(self) -> str:
        """URL of an S3 API, for the same. Raises CommandError."""
        self._store("s3", f"{stores.S3}/moto-api/")
        return stores.S3

    def load(self, archive: Path) -> None:
        """Give the node an image. Raises CommandError."""
        with step(f"load {archive.name}"):
            self.namespaces.run(self.node.containers("images", "import", archive), timeout=300)

    @property
    def services(self) -> Services:
        """The node's programs, by name: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, containerd, kubelet,
        kube-proxy, coredns."""
        return Services(self.namespaces, self.places.node / "pids", self.places.logs)

    @property
    def node(self) -> Node:
        """What it is made of."""
        return Node(self.places.bin, self.places.node, self._credentials, self.namespaces)

    @property
    def control_plane(self) -> ControlPlane:
        """What governs it."""
        return ControlPlane(self.places.bin, self.places.node, self._credentials, ADDRESS)

    @property
    def _credentials(self) -> Credentials:
        return Credentials(self.places.node / "pki")

    def service(self, name: str) -> Service:
        """The program of that name as it is started."""
        plane, node, url = self.control_plane, self.node, self.control_plane.url
        makers = {
            "etcd": plane.store,
            "kube-apiserver": plane.api_server,
            "kube-controller-manager": plane.controller_manager,
            "kube-scheduler": plane.scheduler,
            "containerd": node.containerd,
            "kubelet": lambda: node.kubelet(url),
            "kube-proxy": lambda: node.proxy(url),
            "coredns": lambda: node.dns(url),
            "registry": stores.Stores(self.places).registry,
            "s3": stores.Stores(self.places).s3,
        }
        return makers[name]()

    def crash(self, namespace: str, pod: str, container: str) -> None:
        """Kill the process of a container, as the kernel does when memory runs out. Raises CommandError."""
        self._signal("SIGKILL", namespace, pod, container)

    def freeze(self, namespace: str, pod: str, container: str) -> None:
        """Stop the process of a container where it stands: it holds its connections and says nothing. Raises CommandError."""
        self._signal("SIGSTOP", namespace, pod, container)

    def thaw(self, namespace: str, pod: str, container: str) -> None:
        """Let it go on. Raises CommandError."""
        self._signal("SIGCONT", namespace, pod, container)

    def inside(self, namespace: str, pod: str, container: str, *command: object) -> str:
        """Run a command in a container as somebody at the node can, without the API server. Raises CommandError."""
        identity = self._container(namespace, pod, container)
        execution = f"inside-{os.getpid()}"
        return self.namespaces.run(self.node.containers("tasks", "exec", "--exec-id", execution, identity, *command))

    def _signal(self, name: str, namespace: str, pod: str, container: str) -> None:
        identity = self._container(namespace, pod, container)
        self.namespaces.run(self.node.containers("tasks", "kill", "--signal", name, identity))

    def _container(self, namespace: str, pod: str, container: str) -> str:
        """The one that runs; earlier ones of the same name have no task any more."""
        wanted = {"pod.namespace": namespace, "pod.name": pod, "container.name": container}
        label = ",".join(f'labels."io.kubernetes.{key}"=={value}' for key, value in wanted.items())
        known = self.namespaces.run(self.node.containers("containers", "list", "--quiet", label)).split()
        tasks = set(self.namespaces.run(self.node.containers("tasks", "list", "--quiet")).split())
        running = [identity for identity in known if identity in tasks]
        if len(running) != 1:
            raise CommandError(f"{len(running)} containers run as {container} of {namespace}/{pod}, and not one")
        return running[0]

    def start(self, name: str) -> None:
        """Start the program ``name``, which was killed."""
        self.services.start(self.service(name))

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End the program ``name``, as it may happen to any. Raises CommandError if it does not run."""
        self.services.kill(name, number)

    def await_api(self, timeout: float = 90.0) -> None:
        """Wait until the API server is ready, and have those that govern by it begin anew. Raises CommandError."""
        self.services.wait(
            "kube-apiserver", "the API server", lambda: self._says("ok", "get", "--raw=/readyz"), timeout
        )
        for name in _GOVERNING:
            # A watch that was refused while the API server came back is tried again after up to a minute, in which nothing is scheduled.
            if self.services.running(name):
                self.services.stop(name)
                self.start(name)

    def await_node(self, timeout: float = 120.0) -> None:
        """Wait until the node is Ready. Raises CommandError."""
        path = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        self.services.wait("kubelet", "the node", lambda: self._says("True", "get", "node", NODE, "-o", path), timeout)

    def _store(self, name: str, url: str) -> None:
        with Lock(self.places.node / f"{name}.lock"):
            if not self.services.running(name):
                self.start(name)
            look = self.client(["curl", "-fsS", "-o", "/dev/null", "--max-time", "5", url])
            self.services.wait(name, name, lambda: _succeeds(look), 60)

    def _provide(self, image: Image) -> str:
        loaded = self.places.node / "loaded" / image.identity
        with Lock(loaded.with_suffix(".lock")):
            if not loaded.exists():
                read = ["sh", "-c", 'tar -C "$0" -c . | "$@"', image.layout]
                with step(f"load {image.name}"):
                    self.namespaces.run([*read, *self.node.containers("images", "import", "-")], timeout=300)
                loaded.touch()
        return image.name

    def _start(self, pause: Image) -> None:
        Credentials.make(self.places.node / "pki", ControlPlane.server_names(ADDRESS), IDENTITIES)
        self._credentials.kubeconfig("admin", self.control_plane.url, self.kubeconfig)
        with step("the node's network"):
            self.node.prepare()
        _make_groups()
        for name in ("etcd", "kube-apiserver", "containerd"):
            self.start(name)
        self.await_api()
        for name in _GOVERNING:
            self.start(name)
        containers = self.namespaces.all(self.node.containers("version"))
        self.services.wait("containerd", "containerd", lambda: _succeeds(containers), 60)
        self._provide(pause)
        for name in ("kubelet", "kube-proxy", "coredns"):
            self.start(name)
        self.await_node()
        self.run("kubectl", "create", "-f", "-", stdin=volumes.objects(self.places.node / "volumes", NODE))

    def _says(self, expected: str, *arguments: str) -> bool:
        try:
            return self.run("kubectl", "--request-timeout=5s", *arguments, timeout=10).strip() == expected
        except CommandError:
            return False


def down(places: Places) -> None:
    """End the machine's node, whoever started it, take away what is left of it, and look that nothing is.

    Raises CommandError, naming what is left.
    """
    namespaces = Namespaces.read(_RECORD)
    network = 0
    if namespaces is not None:
        network = namespaces.network_number()
        with step("end the node"):
            namespaces.end()
    _remove_groups()
    if places.node.exists():
        shutil.rmtree(places.node)
    _RECORD.unlink(missing_ok=True)
    if left := [*_processes(network), *_mounts(places.node), *filter(Path.exists, map(_group, _hierarchies()))]:
        raise CommandError(f"left behind: {', '.join(map(str, left))}")


def _processes(network: int) -> Iterator[str]:
    """Clients that were started in the node's network and have not ended with it; they keep it alive."""
    for process in Path("/proc").glob("[0-9]*") if network else ():
        with contextlib.suppress(OSError):  # it has ended
            if (process / "ns" / "net").stat().st_ino == network:
                yield f"process {process.name} ({(process / 'cmdline').read_text().replace(chr(0), ' ').strip()})"


def _mounts(folder: Path) -> Iterator[str]:
    for line in Path("/proc/mounts").read_text().splitlines():
        if str(folder) in line:
            yield f"mount {line.split()[1]}"


def _succeeds(command: Sequence[object]) -> bool:
    try:
        run(command, timeout=10)
    except CommandError:
        return False
    return True


def _hierarchies() -> list[Path]:
    """The mounted trees of control groups: one with version 2, one a controller with version 1."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]


def _group(root: Path) -> Path:
    return root / GROUP


def _make_groups() -> None:
    for root in _hierarchies():
        group = _group(root)
        group.mkdir(exist_ok=True)
        for given in ("cpuset.cpus", "cpuset.mems"):
            # Version 1 lets no process into a set of no processors.
            if (group / given).exists() and not (group / given).read_text().strip():
                (group / given).write_text((root / given).read_text())
        for weight, value in _WEIGHT.items():
            if (group / weight).exists():
                (group / weight).write_text(str(value))


def _remove_groups() -> None:
    for root in _hierarchies():
        group = _group(root)
        if group.exists():
            for folder, _, _ in os.walk(group, topdown=False):
                Path(folder).rmdir()
