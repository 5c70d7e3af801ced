"""What pods say that do not become ready."""

import msgspec
import pytest

from signalyard_router.adapters.kube.objects import Pod
from signalyard_router.adapters.kube.pods import PodName, PodReasons, failure
from signalyard_router.testing.api_server import PODS, Trouble

REFUSED = "bundle_file_changed: this bundle is sha256:77, asked for was sha256:5e"
ENDED = {"terminated": {"exitCode": 6, "reason": "Error", "message": REFUSED}}
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
LOADS = {"running": {"startedAt": "2026-11-25T19:00:00Z"}}


def status(*init, containers=()):
    return {"initContainerStatuses": list(init), "containerStatuses": list(containers)}


def container(state, last=None, name="bundle"):
    return {"name": name, "ready": False, "state": state, "lastState": last or {}}


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({}, ""),
        ({"initContainerStatuses": None, "containerStatuses": None}, ""),
        (status(container({"waiting": {"reason": "PodInitializing"}})), ""),
        (status(container(LOADS)), ""),
        (status(container(ENDED)), f"bundle: {REFUSED}"),
        # Tried again, and waiting for the next try: what it left last is the reason, and not that it waits.
        (status(container(LOADS, ENDED)), f"bundle: {REFUSED}"),
        (status(container(BACK_OFF, ENDED)), f"bundle: {REFUSED}"),
        # It failed once and is done.
        (status(container({"terminated": {"exitCode": 0}}, ENDED), containers=[container(LOADS, name="server")]), ""),
        (
            status(container({"terminated": {"exitCode": 0}}), containers=[container(LOADS, ENDED, "server")]),
            f"server: {REFUSED}",
        ),
        (
            status(container({"terminated": {"exitCode": 137, "reason": "OOMKilled"}})),
            "bundle: ended with 137 OOMKilled",
        ),
        (
            status(container({"waiting": {"reason": "ErrImagePull", "message": "no such\n  image"}})),
            "bundle: ErrImagePull no such image",
        ),
        # The end of a log, where the container left no message: its last line.
        (status(container({"terminated": {"exitCode": 1, "message": "a\nb: \x1b[1mc\n"}})), "bundle: b: [1mc"),
        (status(container({"terminated": {"exitCode": 1, "message": "x" * 9000}})), "bundle: " + "x" * 300),
    ],
)
def test_what_a_pod_says(told, reason):
    assert failure(msgspec.convert({"status": told}, Pod)) == reason


def names(*numbers):
    return dict.fromkeys(PodName("trading", f"pod-{number}") for number in numbers)


def asked(scene):
    return [one["path"].rpartition("/")[2] for one in scene.server.asked if "/pods/" in one["path"]]


def test_each_is_asked_now_and_then_and_few_in_a_row(play):
    async def scenario(scene):
        reasons = PodReasons(scene.cluster()._api, scene.world.clock)
        for number in range(6):
            scene.server.put(PODS, "trading", f"pod-{number}", status=status(container(ENDED)))
        awaited = names(*range(6))
        await reasons.look(awaited)
        assert asked(scene) == ["pod-0", "pod-1", "pod-2", "pod-3"]
        assert reasons.of(PodName("trading", "pod-3")) == f"bundle: {REFUSED}"
        assert reasons.of(PodName("trading", "pod-4")) == ""
        await reasons.look(awaited)
        await reasons.look(awaited)
        assert asked(scene)[4:] == ["pod-4", "pod-5"]
        # Five seconds later: those that were asked longest ago come first.
        scene.server.put(PODS, "trading", "pod-0", status={})
        await scene.wait(5)
        await reasons.look(awaited)
        assert asked(scene)[6:] == ["pod-0", "pod-1", "pod-2", "pod-3"]
        assert reasons.of(PodName("trading", "pod-0")) == ""
        await reasons.look(names(5))
        assert reasons.of(PodName("trading", "pod-3")) == "", "it is awaited no more, and forgotten"

    play(scenario)


def test_pods_that_cannot_be_read_have_no_reason_and_hold_nothing_up(play, caplog):
    async def scenario(scene):
        reasons = PodReasons(scene.cluster(call_seconds=1.0)._api, scene.world.clock)
        for number in range(3):
            scene.server.put(PODS, "trading", f"pod-{number}", status=status(container(ENDED)))
        scene.server.script.extend([Trouble.FORBIDDEN, Trouble.NOT_JSON])
        await reasons.look(names(0, 1))
        assert reasons.of(PodName("trading", "pod-0")) == ""
        assert "event=pod_unread pod=trading/pod-0" in caplog.text
        assert "event=pod_unread pod=trading/pod-1" in caplog.text
        # Gone, or of a slice that does not say which pod it is.
        await reasons.look({PodName("trading", "gone"): None, PodName("trading", ""): None})
        assert asked(scene)[2:] == ["gone"]
        await reasons.look(names(2))
        await scene.wait(5)
        scene.server.script.append(Trouble.HANG)
        await reasons.look(names(2, 1))
        assert reasons.of(PodName("trading", "pod-2")) == f"bundle: {REFUSED}", "what was known of it still holds"

    play(scenario)
