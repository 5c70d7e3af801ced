"""Single calls: what is kept, what is sent again, and how each ends."""

import asyncio

import pytest

from signalyard_router.adapters.kube.access import Access
from signalyard_router.adapters.kube.api import Api
from signalyard_router.adapters.kube.errors import GarbledError, StatusError, UnreachableError
from signalyard_router.adapters.kube.settings import KubeSettings
from signalyard_router.testing.api_server import SIGNALROUTES, Trouble

PATH = "/apis/signalyard.io/v1alpha1/namespaces/trading/signalroutes"


def api_of(scene, **settings):
    access = Access(host=scene.server.host, port=scene.server.port, namespace="trading", tls=False)
    return Api(scene.world.network, access, KubeSettings(**settings))


def test_a_connection_is_kept(play):
    async def scenario(scene):
        api = api_of(scene)
        for _ in range(5):
            await api.call("GET", PATH)
        assert scene.sim.network.connections == 1
        scene.server.drop()
        await asyncio.sleep(0.1)
        await api.call("GET", PATH)
        assert scene.sim.network.connections == 2
        api.close()

    play(scenario)


def test_a_kept_connection_that_ends_as_it_is_used_costs_no_call(play):
    async def scenario(scene):
        api = api_of(scene)
        await api.call("GET", PATH)
        scene.server.script.append(Trouble.CLOSE)
        await api.call("GET", PATH)
        assert scene.requests(SIGNALROUTES) == 3
        scene.server.script.extend([Trouble.CLOSE, Trouble.CLOSE])
        with pytest.raises(UnreachableError, match="ended before an answer"):
            await api.call("GET", PATH)
        api.close()

    play(scenario)


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (Trouble.TOO_MANY, StatusError),
        (Trouble.FAIL, StatusError),
        (Trouble.GARBAGE, GarbledError),
        (Trouble.HANG, UnreachableError),
    ],
)
def test_each_trouble_is_an_error_within_the_time_of_a_call(play, trouble, error):
    async def scenario(scene):
        api = api_of(scene, call_seconds=2.0)
        scene.server.script.append(trouble)
        began = scene.sim.loop.time()
        with pytest.raises(error):
            await api.call("GET", PATH)
        assert scene.sim.loop.time() - began < 2.1
        await api.call("GET", PATH)
        api.close()

    play(scenario)


def test_an_answer_larger_than_the_bound_is_refused(play):
    async def scenario(scene):
        for number in range(50):
            scene.route(f"route-{number}")
        api = api_of(scene, answer_bytes=10_000)
        with pytest.raises(GarbledError, match="larger than 10000 bytes"):
            await api.call("GET", PATH)
        api.close()

    play(scenario)
