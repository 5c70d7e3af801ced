"""List, bookmark, watch, and list again: the copy is right whatever the API server and the way to it do."""

import asyncio
import logging
import random

import pytest

from signalyard_router.testing.api_server import SERVICES, SIGNALROUTES, SLICES, Trouble


def copy_of(cluster):
    (reflector,) = cluster.store._reflectors
    return {name: item.metadata.generation for name, item in reflector.objects.items()}


def truth(scene):
    return {
        name: item["metadata"]["generation"]
        for name, item in scene.server._objects.get((SIGNALROUTES, "trading"), {}).items()
    }


async def follows(scene, cluster, seconds=1.0):
    await scene.until(lambda: copy_of(cluster) == truth(scene), seconds)


def watch_of_routes(asked):
    return "watch" in asked and asked["path"].endswith(SIGNALROUTES)


def once(trouble, condition=watch_of_routes):
    left = [trouble]
    return lambda asked: left.pop() if left and condition(asked) else None


def test_what_is_created_changed_and_deleted_is_followed(play):
    async def scenario(scene):
        scene.route("a")
        cluster = scene.cluster()
        await cluster.start()
        scene.route("b")
        scene.route("a", deadline="50ms")
        await follows(scene, cluster)
        scene.server.remove(SIGNALROUTES, "trading", "a")
        await follows(scene, cluster)
        assert copy_of(cluster) == {"b": 1}
        assert scene.requests(SIGNALROUTES, watch=False) == 1
        await cluster.close()

    play(scenario)


def test_a_watch_that_ends_goes_on_where_it_stood(play):
    async def scenario(scene):
        scene.route("a")
        cluster = scene.cluster()
        await cluster.start()
        await asyncio.sleep(200)
        scene.route("b")
        await follows(scene, cluster)
        assert scene.requests(SIGNALROUTES, watch=False) == 1
        assert scene.requests(SIGNALROUTES, watch=True) == 4
        await cluster.close()

    play(scenario)


def test_a_bookmark_spares_the_list_after_a_compaction(play):
    async def scenario(scene):
        scene.route("a")
        cluster = scene.cluster()
        await cluster.start()
        await asyncio.sleep(0.1)
        for _ in range(5):
            scene.slice()  # changes of which the watch of routes sees nothing
        scene.server.bookmark()
        await asyncio.sleep(0.1)
        scene.server.compact()
        scene.server.drop()
        scene.route("b")
        await follows(scene, cluster)
        assert scene.requests(SIGNALROUTES, watch=False) == 1
        await cluster.close()

    play(scenario)


@pytest.mark.parametrize("trouble", [Trouble.GONE, Trouble.GONE_EVENT])
def test_410_in_both_forms_means_list_again(play, trouble):
    async def scenario(scene):
        scene.route("a")
        scene.server.hold = once(trouble)
        cluster = scene.cluster()
        await cluster.start()
        scene.route("b")
        await follows(scene, cluster)
        await asyncio.sleep(1)
        assert scene.requests(SIGNALROUTES, watch=False) == 2
        await cluster.close()

    play(scenario)


@pytest.mark.parametrize("trouble", [Trouble.STRANGE, Trouble.NOT_JSON])
def test_after_what_cannot_be_read_the_copy_is_listed_anew(play, trouble):
    async def scenario(scene):
        scene.route("a")
        scene.server.hold = once(trouble)
        cluster = scene.cluster()
        await cluster.start()
        await asyncio.sleep(2)
        assert scene.requests(SIGNALROUTES, watch=False) == 2
        await cluster.close()

    play(scenario)


def test_what_was_deleted_while_nobody_watched_is_gone_after_the_next_list(play):
    async def scenario(scene):
        scene.route("a")
        scene.route("b")
        cluster = scene.cluster()
        await cluster.start()
        await asyncio.sleep(0.1)
        scene.server.stop()
        scene.server.remove(SIGNALROUTES, "trading", "a")
        scene.server.compact()
        await asyncio.sleep(1)
        assert copy_of(cluster) == {"a": 1, "b": 1}, "what is known stays while the API server is away"
        assert scene.sample("current", resource=SIGNALROUTES, namespace="trading") == 0
        await scene.server.restart()
        await follows(scene, cluster, seconds=6)
        await asyncio.sleep(0.1)
        assert scene.sample("current", resource=SIGNALROUTES, namespace="trading") == 1
        await cluster.close()

    play(scenario)


@pytest.mark.parametrize("trouble", [t for t in Trouble if t not in (Trouble.GONE, Trouble.GONE_EVENT)])
def test_each_trouble_of_a_watch_is_got_over(play, trouble):
    async def scenario(scene):
        scene.route("a")
        scene.server.hold = once(trouble)
        cluster = scene.cluster()
        await cluster.start()
        scene.route("b")
        # a hang is found out when the answer is due, or when the watch should have ended
        await follows(scene, cluster, seconds=70)
        assert scene.sample("failures_total", resource=SIGNALROUTES, namespace="trading") == 1
        scene.route("c")
        await follows(scene, cluster)
        await cluster.close()

    play(scenario)


@pytest.mark.parametrize(
    "trouble",
    [t for t in Trouble if t not in (Trouble.GONE_EVENT, Trouble.ERROR_EVENT, Trouble.STRANGE, Trouble.HALF_LINE)],
)
def test_each_trouble_of_a_list_is_got_over(play, trouble):
    async def scenario(scene):
        scene.route("a")
        scene.server.hold = once(trouble, lambda asked: asked["path"].endswith(SIGNALROUTES))
        cluster = scene.cluster()
        await cluster.start()
        await follows(scene, cluster, seconds=7)
        await cluster.close()

    play(scenario)


def test_what_the_api_server_asks_to_wait_is_waited(play):
    async def scenario(scene):
        scene.server.hold = once(Trouble.TOO_MANY, lambda asked: asked["path"].endswith(SIGNALROUTES))
        cluster = scene.cluster()
        began = scene.sim.loop.time()
        await cluster.start()
        assert 1.0 <= scene.sim.loop.time() - began < 1.1
        await cluster.close()

    play(scenario)


def test_an_api_server_that_is_away_is_asked_ever_more_rarely_and_found_soon(play, caplog):
    async def scenario(scene):
        cluster = scene.cluster()
        await cluster.start()
        await asyncio.sleep(0.1)
        scene.server.stop()
        connections = scene.sim.network.connections
        before = [
            scene.sample("failures_total", resource=r, namespace="trading") for r in (SIGNALROUTES, SERVICES, SLICES)
        ]
        await asyncio.sleep(600)
        after = [
            scene.sample("failures_total", resource=r, namespace="trading") for r in (SIGNALROUTES, SERVICES, SLICES)
        ]
        for one, other in zip(before, after, strict=True):
            assert 600 / 7.5 - 1 <= other - one <= 600 / 2.5 + 10
        assert scene.sim.network.connections == connections
        await scene.server.restart()
        scene.route()
        await follows(scene, cluster, seconds=7.6)
        await cluster.close()

    with caplog.at_level(logging.WARNING):
        play(scenario)
    told = [record for record in caplog.messages if "event=kube_away resource=signalroutes" in record]
    assert 1 <= len(told) <= 2, "said once, not at each try"


def test_a_watch_that_fails_at_once_each_time_is_no_storm(play):
    async def scenario(scene):
        scene.route("a")
        scene.server.hold = lambda asked: Trouble.STRANGE if watch_of_routes(asked) else None
        cluster = scene.cluster()
        await cluster.start()
        await asyncio.sleep(60)
        assert scene.requests(SIGNALROUTES) <= 60
        assert copy_of(cluster) == {"a": 1}
        await cluster.close()

    play(scenario)


def test_an_event_that_comes_in_pieces_is_one_event(play):
    async def scenario(scene):
        cluster = scene.cluster()
        await cluster.start()
        await asyncio.sleep(0.1)
        item = {"metadata": {"name": "x", "resourceVersion": "500", "uid": "u", "generation": 1}, "spec": {}}
        import json

        line = json.dumps({"type": "ADDED", "object": item}).encode() + b"\n"
        for byte in range(0, len(line), 7):
            scene.server.send(SIGNALROUTES, line[byte : byte + 7])
            await asyncio.sleep(0.01)
        assert copy_of(cluster) == {"x": 1}
        await cluster.close()

    play(scenario)


@pytest.mark.parametrize("seed", range(8))
def test_under_random_trouble_the_copy_is_right_in_the_end(play, seed):
    async def scenario(scene):
        rng = random.Random(seed)
        scene.sim.network.weather.reset = 0.02
        scene.sim.network.weather.split = 0.3
        scene.server.hold = lambda asked: rng.choice(list(Trouble)) if rng.random() < 0.2 else None
        cluster = scene.cluster()
        await cluster.start()
        for _ in range(50):
            name = f"route-{rng.randrange(6)}"
            if name in truth(scene) and rng.random() < 0.3:
                scene.server.remove(SIGNALROUTES, "trading", name)
            else:
                scene.route(name, deadline=f"{rng.randrange(1, 500)}ms")
            if rng.random() < 0.1:
                scene.server.compact()
            if rng.random() < 0.1:
                scene.server.drop()
            if rng.random() < 0.2:
                scene.server.bookmark()
            await asyncio.sleep(rng.random() * 3)
        scene.server.hold = lambda asked: None
        scene.sim.network.weather.reset = 0.0
        await follows(scene, cluster, seconds=80)
        await cluster.close()

    play(scenario, seed)
