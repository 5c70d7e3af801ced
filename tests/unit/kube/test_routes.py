"""SignalRoutes as documents: who is taken, who is refused, and what stays in force meanwhile."""

import asyncio

import pytest
from tests.unit.kube.conftest import spec

from signalyard.problems import Problem, RouterError
from signalyard_router.rules.documents import parse_document, revision
from signalyard_router.testing.api_server import SIGNALROUTES


def places(documents):
    return [place for _, place in documents]


def test_a_route_is_the_same_document_as_a_file_of_its_spec(play):
    async def scenario(scene):
        scene.route()
        cluster = scene.cluster()
        await cluster.start()
        ((document, place),) = await cluster.store.load()
        await cluster.close()
        assert place == "signalroute trading/rb"
        file = {"apiVersion": "signalyard.io/v1alpha1", "kind": "SignalRoute", "metadata": {"name": "rb"}}
        assert revision(document) == revision(parse_document(file | {"spec": spec()}, "rb.yaml"))
        assert document.metadata.namespace == "trading"

    play(scenario)


def test_a_bad_route_is_passed_over_alone_and_says_which_field(play):
    async def scenario(scene):
        scene.route("good")
        scene.route("bad", sessions={"timezone": "Mars/Olympus", "hours": ["09:00-10:00"]})
        cluster = scene.cluster()
        await cluster.start()
        assert places(await cluster.store.load()) == ["signalroute trading/good"]
        judgement = cluster.store.judgements["trading", "bad"]
        assert judgement.reason == "Invalid"
        assert judgement.message.startswith("spec.sessions.timezone: ")
        assert list(cluster.store.refused) == ["signalroute trading/bad"]
        assert scene.sample("routes_refused") == 1
        scene.route("bad")
        await scene.until(lambda: cluster.store.version()[0] == 3)
        assert places(await cluster.store.load()) == ["signalroute trading/bad", "signalroute trading/good"]
        assert not cluster.store.refused
        await cluster.close()

    play(scenario)


def test_a_spec_that_is_none_at_all_is_refused_with_the_rest_left_alone(play):
    async def scenario(scene):
        scene.route("good")
        scene.server.put(SIGNALROUTES, "trading", "empty")
        scene.server.put(SIGNALROUTES, "trading", "list", spec=[1, 2])
        scene.server.put(SIGNALROUTES, "trading", "typo", spec=spec(dedline="1s"))
        cluster = scene.cluster()
        await cluster.start()
        assert places(await cluster.store.load()) == ["signalroute trading/good"]
        assert len(cluster.store.refused) == 3
        assert "dedline" in cluster.store.judgements["trading", "typo"].message
        await cluster.close()

    play(scenario)


def test_of_two_namespaces_routes_of_one_name_the_older_one_has_it(play):
    async def scenario(scene):
        scene.route("rb", "beta")
        scene.route("rb", "alpha")
        cluster = scene.cluster("alpha", "beta")
        await cluster.start()
        assert places(await cluster.store.load()) == ["signalroute beta/rb"]
        judgement = cluster.store.judgements["alpha", "rb"]
        assert judgement.reason == "NameTaken"
        assert "namespace beta" in judgement.message
        scene.server.remove(SIGNALROUTES, "beta", "rb")
        await scene.until(lambda: len(cluster.store.judgements) == 2 and cluster.store.version()[0] == 3)
        assert places(await cluster.store.load()) == ["signalroute alpha/rb"]
        await cluster.close()

    play(scenario)


def test_a_new_status_or_label_is_no_new_version(play):
    async def scenario(scene):
        scene.route()
        cluster = scene.cluster()
        await cluster.start()
        before = cluster.store.version()
        scene.server.put(SIGNALROUTES, "trading", "rb", status={"conditions": []}, metadata={"labels": {"a": "b"}})
        (reflector,) = cluster.store._reflectors
        await scene.until(lambda: reflector.objects["rb"].metadata.labels == {"a": "b"})
        assert cluster.store.version() == before
        scene.route(deadline="50ms")
        await scene.until(lambda: cluster.store.version() != before)
        await cluster.close()

    play(scenario)


def test_without_an_api_server_the_store_says_so_and_is_asked_again(play):
    async def scenario(scene):
        scene.route()
        scene.server.stop()
        cluster = scene.cluster(start_seconds=1.0)
        await cluster.start()
        before = cluster.store.version()
        with pytest.raises(RouterError, match="cannot connect to api") as raised:
            await cluster.store.load()
        assert raised.value.problem is Problem.ROUTES_UNAVAILABLE
        await scene.server.restart()
        await scene.until(lambda: cluster.store.version() != before, seconds=6)
        assert places(await cluster.store.load()) == ["signalroute trading/rb"]
        await cluster.close()

    play(scenario)


def test_hundreds_of_routes_are_read_in_pages_and_one_that_changes_is_judged_alone(play):
    async def scenario(scene):
        for number in range(120):
            scene.route(f"route-{number}")
        cluster = scene.cluster(page=50)
        await cluster.start()
        assert scene.requests(SIGNALROUTES, watch=False) == 3
        first = await cluster.store.load()
        assert len(first) == 120
        scene.route("route-7", deadline="50ms")
        version = cluster.store.version()
        await scene.until(lambda: cluster.store.version() != version)
        second = await cluster.store.load()
        changed = [b for a, b in zip(first, second, strict=True) if a[0] is not b[0]]
        assert places(changed) == ["signalroute trading/route-7"]
        await cluster.close()

    play(scenario)


def test_a_change_is_seen_at_once(play):
    async def scenario(scene):
        cluster = scene.cluster()
        await cluster.start()
        assert await cluster.store.load() == []
        await asyncio.sleep(30)
        scene.route()
        assert await scene.until(lambda: cluster.store.version()[0] == 1) < 0.1
        await cluster.close()

    play(scenario)
