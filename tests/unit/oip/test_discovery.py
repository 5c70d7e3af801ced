"""Addresses that come and go behind an endpoint, as pods do. Virtual time makes it exact."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from signalyard.problems import Problem
from signalyard_router.adapters.oip import OipUpstream
from signalyard_router.ports import CallFailed
from signalyard_router.rules.route import Endpoint, Target
from signalyard_router.testing.model_server import ModelServer

SERVICE = Endpoint("rb-trend-stable.trading.svc", 8080)


class Directory:
    """Implements `ports.Discovery`: what a test says."""

    def __init__(self):
        self.known = {}
        self.observers = []

    def addresses(self, endpoint):
        return self.known.get(endpoint, (endpoint,))

    def subscribe(self, observer):
        self.observers.append(observer)

    def move(self, *ports):
        self.known[SERVICE] = tuple(Endpoint("pod", port) for port in ports)
        for observer in self.observers:
            observer({SERVICE})


@pytest.fixture
def yard(play):
    """A stage whose one endpoint is a service; two servers are there to stand behind it."""

    def run(scenario):
        async def with_service(stage):
            await stage.upstream.close()
            stage.directory, registry = Directory(), CollectorRegistry()
            stage.upstream = OipUpstream(stage.world, stage.settings, registry, discovery=stage.directory)
            stage.registry = registry
            stage.other = ModelServer([stage.serve()])
            await stage.other.start(stage.world.network)
            stage.first, stage.second = stage.server.port, stage.other.port
            stage.target = Target("rb-trend", "7", (SERVICE,))
            try:
                await scenario(stage)
            finally:
                await stage.upstream.close()
                stage.other.stop()

        play(with_service)

    return run


async def begin(stage, *ports):
    stage.directory.move(*ports)
    await stage.upstream.start([stage.target])
    await stage.upstream.first_round.wait()


def where(stage):
    return [status.endpoint for status in stage.upstream.endpoints(stage.target)]


def test_the_addresses_behind_a_service_are_asked_each(yard):
    async def scenario(stage):
        await begin(stage, stage.first, stage.second)
        answered = {(await stage.call(0.5)).endpoint for _ in range(10)}
        assert answered == {f"pod:{stage.first}", f"pod:{stage.second}"}

    yard(scenario)


def test_an_address_that_is_gone_is_asked_no_more_and_a_new_one_at_once(yard):
    async def scenario(stage):
        await begin(stage, stage.first)
        assert (await stage.call(0.5)).endpoint == f"pod:{stage.first}"
        stage.directory.move(stage.second)
        await asyncio.sleep(0.01)  # the look at the new one
        before = len(stage.server.inferences)
        for _ in range(5):
            assert (await stage.call(0.5)).endpoint == f"pod:{stage.second}"
        assert len(stage.server.inferences) == before
        assert where(stage) == [f"pod:{stage.second}"]

    yard(scenario)


def test_a_call_under_way_to_an_address_that_goes_ends_well(yard):
    async def scenario(stage):
        await begin(stage, stage.first)
        stage.world.network.latency = 0.02
        call = asyncio.create_task(stage.call(0.5))
        await asyncio.sleep(0.01)
        stage.directory.move(stage.second)
        assert (await call).endpoint == f"pod:{stage.first}"

    yard(scenario)


def test_a_service_without_an_address_fails_at_once(yard):
    async def scenario(stage):
        await begin(stage, stage.first)
        stage.directory.move()
        began = stage.now
        with pytest.raises(CallFailed) as raised:
            await stage.call(0.5)
        assert raised.value.problem is Problem.MODEL_UNREACHABLE
        assert stage.now == began
        stage.directory.move(stage.first)
        await asyncio.sleep(0.01)
        assert (await stage.call(0.5)).endpoint == f"pod:{stage.first}"

    yard(scenario)


def test_what_is_kept_and_shown_of_addresses_does_not_grow_as_pods_come_and_go(yard):
    async def scenario(stage):
        await begin(stage, stage.first)
        stage.directory.move(stage.second)
        shown = generate_latest(stage.registry).decode()
        assert f"pod:{stage.first}" not in shown
        assert f"pod:{stage.second}" in shown
        size = len(shown.splitlines())
        for port in (stage.first, stage.second) * 20:
            stage.directory.move(port)
        assert len(generate_latest(stage.registry).decode().splitlines()) == size
        assert len(stage.upstream._peers) == 1

    yard(scenario)
