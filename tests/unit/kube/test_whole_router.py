"""A whole router in a simulated cluster: routes, pods, levers and conditions, with the API server there, wrong or away."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.kube.conftest import pod

from signalyard.profile import Feature, FeatureSchema, ModelCard
from signalyard.wire import Snapshot
from signalyard_router.adapters.kube.settings import KubeSettings
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.main import ProcessSettings, running
from signalyard_router.rules.levers import Order
from signalyard_router.testing.api_server import LEASES, PODS, SIGNALROUTES, Trouble
from signalyard_router.testing.model_server import ModelServer, ServedModel
from signalyard_router.testing.sim.network import Node

SCHEMA = FeatureSchema((Feature(name="p"),))
ONE_TRACK = [
    {"name": "stable", "version": "7", "weight": 100, "endpoint": {"service": "rb-trend-stable", "port": 8080}}
]
BAD_SESSIONS = {"timezone": "Mars/Olympus", "hours": ["09:00-10:00"]}


@pytest.fixture
def stage(play, tmp_path):
    """``play`` with routers that are started by name, and pods."""

    def run(scenario, seed=1):
        async def performance(scene):
            config = tmp_path / "kubeconfig"
            config.write_text(
                "current-context: a\n"
                "contexts: [{name: a, context: {cluster: a, user: a, namespace: trading}}]\n"
                f"clusters: [{{name: a, cluster: {{server: 'http://{scene.server.host}:{scene.server.port}'}}}}]\n"
                "users: [{name: a, user: {token: secret}}]\n"
            )
            scene.disks = {}
            scene.journals = {}

            @asynccontextmanager
            async def router(name="router-0", **kube):
                disk = scene.disks.setdefault(name, scene.sim.disk())
                node = Node(name)
                world = scene.sim.world(node, disk)
                scene.registry = CollectorRegistry()
                settings = ProcessSettings(
                    routes_from="kubernetes",
                    journal=JournalSettings(folder="/journal"),
                    kube=KubeSettings(kubeconfig=config, identity=name, **kube),
                )
                async with running(settings, world=world, registry=scene.registry) as up:
                    yield up.router, up.board

            async def start(host, *versions, port=9000):
                served = [
                    ServedModel(
                        card=ModelCard(
                            model="rb-trend", version=v, digest=f"sha256:{v:0>64}", calibrated=False, schema=SCHEMA
                        ),
                        score=lambda rows: [row[0] for row in rows],
                    )
                    for v in versions
                ]
                made = ModelServer(served)
                await made.start(scene.sim.network.of(Node(host)), host, port)
                return made

            scene.router, scene.pod = router, start
            await scenario(scene)

        play(performance, seed)

    return run


def status(scene, name="rb", namespace="trading"):
    return scene.server.get(SIGNALROUTES, namespace, name).get("status", {})


def condition(scene, kind, name="rb"):
    found = {one["type"]: one for one in status(scene, name).get("conditions", ())}
    return found.get(kind, {"status": "", "reason": "", "message": ""})


def says(scene, kind, state, reason, name="rb"):
    one = condition(scene, kind, name)
    return (one["status"], one["reason"]) == (state, reason)


async def ask(scene, router, symbol="rb2410.SHFE", p=0.9):
    (decision,) = await router.predict([Snapshot(symbol=symbol, ts_event=scene.world.clock.wall(), features={"p": p})])
    return decision


def writes(scene):
    return [asked for asked in scene.server.asked if asked["method"] == "PATCH"]


async def with_a_pod(scene):
    scene.service()
    scene.slice(pod("10.0.0.1"))
    return await scene.pod("10.0.0.1", "7")


def test_why_the_pods_of_a_new_version_do_not_start_is_in_the_status(stage):
    async def scenario(scene):
        await with_a_pod(scene)
        scene.route(tracks=ONE_TRACK)
        async with scene.router():
            await scene.until(lambda: says(scene, "VersionDrift", "False", "AsPinned"), 3)
            scene.route(tracks=[ONE_TRACK[0] | {"version": "8"}])
            scene.slice(pod("10.0.0.1"), pod("10.0.0.2", "new", ready=False, serving=False))
            scene.server.put(PODS, "trading", "new", status={})
            await scene.until(lambda: says(scene, "VersionDrift", "True", "Progressing"), 5)
            ended = {"name": "bundle", "state": {"terminated": {"exitCode": 6, "message": "bundle_file_missing: x"}}}
            scene.server.put(PODS, "trading", "new", status={"initContainerStatuses": [ended]})
            await scene.until(lambda: says(scene, "VersionDrift", "True", "Failing"), 10)
            why = "new: bundle: bundle_file_missing: x"
            assert condition(scene, "VersionDrift")["message"] == (
                f"stable 8: its pods serve 7; others fail: stable 8: {why}"
            )
            await scene.until(lambda: why in condition(scene, "TracksReady")["message"], 10)
            assert says(scene, "TracksReady", "True", "Ready")
            scene.slice(pod("10.0.0.2", "new", ready=False, serving=False))
            await scene.until(lambda: says(scene, "TracksReady", "False", "NoEndpoints"), 10)
            assert condition(scene, "TracksReady")["message"] == (f"stable 8: no pod is ready; 1 not ready: {why}")

    stage(scenario)


def test_a_new_route_decides_within_a_second_and_says_so(stage):
    async def scenario(scene):
        await with_a_pod(scene)
        async with scene.router() as (router, _):
            assert router.unready() == [], "a cluster without routes is a good beginning"
            await asyncio.sleep(5)
            scene.route(tracks=ONE_TRACK)
            assert await scene.until(lambda: "rb" in router.routes) < 0.5
            await asyncio.sleep(0.1)
            decision = await ask(scene, router)
            assert decision.outcome == "emitted"
            assert await scene.until(lambda: says(scene, "Accepted", "True", "InForce"), 3) < 2.5
            assert says(scene, "TracksReady", "True", "Ready")
            assert says(scene, "VersionDrift", "False", "AsPinned")
            assert says(scene, "Overridden", "False", "AsDocumented")
            assert says(scene, "Halted", "False", "NotHalted")
            told = status(scene)
            assert told["revision"] == router.routes["rb"].revision
            assert told["observedGeneration"] == 1
            assert told["weights"] == "stable 100"
            assert told["tracks"] == [
                {
                    "name": "stable",
                    "version": "7",
                    "serving": "7",
                    "digest": f"sha256:{'7':0>64}",
                    "weight": 100.0,
                    "endpoints": 1,
                    "ready": 1,
                }
            ]
            await asyncio.sleep(40)
            assert status(scene)["assignment"] == {"stable": 1}

    stage(scenario)


def test_a_route_that_goes_bad_keeps_its_last_good_spec_also_across_a_restart_and_others_go_on(stage):
    async def scenario(scene):
        await with_a_pod(scene)
        scene.route(tracks=ONE_TRACK)
        scene.route("other", tracks=ONE_TRACK, instruments=["ES.CME"])
        async with scene.router() as (router, _):
            good = router.routes["rb"].revision
            scene.route(tracks=ONE_TRACK, sessions=BAD_SESSIONS)
            scene.route("other", tracks=ONE_TRACK, instruments=["ES.CME"], deadline="50ms")
            await scene.until(lambda: router.routes["other"].deadline == 50_000_000)
            assert router.routes["rb"].revision == good
            await scene.until(lambda: says(scene, "Accepted", "False", "Invalid"), 8)
            told = condition(scene, "Accepted")
            assert told["message"].startswith("spec.sessions.timezone: ")
            assert told["message"].endswith(f"revision {good} stays in force")
            assert told["observedGeneration"] == 2
            assert status(scene)["revision"] == good
        async with scene.router() as (router, _):
            assert router.routes["rb"].revision == good
            assert (await ask(scene, router)).outcome == "emitted"
            await asyncio.sleep(5)
            assert says(scene, "Accepted", "False", "Invalid")
            scene.route(tracks=ONE_TRACK)
            await scene.until(lambda: says(scene, "Accepted", "True", "InForce"), 8)
            assert condition(scene, "Accepted")["observedGeneration"] == 3
            scene.server.remove(SIGNALROUTES, "trading", "rb")
            await scene.until(lambda: "rb" not in router.routes)

    stage(scenario)


def test_a_route_that_never_was_good_is_told_and_decides_nothing(stage):
    async def scenario(scene):
        scene.route(tracks=ONE_TRACK, sessions=BAD_SESSIONS)
        async with scene.router() as (router, _):
            assert router.routes == {}
            await scene.until(lambda: says(scene, "Accepted", "False", "Invalid"), 8)
            assert condition(scene, "Accepted")["message"].endswith("nothing of it is in force")
            assert says(scene, "TracksReady", "Unknown", "NotInForce")
            assert "tracks" not in status(scene)

    stage(scenario)


def test_a_restart_without_an_api_server_decides_by_the_journal_and_the_names_of_services(stage):
    async def scenario(scene):
        await with_a_pod(scene)
        await scene.pod("rb-trend-stable.trading.svc", "7", port=8080)
        scene.route(tracks=ONE_TRACK)
        async with scene.router() as (router, _):
            assert (await ask(scene, router)).outcome == "emitted"
        scene.server.stop()
        async with scene.router(start_seconds=1.0) as (router, board):
            assert router.unready() == []
            assert (await ask(scene, router, p=0.1)).outcome == "emitted"
            assert (
                router.tracks(router.table.routes["rb"])[0].endpoints[0].endpoint == "rb-trend-stable.trading.svc:8080"
            )
            await board.pull(Order(action="halt", by="op", why="test"))
            assert (await ask(scene, router)).outcome == "suppressed", "levers need no API server"
            await scene.server.restart()
            await scene.until(lambda: says(scene, "Halted", "True", "Halted"), 20)
            assert router.tracks(router.table.routes["rb"])[0].endpoints[0].endpoint == "10.0.0.1:9000"

    stage(scenario)


def test_a_first_start_without_an_api_server_is_up_and_not_ready(stage):
    async def scenario(scene):
        await with_a_pod(scene)
        scene.route(tracks=ONE_TRACK)
        scene.server.stop()
        async with scene.router(start_seconds=1.0) as (router, _):
            assert router.unready() == ["the model servers have not been asked yet"]
            await scene.server.restart()
            await scene.until(lambda: not router.unready(), 20)
            assert list(router.routes) == ["rb"]

    stage(scenario)


def test_while_the_api_server_is_away_everything_goes_on(stage):
    async def scenario(scene):
        await with_a_pod(scene)
        scene.route(tracks=ONE_TRACK)
        async with scene.router() as (router, _):
            await scene.until(lambda: says(scene, "Accepted", "True", "InForce"), 8)
            scene.server.stop()
            for number in range(60):
                await asyncio.sleep(2)
                decision = await ask(scene, router, p=0.9 if number % 2 else 0.1)
                assert decision.outcome == "emitted"
                assert decision.elapsed_us < 20_000

    stage(scenario)


def test_pods_that_roll_change_the_model_once_and_fail_nobody(stage):
    async def scenario(scene):
        scene.service()
        scene.slice(pod("10.0.0.1"), pod("10.0.0.2"))
        old = [await scene.pod("10.0.0.1", "7"), await scene.pod("10.0.0.2", "7")]
        scene.route(tracks=ONE_TRACK)
        async with scene.router() as (router, _):
            versions = []

            async def trade():
                number = 0
                while True:
                    number += 1
                    decision = await ask(scene, router, p=0.9 if number % 2 else 0.1)
                    assert decision.outcome == "emitted", decision
                    assert not decision.signal.failover
                    versions.append(decision.signal.version)
                    await asyncio.sleep(0.02)

            trading = asyncio.create_task(trade())
            await asyncio.sleep(2)
            eight = [dict(ONE_TRACK[0], version="8")]
            scene.route(tracks=eight)
            unready = {"ready": False, "serving": False, "terminating": False}
            leaving = {"ready": False, "serving": True, "terminating": True}
            scene.slice(pod("10.0.0.1"), pod("10.0.0.2"), pod("10.0.0.3", **unready))
            await scene.until(lambda: says(scene, "VersionDrift", "True", "Progressing"), 8)
            await scene.pod("10.0.0.3", "8")
            scene.slice(pod("10.0.0.1", **leaving), pod("10.0.0.2"), pod("10.0.0.3"), pod("10.0.0.4", **unready))
            await asyncio.sleep(1)
            old[0].stop()
            await scene.pod("10.0.0.4", "8")
            await asyncio.sleep(3)
            scene.slice(pod("10.0.0.2", **leaving), pod("10.0.0.3"), pod("10.0.0.4"))
            await asyncio.sleep(1)
            old[1].stop()
            await scene.until(lambda: says(scene, "VersionDrift", "False", "AsPinned"), 12)
            trading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await trading
            cut = versions.index("8")
            assert set(versions[:cut]) == {"7"}
            assert set(versions[cut:]) == {"8"}

    stage(scenario)


def test_pods_of_another_version_than_the_pinned_one_are_drift(stage):
    async def scenario(scene):
        scene.service()
        scene.slice(pod("10.0.0.1"))
        await scene.pod("10.0.0.1", "6")
        scene.route(tracks=ONE_TRACK)
        async with scene.router():
            await scene.until(lambda: says(scene, "VersionDrift", "True", "Drift"), 8)
            assert "stable 7: its pods serve 6" in condition(scene, "VersionDrift")["message"]

    stage(scenario)


def test_a_track_without_pods_says_why(stage):
    async def scenario(scene):
        scene.route(tracks=ONE_TRACK)
        async with scene.router() as (router, _):
            await scene.until(lambda: says(scene, "TracksReady", "False", "NoEndpoints"), 8)
            assert condition(scene, "TracksReady")["message"] == "stable 7: there is no Service rb-trend-stable"
            scene.service()
            scene.slice(pod("10.0.0.1", ready=False, serving=False, terminating=False))
            await scene.until(lambda: "1 not ready yet" in condition(scene, "TracksReady")["message"], 12)
            began = scene.sim.loop.time()
            decision = await ask(scene, router)
            assert decision.outcome == "abstained"
            assert scene.sim.loop.time() - began < 0.005, "nobody is waited for"
            scene.slice(pod("10.0.0.1"))
            await scene.until(lambda: says(scene, "TracksReady", "False", "NotAnswering"), 12)

    stage(scenario)


def test_levers_show_and_who_pulled_them_and_why(stage):
    async def scenario(scene):
        await with_a_pod(scene)
        scene.service("rb-trend-canary")
        scene.route()
        async with scene.router() as (_, board):
            await scene.until(lambda: says(scene, "Accepted", "True", "InForce"), 8)
            assert status(scene)["weights"] == "stable 90, canary 10"
            weight = await board.pull(Order(action="weight", route="rb", canary=50.0, by="ann", why="trial"))
            await scene.until(lambda: says(scene, "Overridden", "True", "Weight"), 3)
            assert condition(scene, "Overridden")["message"] == f"{weight.id}: weight to canary 50% by ann: trial"
            assert status(scene)["weights"] == "stable 50, canary 50"
            halt = await board.pull(Order(action="halt", by="bob", why="limit up"))
            await scene.until(lambda: says(scene, "Halted", "True", "Halted"), 3)
            assert condition(scene, "Halted")["message"] == f"{halt.id}: halt of everything by bob: limit up"
            assert status(scene)["levers"] == [weight.id, halt.id]
            since = condition(scene, "Halted")["lastTransitionTime"]
            await board.pull(Order(action="end", lever=weight.id, by="ann", why="over"))
            await scene.until(lambda: says(scene, "Overridden", "False", "AsDocumented"), 3)
            assert condition(scene, "Halted")["lastTransitionTime"] == since
            await board.pull(Order(action="resume", lever=halt.id, by="bob", why="calm"))
            await scene.until(lambda: says(scene, "Halted", "False", "NotHalted"), 3)
            assert "levers" not in status(scene)

    stage(scenario)


def test_only_the_holder_of_the_lease_writes_and_a_dead_one_is_followed(stage):
    async def scenario(scene):
        await with_a_pod(scene)
        scene.route(tracks=ONE_TRACK)

        def holder():
            return scene.server.get(LEASES, "trading", "signalyard-router")["spec"]["holderIdentity"]

        async with scene.router("one"):
            await scene.until(lambda: says(scene, "Accepted", "True", "InForce"), 8)
            async with scene.router("two") as (_, board):
                assert holder() == "one"
                before = len(writes(scene))
                await board.pull(Order(action="halt", by="op", why="x"))
                await asyncio.sleep(60)
                assert len(writes(scene)) == before, "two does not write what it alone knows"
                assert holder() == "one"
                # one can no longer reach the API server: its renewals end, and its writes before two begins
                scene.server.hold = lambda asked: (
                    Trouble.FAIL if asked["path"].endswith("signalyard-router") and '"one"' in asked["body"] else None
                )
                await scene.until(lambda: holder() == "two", 40)
                scene.server.hold = lambda asked: None
                await scene.until(lambda: says(scene, "Halted", "True", "Halted"), 8)
            assert holder() == "", "who ends gives it back"
            await scene.until(lambda: holder() == "one", 8)

    stage(scenario)


def test_many_routes_are_written_once_each_and_then_nothing_is(stage):
    async def scenario(scene):
        await with_a_pod(scene)
        for number in range(60):
            scene.route(f"route-{number}", tracks=ONE_TRACK, instruments=[f"x{number}.SHFE"])
        async with scene.router() as (router, _):
            assert len(router.routes) == 60
            await asyncio.sleep(20)
            done = writes(scene)
            assert len(done) == 60
            assert all(asked["content_type"] == "application/apply-patch+yaml" for asked in done)
            assert all(asked["authorization"] == "Bearer secret" for asked in scene.server.asked)
            await asyncio.sleep(40)
            assert len(writes(scene)) == 60
            assert scene.registry.get_sample_value("signalyard_kube_status_writes_total", {"result": "ok"}) == 60

    stage(scenario)


def test_a_status_that_is_refused_keeps_no_other_route_from_its_own(stage):
    async def scenario(scene):
        await with_a_pod(scene)
        for name in ("a", "b", "c"):
            scene.route(name, tracks=ONE_TRACK, instruments=[f"{name}.SHFE"])
        scene.server.hold = lambda asked: Trouble.FORBIDDEN if asked["path"].endswith("/a/status") else None
        async with scene.router():
            await scene.until(lambda: says(scene, "Accepted", "True", "InForce", "c"), 8)
            assert status(scene, "a") == {}
            scene.server.hold = lambda asked: None
            await scene.until(lambda: says(scene, "Accepted", "True", "InForce", "a"), 8)

    stage(scenario)
