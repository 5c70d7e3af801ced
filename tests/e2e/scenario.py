"""What a scenario does with the cluster: a namespace, objects in it, waiting, load, and the account of it."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.commands import CommandError, run
from cluster.contract import SCENARIO, Cluster
from traffic.account import ALLOWANCE, Account
from traffic.load import CLIENT, Load
from traffic.replicas import Together, together

_PATIENCE = 120.0
_REACHED = Path(__file__).with_name("traffic") / "reached.py"


@dataclass
class Scenario:
    """``folder`` keeps what the client said and, after a failure, what the cluster was like. ``accounted`` goes into the summary."""

    cluster: Cluster
    namespace: str
    folder: Path
    accounted: Account | None = None

    def begin(self) -> None:
        """Make the namespace, anew."""
        self.end(wait=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        # All that runs in it must pass the strictest level there is.
        self.cluster.run("kubectl", "create", "namespace", self.namespace)
        labels = ("pod-security.kubernetes.io/enforce=restricted", f"{SCENARIO}=true")
        self.cluster.run("kubectl", "label", "namespace", self.namespace, *labels)

    def end(self, *, wait: bool = False) -> None:
        """Remove it with all that is in it, by default while the next scenario begins: pods take their time to end."""
        options = ("--ignore-not-found", f"--wait={str(wait).lower()}", "--timeout=120s")
        self.cluster.run("kubectl", "delete", "namespace", self.namespace, *options, timeout=130)

    def kubectl(self, *arguments: object, timeout: float = 60.0, stdin: str | None = None) -> str:
        """In the namespace. Raises CommandError."""
        return self.cluster.run("kubectl", "-n", self.namespace, *arguments, timeout=timeout, stdin=stdin)

    def helm(self, *arguments: object, timeout: float = 300.0) -> str:
        """In the namespace. Raises CommandError."""
        return self.cluster.run("helm", "-n", self.namespace, *arguments, timeout=timeout)

    def get(self, kind: str, name: str = "") -> dict[str, Any]:
        """An object, or the list of a kind. Raises CommandError."""
        answer: dict[str, Any] = json.loads(self.kubectl("get", kind, *([name] if name else []), "-o", "json"))
        return answer

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Raises CommandError where the API server refuses one."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def await_rollout(self, what: str, timeout: float = _PATIENCE) -> None:
        """``what``: ``deployment/NAME``, ``statefulset/NAME``. Raises CommandError."""
        self.kubectl("rollout", "status", what, f"--timeout={timeout:.0f}s", timeout=timeout + 10)

    def until(self, condition: Callable[[], bool], what: str, timeout: float = _PATIENCE) -> None:
        """Wait for it. Raises TimeoutError, saying ``what`` did not come about."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"not within {timeout:g} s: {what}")
            # A look is a process that takes a tenth of a second of the machine under test.
            time.sleep(0.4)

    def await_reached(self, service: str, path: str) -> None:
        """Wait until ``path`` is answered at the Service's own address. Raises CommandError."""
        asked = self.cluster.script(_REACHED, f"--url={self.url(service)}{path}", f"--seconds={_PATIENCE:g}")
        run(asked, timeout=_PATIENCE + 10, env=self.cluster.environment())

    def url(self, service: str, port: str = "http") -> str:
        """Where a client reaches a Service. Raises CommandError."""
        spec = self.get("service", service)["spec"]
        number = next(one["port"] for one in spec["ports"] if one.get("name", port) == port)
        return f"http://{spec['clusterIP']}:{number}"

    def load(
        self,
        service: str,
        *,
        port: str = "http",
        rate: float = 50.0,
        deadline: float = 0.1,
        options: Iterable[str] = (),
        client: Path = CLIENT,
    ) -> Load:
        """A client at work on a port of a router's Service, from entering to leaving."""
        log = self.folder / f"{client.stem}.jsonl"
        url = self.url(service, port)
        environment = self.cluster.environment()
        return Load(
            self.cluster.script, url, log, environment, rate=rate, deadline=deadline, options=options, client=client
        )

    def journal(self, pod: str) -> list[dict[str, Any]]:
        """The records of a router's journal. Raises CommandError."""
        text = self.kubectl("exec", pod, "--", "sh", "-c", "cat /var/lib/signalyard/journal-*.jsonl")
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def shared_journal(self, *pods: str) -> Together:
        """The journals of several replicas put together. Raises CommandError."""
        return together({pod.rpartition("/")[2]: self.journal(pod) for pod in pods})

    def account(self, load: Load, *, window: float, pod: str = "") -> Account:
        """Of a load that has ended, held against the journal of the router in ``pod``; it goes into the summary."""
        return self.account_by(load, self.journal(pod) if pod else [], window=window)

    def account_by(
        self, load: Load, records: Iterable[Mapping[str, Any]], *, window: float, allowance: float = ALLOWANCE
    ) -> Account:
        """The same, held against these records; ``allowance`` is :func:`traffic.account.account`'s."""
        records = list(records)
        # Kept for whoever looks into a failure: it goes with the namespace.
        (self.folder / "journal.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        self.accounted = load.account(window=window, journal=records, allowance=allowance)
        print(self.accounted)
        return self.accounted

    def memory(self) -> dict[str, int]:
        """What the namespace's containers hold (their working set, MiB, as a limit counts it), by ``POD/CONTAINER``. Raises CommandError."""
        held = {}
        for node in json.loads(self.cluster.run("kubectl", "get", "nodes", "-o", "json"))["items"]:
            path = f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary"
            for pod in json.loads(self.cluster.run("kubectl", "get", "--raw", path))["pods"]:
                if pod["podRef"]["namespace"] == self.namespace:
                    for container in pod["containers"]:
                        name = f"{pod['podRef']['name']}/{container['name']}"
                        held[name] = container.get("memory", {}).get("workingSetBytes", 0) >> 20
        return held

    def describe(self) -> None:
        """Write down what the namespace is like, for whoever looks into a failure."""
        for name, command in {
            "objects.txt": ("get", "all,endpointslices,events", "-o", "wide"),
            "pods.txt": ("describe", "pods"),
            "logs.txt": ("logs", "--all-containers", "--prefix", "--tail=200", "-l", "app.kubernetes.io/name"),
        }.items():
            try:
                (self.folder / name).write_text(self.kubectl(*command))
            except CommandError as exc:
                (self.folder / name).write_text(str(exc))
