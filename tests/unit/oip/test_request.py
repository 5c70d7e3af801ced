import msgspec

from signalyard import oip
from signalyard_router.adapters.oip.request import at_budget, infer_head, infer_request, metadata_request
from signalyard_router.rules.route import Endpoint


def test_the_bytes_of_an_inference():
    head = infer_head("rb-trend", "7", Endpoint("models", 8080))
    assert at_budget(infer_request(head, b"{}"), 1234, b"{}") == (
        b"POST /v2/models/rb-trend/versions/7/infer HTTP/1.1\r\nhost: models:8080\r\nconnection: keep-alive\r\n"
        b"accept: application/json\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
        b"signalyard-budget-us: 1234\r\n\r\n{}"
    )


def test_the_bytes_of_a_look_at_the_metadata():
    head = metadata_request("rb-trend", "7", Endpoint("::1", 8080))
    assert at_budget(head, 1234, b"") == (
        b"GET /v2/models/rb-trend/versions/7 HTTP/1.1\r\nhost: [::1]:8080\r\nconnection: keep-alive\r\n"
        b"accept: application/json\r\nsignalyard-budget-us: 1234\r\n\r\n"
    )


def test_no_name_can_end_a_line_or_leave_its_place_in_the_path():
    head = infer_head("a/../b\r\nx: y", "7 %d", Endpoint("ho st\r\nx: y", 1))
    assert head.count(b"\r\n") == 5
    assert head.startswith(b"POST /v2/models/a%2F..%2Fb%0D%0Ax%3A%20y/versions/7%20%25d/infer HTTP/1.1\r\n")


def test_what_the_server_gets_is_the_profile(play):
    async def scenario(stage):
        await stage.score(0.25, 0.5)
        await stage.score(0.75)
        first, second = stage.server.inferences
        bodies = [msgspec.json.decode(request.body, type=oip.InferRequest) for request in (first, second)]
        assert bodies[0].inputs[0].data == [0.25, None, 0.5, None]
        assert bodies[0].inputs[0].parameters == {"columns": '["close","ret_5"]'}
        assert [body.id for body in bodies] == ["000102030405-1", "000102030405-2"]
        assert first.headers["content-length"] == str(len(first.body))

    play(scenario)
