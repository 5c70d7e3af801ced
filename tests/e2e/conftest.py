"""The cluster, its images, and the account of each scenario."""

import contextlib
import signal
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bundles import Bundles
from cluster.chosen import cluster as chosen
from cluster.chosen import joined, ours
from cluster.contract import Cluster
from cluster.definitions import define
from cluster.lock import Lock
from cluster.places import PROJECT, Places
from desk import Desk
from monitoring import Monitoring
from operators.kserve import KServe
from operators.prometheus import PrometheusOperator
from published import Published
from reader import NAMESPACE, Reader
from redis_pair import RedisPair
from scenario import Scenario
from traffic.summary import Entry, Summary
from turns import Turns, in_turn

_SUMMARY = pytest.StashKey[Summary]()
_PASSED = pytest.StashKey[bool]()
_LEFT_OUT = pytest.StashKey[list[str]]()
_OURS = pytest.StashKey[Turns]()
_TURNS = Places.of_project().results / "turns"
_PROCESSES = 2
"""Of a run on a node of our own. Most of a scenario is waiting, and two processors have no time for three."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SUMMARY] = Summary()
    config.stash[_OURS] = Turns(_TURNS)
    # A run that is told to end takes its cluster away, as one that is interrupted does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    return _PROCESSES if ours() else 0


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """The node of several processes is their parent's, which outlives them."""
    config = session.config
    if getattr(config.option, "numprocesses", None) and not _is_one_of_several(config):
        held = contextlib.ExitStack()
        held.enter_context(chosen(Places.of_project()))
        config.add_cleanup(held.close)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _is_one_of_several(session.config):
        session.config.workeroutput["summary"] = session.config.stash[_SUMMARY].written().decode()


def pytest_testnodedown(node: Any, error: object) -> None:
    if error is None:  # one that crashed has said nothing
        node.config.stash[_SUMMARY].add(node.workeroutput["summary"].encode())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    with item.config.stash[_OURS].turn(item, nextitem):
        return (yield)


@pytest.hookimpl(trylast=True)  # what a run leaves out by marks and names is gone
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.e2e)
    killing = [item for item in items if item.get_closest_marker("kills")]
    if killing and not ours():
        items[:] = [item for item in items if item not in killing]
        config.hook.pytest_deselected(items=killing)
        config.stash[_LEFT_OUT] = [item.name for item in killing]
    if _is_one_of_several(config):
        items[:] = in_turn(items)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Also said at the end: a run without them is not all of it."""
    return [
        f"{name} is left out: it kills the API server or a kubelet or freezes a pod, and this cluster's belong to others"
        for name in config.stash.get(_LEFT_OUT, [])
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    summary = config.stash[_SUMMARY]
    if summary.scenarios:
        terminalreporter.section("scenarios")
        for line in pytest_report_collectionfinish(config):
            terminalreporter.write_line(line)
        terminalreporter.write_line(summary.table())
        path = Places.of_project().results / "summary.json"
        summary.write(path)
        terminalreporter.write_line(f"{path}")


@pytest.fixture(scope="session")
def places() -> Places:
    return Places.of_project()


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, places: Places):
    if _is_one_of_several(request.config):
        yield joined(places)
    else:
        with chosen(places) as found:
            yield found


@pytest.fixture(scope="session")
def router_image(cluster: Cluster) -> str:
    return cluster.router_image()


@pytest.fixture(scope="session")
def runtimes_image(cluster: Cluster) -> str:
    return cluster.runtimes_image()


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return Bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="session")
def published(cluster: Cluster, bundles: Bundles) -> Published:
    return Published(cluster, bundles)


@pytest.fixture(scope="session")
def crds(cluster: Cluster) -> None:
    """The cluster knows SignalRoutes and SignalGroups. They go with the cluster."""
    with Lock(_TURNS / "definitions.lock"):
        define(partial(cluster.run, "kubectl"), "-f", PROJECT / "manifests/crds")


@pytest.fixture(scope="session")
def summary(request: pytest.FixtureRequest) -> Summary:
    return request.config.stash[_SUMMARY]


@pytest.fixture
def scenario(request: pytest.FixtureRequest, cluster: Cluster, places: Places, summary: Summary):
    """A namespace of its own, gone afterwards; what the scenario accounted for gets its line in the summary."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:50]
    made = Scenario(cluster, f"e2e-{name}", places.results / name)
    with _told(request, summary, made):
        made.begin()
        yield made


@pytest.fixture
def reader(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    places: Places,
    summary: Summary,
    crds: None,
    published: Published,
    router_image: str,
    runtimes_image: str,
    tmp_path: Path,
):
    """Of the pages, before a cluster without the namespace that their commands make."""
    made = Scenario(cluster, NAMESPACE, places.results / request.node.name.removeprefix("test_"))
    with Lock(_TURNS / f"{NAMESPACE}.lock"), _told(request, summary, made):
        made.folder.mkdir(parents=True, exist_ok=True)
        made.end(wait=True)
        yield Reader(Desk(made, published, router_image, runtimes_image), tmp_path)


@contextlib.contextmanager
def _told(request: pytest.FixtureRequest, summary: Summary, made: Scenario):
    began = time.monotonic()
    try:
        yield
    finally:
        passed = request.node.stash.get(_PASSED, False)
        if not passed:
            made.describe()
        summary.scenarios.append(Entry(made.folder.name, time.monotonic() - began, passed, made.accounted))
        made.end()


@pytest.fixture
def desk(scenario: Scenario, crds: None, published: Published, router_image: str, runtimes_image: str) -> Desk:
    """The scenario's, with nothing installed yet."""
    return Desk(scenario, published, router_image, runtimes_image)


@pytest.fixture(scope="session")
def prometheus_operator(cluster: Cluster) -> None:
    """It goes with the cluster."""
    with Lock(_TURNS / "definitions.lock"):
        PrometheusOperator(cluster).install()


@pytest.fixture
def monitoring(scenario: Scenario, cluster: Cluster, prometheus_operator: None, router_image: str) -> Monitoring:
    """The scenario's, not started yet."""
    images = [cluster.program_image(program) for program in ("prometheus", "alertmanager")]
    return Monitoring(scenario, *images, router_image)


@pytest.fixture(scope="session")
def kserve(cluster: Cluster) -> None:
    """It goes with the cluster."""
    with Lock(_TURNS / "definitions.lock"):
        KServe(cluster).install()


@pytest.fixture
def redis_pair(scenario: Scenario, cluster: Cluster) -> RedisPair:
    """The scenario's, not started yet."""
    return RedisPair(scenario, cluster.program_image("redis-server"))


def _is_one_of_several(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")
