"""SignalGroups as documents: who is taken, who is refused, and a cluster that knows no such kind."""

import pytest

from signalyard.problems import Problem, RouterError
from signalyard_router.control.documents import Documents
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.testing.api_server import SIGNALGROUPS, Trouble


def places(documents):
    return [place for _, place in documents]


def put(scene, name, *routes, namespace="trading", **more):
    scene.server.put(SIGNALGROUPS, namespace, name, spec={"routes": list(routes)} | more)


async def met(routes):
    """The routes' model servers, of which there are none here."""


def of_groups(trouble):
    """That trouble with every request for groups."""
    return lambda asked: trouble if asked["path"].endswith(SIGNALGROUPS) else None


def test_groups_come_with_the_routes(play):
    async def scenario(scene):
        scene.route("a")
        put(scene, "g", "a", "b")
        cluster = scene.cluster()
        await cluster.start()
        documents = await cluster.store.load()
        assert places(documents) == ["signalroute trading/a", "signalgroup trading/g"]
        assert documents[1][0].metadata.namespace == "trading"
        version = cluster.store.version()
        put(scene, "g", "a", "b", "c")
        await scene.until(lambda: cluster.store.version() != version)
        await cluster.close()

    play(scenario)


def test_a_bad_group_is_passed_over_alone_and_says_which_field(play):
    async def scenario(scene):
        put(scene, "bad", "a", "a")
        put(scene, "good", "c", "d")
        cluster = scene.cluster()
        await cluster.start()
        assert places(await cluster.store.load()) == ["signalgroup trading/good"]
        judgement = cluster.store.group_judgements["trading", "bad"]
        assert (judgement.reason, judgement.message) == (
            "Invalid",
            "spec.routes.1: the route 'a' is named twice: name each once",
        )
        assert scene.sample("routes_refused") == 1
        await cluster.close()

    play(scenario)


def test_of_two_groups_that_name_a_route_the_older_one_has_it(play):
    async def scenario(scene):
        put(scene, "young", "a", "b")
        put(scene, "old", "b", "c")
        put(scene, "elsewhere", "b", "c", namespace="other")
        cluster = scene.cluster("trading", "other")
        await cluster.start()
        loaded = places(await cluster.store.load())
        assert loaded == ["signalgroup other/elsewhere", "signalgroup trading/young"]
        judgement = cluster.store.group_judgements["trading", "old"]
        assert judgement.reason == "RouteTaken"
        assert "the route 'b' is in the group 'young' already" in judgement.message
        version = cluster.store.version()
        scene.server.remove(SIGNALGROUPS, "trading", "young")
        await scene.until(lambda: cluster.store.version() != version)
        assert "signalgroup trading/old" in places(await cluster.store.load())
        await cluster.close()

    play(scenario)


def test_of_two_namespaces_groups_of_one_name_the_older_one_has_it(play):
    async def scenario(scene):
        put(scene, "g", "a", "b", namespace="beta")
        put(scene, "g", "a", "b", namespace="alpha")
        cluster = scene.cluster("alpha", "beta")
        await cluster.start()
        assert places(await cluster.store.load()) == ["signalgroup beta/g"]
        assert "the group 'g' of namespace beta" in cluster.store.group_judgements["alpha", "g"].message
        await cluster.close()

    play(scenario)


def test_a_cluster_that_knows_no_groups_has_none(play):
    async def scenario(scene):
        scene.server.hold = of_groups(Trouble.UNKNOWN)
        scene.route("a")
        cluster = scene.cluster()
        await cluster.start()
        assert places(await cluster.store.load()) == ["signalroute trading/a"]
        await cluster.close()

    play(scenario)


def test_groups_that_may_not_be_read_hold_the_documents_up(play):
    """Without them the routes of a group would contradict one another."""

    async def scenario(scene):
        scene.server.hold = of_groups(Trouble.FORBIDDEN)
        scene.route("a")
        cluster = scene.cluster(start_seconds=1.0)
        await cluster.start()
        with pytest.raises(RouterError, match="has not listed the SignalGroups yet") as raised:
            await cluster.store.load()
        assert raised.value.problem is Problem.ROUTES_UNAVAILABLE
        await cluster.close()

    play(scenario)


def test_an_older_group_that_takes_a_route_leaves_all_groups_as_they_are(play):
    """What is in force has no route in two groups; no change may end a group to bring that about, and no group holds the routes up."""

    async def scenario(scene):
        put(scene, "old", "a", "b")
        put(scene, "young", "c", "d")
        cluster = scene.cluster()
        await cluster.start()
        journal = LocalJournal(scene.world, JournalSettings(folder="journal"), scene.registry)
        documents = Documents(cluster.store, journal, scene.registry)
        await documents.first()
        before = journal.groups()
        assert [standing.group for standing in before] == ["old", "young"]
        put(scene, "old", "a", "b", "c")
        scene.route("c")
        await scene.until(lambda: cluster.store.version()[0] == 4)
        routes = await documents.again(met)
        assert [route.name for route in routes] == ["c"]
        assert [(each.group, each.routes) for each in journal.groups()] == [
            (each.group, each.routes) for each in before
        ]
        assert "the route 'c' is in the group 'old' already" in documents.problem
        put(scene, "young", "d", "e")
        await scene.until(lambda: cluster.store.version()[0] == 5)
        await documents.again(met)
        assert [each.routes for each in journal.groups()] == [("a", "b", "c"), ("d", "e")]
        assert documents.problem == ""
        await journal.close()
        await cluster.close()

    play(scenario)
