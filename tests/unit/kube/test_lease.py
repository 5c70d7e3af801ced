"""The lease: one holder at a time, by the monotonic clock."""

import asyncio

from prometheus_client import CollectorRegistry

from signalyard_router.adapters.kube.access import Access
from signalyard_router.adapters.kube.api import Api
from signalyard_router.adapters.kube.lease import LeaseHolder
from signalyard_router.adapters.kube.metrics import KubeMetrics
from signalyard_router.adapters.kube.settings import KubeSettings
from signalyard_router.testing.api_server import LEASES, Trouble


def holder_of(scene, name):
    settings = KubeSettings()
    access = Access(host=scene.server.host, port=scene.server.port, namespace="trading", tls=False)
    api = Api(scene.world.network, access, settings)
    made = LeaseHolder(scene.world, api, "trading", name, settings, KubeMetrics(CollectorRegistry()))
    return made, asyncio.create_task(made.run())


def record(scene):
    return scene.server.get(LEASES, "trading", "signalyard-router")["spec"]


def test_it_is_made_held_and_renewed(play):
    async def scenario(scene):
        one, task = holder_of(scene, "one")
        await asyncio.sleep(0.1)
        assert one.held
        first = record(scene)
        assert first["holderIdentity"] == "one"
        await asyncio.sleep(60)
        assert one.held
        assert record(scene)["acquireTime"] == first["acquireTime"]
        assert record(scene)["renewTime"] > first["renewTime"]
        assert record(scene)["leaseTransitions"] == 1
        task.cancel()

    play(scenario)


def test_a_holder_that_cannot_renew_stops_before_another_may_begin(play):
    async def scenario(scene):
        one, first = holder_of(scene, "one")
        await asyncio.sleep(0.1)
        two, second = holder_of(scene, "two")
        await asyncio.sleep(20)
        assert (one.held, two.held) == (True, False)
        scene.server.hold = lambda asked: Trouble.FAIL if '"one"' in asked["body"] else None
        both = 0
        for _ in range(400):
            await asyncio.sleep(0.1)
            both += one.held and two.held
        assert both == 0
        assert (one.held, two.held) == (False, True)
        first.cancel()
        second.cancel()

    play(scenario)


def test_a_holders_clock_is_none_of_anybodys_business(play):
    async def scenario(scene):
        _, first = holder_of(scene, "one")
        await asyncio.sleep(0.1)
        spec = record(scene) | {"renewTime": "1970-01-01T00:00:00.000000Z"}
        first.cancel()
        scene.server.put(LEASES, "trading", "signalyard-router", spec=spec)
        two, second = holder_of(scene, "two")
        await asyncio.sleep(12)
        assert not two.held, "a record that looks old is young to who has just seen it"
        await asyncio.sleep(10)
        assert two.held
        second.cancel()

    play(scenario)


def test_one_of_the_same_name_goes_on_at_once(play):
    async def scenario(scene):
        _, first = holder_of(scene, "router-0")
        await asyncio.sleep(0.1)
        first.cancel()
        again, second = holder_of(scene, "router-0")
        await asyncio.sleep(0.1)
        assert again.held, "a pod of a StatefulSet that was killed"
        second.cancel()

    play(scenario)


def test_who_ends_gives_it_back(play):
    async def scenario(scene):
        one, first = holder_of(scene, "one")
        await asyncio.sleep(0.1)
        first.cancel()
        await one.release()
        assert not one.held
        two, second = holder_of(scene, "two")
        await asyncio.sleep(0.1)
        assert two.held
        second.cancel()

    play(scenario)


def test_of_two_that_take_it_at_once_one_has_it(play):
    async def scenario(scene):
        holders = [holder_of(scene, name) for name in ("one", "two", "three")]
        for _ in range(100):
            await asyncio.sleep(0.1)
            assert sum(holder.held for holder, _ in holders) <= 1
        assert sum(holder.held for holder, _ in holders) == 1
        for _, task in holders:
            task.cancel()

    play(scenario)
