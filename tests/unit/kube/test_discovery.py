"""Which pods stand behind a Service."""

import asyncio

import pytest
from tests.unit.kube.conftest import pod

from signalyard_router.adapters.kube.pods import PodName
from signalyard_router.rules.route import Endpoint
from signalyard_router.testing.api_server import SERVICES, SLICES

STABLE = Endpoint("rb-trend-stable.trading.svc", 8080)


async def following(scene, *namespaces):
    cluster = scene.cluster(*namespaces)
    await cluster.start()
    return cluster


def hosts(cluster, endpoint=STABLE):
    return [str(address) for address in cluster.discovery.addresses(endpoint)]


def look(play, scenario):
    async def with_cluster(scene):
        cluster = await following(scene)
        moved = []
        cluster.discovery.subscribe(lambda endpoints: moved.append(list(endpoints)))
        await scenario(scene, cluster, moved)
        await cluster.close()

    play(with_cluster)


def test_ready_pods_are_asked_at_the_port_behind_the_services_own(play):
    async def scenario(scene, cluster, moved):
        scene.service()
        scene.slice(
            pod("10.0.0.2"),
            pod("10.0.0.1"),
            pod("10.0.0.3", "rb-trend-9", ready=False, serving=False),
            pod("10.0.0.4", ready=False, serving=True, terminating=True),
        )
        await asyncio.sleep(0.1)
        assert hosts(cluster) == ["10.0.0.1:9000", "10.0.0.2:9000"]
        assert cluster.discovery.coming(STABLE) == (PodName("trading", "rb-trend-9"),)

    look(play, scenario)


def test_unknown_readiness_is_readiness(play):
    async def scenario(scene, cluster, moved):
        scene.service()
        scene.server.put(
            SLICES,
            "trading",
            "s",
            metadata={"labels": {"kubernetes.io/service-name": "rb-trend-stable"}},
            addressType="IPv4",
            endpoints=[{"addresses": ["10.0.0.1"], "conditions": {}}, {"addresses": ["10.0.0.2"]}],
            ports=[{"name": "http", "port": 9000}],
        )
        await asyncio.sleep(0.1)
        assert hosts(cluster) == ["10.0.0.1:9000", "10.0.0.2:9000"]

    look(play, scenario)


def test_where_none_is_ready_those_that_serve_to_their_end_are_asked(play):
    async def scenario(scene, cluster, moved):
        scene.service()
        scene.slice(
            pod("10.0.0.1", ready=False, serving=True, terminating=True),
            pod("10.0.0.2", ready=False, serving=False, terminating=True),
        )
        await asyncio.sleep(0.1)
        assert hosts(cluster) == ["10.0.0.1:9000"]
        assert cluster.discovery.coming(STABLE) == ()

    look(play, scenario)


def test_a_service_of_two_families_counts_its_pods_once(play):
    async def scenario(scene, cluster, moved):
        scene.service(ipFamilies=["IPv6", "IPv4"])
        scene.slice(pod("10.0.0.1"), suffix="four")
        scene.slice(pod("fd00::1"), suffix="six", family="IPv6")
        await asyncio.sleep(0.1)
        assert hosts(cluster) == ["[fd00::1]:9000"]

    look(play, scenario)


def test_slices_add_up(play):
    async def scenario(scene, cluster, moved):
        scene.service()
        scene.slice(pod("10.0.0.1"), suffix="a")
        scene.slice(pod("10.0.0.2"), suffix="b", port=9001)
        await asyncio.sleep(0.1)
        assert hosts(cluster) == ["10.0.0.1:9000", "10.0.0.2:9001"]
        scene.server.remove(SLICES, "trading", "rb-trend-stable-a")
        await asyncio.sleep(0.1)
        assert hosts(cluster) == ["10.0.0.2:9001"]

    look(play, scenario)


def test_observers_hear_of_what_they_asked_for_and_only_when_it_moved(play):
    async def scenario(scene, cluster, moved):
        scene.service()
        scene.slice(pod("10.0.0.1"))
        await asyncio.sleep(0.1)
        assert moved == []
        assert hosts(cluster) == ["10.0.0.1:9000"]
        scene.slice(pod("10.0.0.1"), pod("10.0.0.9", ready=False))
        await asyncio.sleep(0.1)
        assert moved == []
        scene.slice(pod("10.0.0.9"))
        await asyncio.sleep(0.1)
        assert moved == [[STABLE]]
        scene.server.remove(SERVICES, "trading", "rb-trend-stable")
        await asyncio.sleep(0.1)
        assert moved == [[STABLE], [STABLE]]
        assert hosts(cluster) == []

    look(play, scenario)


@pytest.mark.parametrize(
    ("endpoint", "objection"),
    [
        (Endpoint("nobody.trading.svc", 8080), "there is no Service nobody"),
        (Endpoint("rb-trend-stable.trading.svc", 1), "the Service rb-trend-stable has no port 1; it has: 8080"),
        (STABLE, ""),
        (Endpoint("elsewhere.example.org", 1), ""),
    ],
)
def test_a_service_that_cannot_serve_is_said_why(play, endpoint, objection):
    async def scenario(scene, cluster, moved):
        scene.service()
        await asyncio.sleep(0.1)
        assert cluster.discovery.objection(endpoint) == objection

    look(play, scenario)


def test_a_name_outside_is_followed(play):
    async def scenario(scene, cluster, moved):
        scene.service(type="ExternalName", externalName="models.example.org", ports=None)
        await asyncio.sleep(0.1)
        assert hosts(cluster) == ["models.example.org:8080"]
        assert hosts(cluster, Endpoint("10.1.2.3", 80)) == ["10.1.2.3:80"]
        assert hosts(cluster, Endpoint("rb-trend-stable.elsewhere.svc", 80)) == ["rb-trend-stable.elsewhere.svc:80"]

    look(play, scenario)


def test_before_the_first_list_a_service_is_asked_by_its_name_and_then_by_its_pods(play):
    async def scenario(scene):
        scene.service()
        scene.slice(pod("10.0.0.1"))
        scene.server.stop()
        cluster = scene.cluster(start_seconds=0.5)
        await cluster.start()
        assert hosts(cluster) == ["rb-trend-stable.trading.svc:8080"]
        moved = []
        cluster.discovery.subscribe(lambda endpoints: moved.append(list(endpoints)))
        await scene.server.restart()
        await scene.until(lambda: moved, seconds=6)
        assert hosts(cluster) == ["10.0.0.1:9000"]
        scene.server.stop()
        await asyncio.sleep(60)
        assert hosts(cluster) == ["10.0.0.1:9000"], "what is known stays"
        await cluster.close()

    play(scenario)
