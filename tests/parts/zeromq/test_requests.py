"""Requests and replies on real sockets: one that goes well, and all that may go wrong with a peer."""

import asyncio
import json

import msgspec
import pytest
import zmq

from signalyard import AsyncClient, BlockingClient, Outcome, Snapshot
from signalyard.problems import CallerError, Problem, RouterError
from signalyard.wires.zeromq import ZeromqWire

pytestmark = pytest.mark.parts

V = b"signalyard/1"
TIME = 1_718_923_456_000_000_000
PATIENT = 20


def snapshot(number=0):
    return Snapshot(symbol="rb2410.SHFE", ts_event=TIME + number, features={"close": 3512.0})


def ask(number, kind=b"predict", body=None, budget=b""):
    return [V, kind, b"%d" % number, budget, msgspec.json.encode(snapshot(number)) if body is None else body]


async def reply(peer):
    version, what, id_, body = await asyncio.wait_for(peer.recv_multipart(), PATIENT)
    assert version == V
    return what, id_, json.loads(body or b"null")


def test_a_client_asks_and_is_answered(play):
    async def scenario(stage):
        async with AsyncClient(ZeromqWire(stage.wire.requests.address), deadline=PATIENT) as client:
            one = await client.predict_one(snapshot())
            assert (one.outcome, one.ts_event) == (Outcome.ABSTAINED, TIME)
            several = await asyncio.gather(*[client.predict([snapshot(n), snapshot(n + 1)]) for n in range(100)])
            assert [[d.ts_event - TIME for d in each] for each in several] == [[n, n + 1] for n in range(100)]
            assert (await client.state("ag.SHFE")).opinions == []
        assert stage.messages("answered") == 102

    play(scenario)


def test_a_thread_asks_and_is_answered_or_told_in_time(play):
    async def scenario(stage):
        client = BlockingClient(lambda: ZeromqWire(stage.wire.requests.address))
        decided = await asyncio.to_thread(client.predict_one, snapshot(), deadline=PATIENT)
        assert decided.outcome is Outcome.ABSTAINED
        stage.router.hold = asyncio.Event()
        with pytest.raises(RouterError) as late:
            await asyncio.to_thread(client.predict_one, snapshot(), deadline=0.05)
        assert late.value.problem is Problem.DEADLINE_EXCEEDED
        stage.router.hold.set()
        await asyncio.to_thread(client.close)

    play(scenario)


def test_a_client_is_told_what_is_wrong(play):
    async def scenario(stage):
        async with AsyncClient(ZeromqWire(stage.wire.requests.address), deadline=PATIENT) as client:
            with pytest.raises(CallerError) as refused:
                await client.predict([snapshot()] * 3)
            assert refused.value.problem is Problem.TOO_MANY_ROWS

    play(scenario, max_rows=2)


def test_whatever_comes_is_answered_and_counted(play):
    async def scenario(stage):
        peer = stage.peer()
        for frames, code, counted in [
            ([b"signalyard/9", b"predict", b"1", b"", b"{}"], "invalid_request", "version"),
            ([V, b"predict", b"1"], "invalid_request", "malformed"),
            ([b"GET / HTTP/1.1"], "invalid_request", "version"),
            (ask(1, budget=b"soon"), "invalid_budget", "malformed"),
            (ask(1, body=b"x" * 2_000), "body_too_large", "oversize"),
            (ask(1, body=b"{"), "malformed_body", "refused"),
            (ask(1, kind=b"state", body=b'{"symbl":"x"}'), "invalid_request", "refused"),
        ]:
            before = stage.messages(counted)
            await peer.send_multipart(frames)
            what, _, body = await reply(peer)
            assert (what, body["code"]) == (b"problem", code)
            assert stage.messages(counted) == before + 1
        await peer.send_multipart(ask(9))
        assert (await reply(peer))[:2] == (b"answer", b"9")
        await peer.send_multipart([V, b"beat", b"b", b"", b""])
        assert (await reply(peer))[:2] == (b"beat", b"b")

    play(scenario, max_body_bytes=1_000)


def test_a_frame_far_beyond_the_bound_ends_its_connection_and_no_other(play):
    async def scenario(stage):
        peer, good = stage.peer(), stage.peer()
        await peer.send_multipart(ask(1, body=b"x" * 100_000))
        for number in range(20):
            await good.send_multipart(ask(number))
            assert (await reply(good))[:2] == (b"answer", b"%d" % number)
        assert stage.messages("oversize") == 0  # it was never read
        assert not await peer.poll(50)

    play(scenario, max_body_bytes=1_000)


def test_half_a_message_is_none(play):
    async def scenario(stage):
        raw, good = stage.raw(), stage.peer()
        frame = b"signalyard/1"
        raw.sendall(bytes([1, len(frame)]) + frame)  # more is to follow
        await good.send_multipart(ask(1))
        assert (await reply(good))[:2] == (b"answer", b"1")
        raw.sendall(bytes([1, 7]) + b"pre")  # and half a frame
        raw.close()
        await good.send_multipart(ask(2))
        assert (await reply(good))[:2] == (b"answer", b"2")
        assert (stage.messages("answered"), stage.messages("malformed")) == (2, 0)

    play(scenario)


def test_a_peer_that_floods_is_refused_and_the_others_are_served(play):
    async def scenario(stage):
        stage.router.hold = asyncio.Event()
        flooding, good = stage.peer(), stage.peer()
        for number in range(500):
            await flooding.send_multipart(ask(number))
        refused = [await reply(flooding) for _ in range(490)]
        assert {body["code"] for _, _, body in refused} == {"overloaded"}
        await good.send_multipart(ask(1))
        await stage.until(lambda: stage.router.waiting == 11)
        stage.router.hold.set()
        assert (await reply(good))[:2] == (b"answer", b"1")
        assert {(await reply(flooding))[0] for _ in range(10)} == {b"answer"}

    play(scenario, max_in_flight=10)


def test_a_peer_that_never_reads_loses_its_answers_and_holds_nobody_up(play):
    async def scenario(stage):
        stage.router.pad = "r" * 100_000
        deaf, good = stage.peer(RCVHWM=1, RCVBUF=4096), stage.peer()
        for number in range(200):
            await deaf.send_multipart(ask(number))
        await stage.until(lambda: stage.messages("answered") == 200)
        assert stage.dropped("requests") > 0
        await good.send_multipart(ask(1))
        assert (await reply(good))[:2] == (b"answer", b"1")

    play(scenario, requests_high_water=5)


def test_a_peer_that_is_gone_loses_its_answer_and_is_forgotten(play):
    async def scenario(stage):
        stage.router.hold = asyncio.Event()
        peer = stage.peer()
        await peer.send_multipart(ask(1))
        await stage.until(lambda: stage.router.waiting)
        assert stage.registry.get_sample_value("signalyard_zeromq_peers") == 1
        peer.close(0)
        await asyncio.sleep(0.05)
        stage.router.hold.set()
        await stage.until(lambda: stage.dropped("requests") == 1)
        assert stage.registry.get_sample_value("signalyard_zeromq_peers") == 0

    play(scenario)


def test_a_shutdown_under_load_loses_no_request(play):
    async def scenario(stage):
        address = stage.wire.requests.address
        wire = ZeromqWire(address)
        client = AsyncClient(wire, deadline=PATIENT)
        asked, stop = [], asyncio.Event()

        async def load():
            while not stop.is_set():
                asked.append(await client.predict_one(snapshot(len(asked))))

        loads = [asyncio.create_task(load()) for _ in range(8)]
        await stage.until(lambda: len(asked) > 200)
        await stage.drain()
        await stage.wire.close()
        before = len(asked)
        again = type(stage)(requests=address, signals="")
        try:
            await stage.until(lambda: len(asked) > before + 200)
            stop.set()
            await asyncio.gather(*loads)
            assert {decision.outcome for decision in asked} == {Outcome.ABSTAINED}
        finally:
            await client.close()
            await again.close()

    play(scenario)


def test_a_shutdown_answers_what_was_read_and_then_says_bye(play):
    async def scenario(stage):
        stage.router.hold = asyncio.Event()
        peer = stage.peer()
        for number in range(3):
            await peer.send_multipart(ask(number))
        await stage.until(lambda: stage.router.waiting == 3)
        draining = asyncio.create_task(stage.drain())
        await asyncio.sleep(0)
        stage.router.hold.set()
        await draining
        told = [await reply(peer) for _ in range(4)]
        assert [(what, id_) for what, id_, _ in told] == [(b"answer", b"%d" % number) for number in range(3)] + [
            (b"bye", b"")
        ]

    play(scenario)


def test_a_shutdown_whose_grace_is_over_tells_those_who_wait(play):
    async def scenario(stage):
        stage.router.hold = asyncio.Event()
        peer = stage.peer()
        for number in range(3):
            await peer.send_multipart(ask(number))
        await stage.until(lambda: stage.router.waiting == 3)
        await stage.drain(grace=0.05)
        told = [await reply(peer) for _ in range(4)]
        assert {id_ for _, id_, _ in told[:3]} == {b"0", b"1", b"2"}
        assert {(what, body["code"]) for what, _, body in told[:3]} == {(b"problem", "draining")}
        assert told[3][0] == b"bye"

    play(scenario)


def test_what_is_not_foreseen_is_answered_without_its_text(play, caplog):
    async def scenario(stage):
        def submit(rows, **times):
            raise RuntimeError("a secret")

        stage.router.submit = submit
        peer = stage.peer()
        await peer.send_multipart(ask(1))
        what, _, body = await reply(peer)
        assert (what, body["code"]) == (b"problem", "internal")
        assert "secret" not in json.dumps(body)
        assert stage.messages("refused") == 1

    play(scenario)
    assert "a secret" in caplog.text


def test_snapshots_of_a_publisher_are_decided_on(play):
    async def scenario(stage):
        publisher = stage.context.socket(zmq.XPUB)
        stage.peers.append(publisher)
        publisher.setsockopt(zmq.LINGER, 0)
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        other = type(stage)(
            requests="", signals="", snapshots=(f"tcp://127.0.0.1:{port}",), max_in_flight=4, max_body_bytes=1_000
        )
        try:
            await asyncio.wait_for(publisher.recv(), PATIENT)  # the subscription
            body = msgspec.json.encode(snapshot())
            for frames in (
                [b"rb", V, b"snapshot", b"{"],
                [b"rb", V, b"snapshot"],
                [b"rb", b"v0", b"snapshot", body],
                [b"rb", V, b"snapshot", b" " * 1_500],
                *[[b"rb", V, b"snapshot", body]] * 500,
            ):
                await publisher.send_multipart(frames)
            await stage.until(lambda: other.messages("decided", "snapshots") == 500)
            found = {r: other.messages(r, "snapshots") for r in ("refused", "malformed", "version", "oversize")}
            assert found == {"refused": 1, "malformed": 1, "version": 1, "oversize": 1}
        finally:
            await other.close()

    play(scenario)
