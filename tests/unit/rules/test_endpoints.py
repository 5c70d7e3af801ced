"""How documents name endpoints, and what else they say of calls."""

import msgspec
import pytest

from signalyard.problems import CallerError, Problem
from signalyard_router.rules.documents import Endpoint as DocumentEndpoint
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.route import Endpoint, Hedge, ModelRung, compile_route

ONE = {"service": "a", "port": 1}
TWO = {"service": "b", "port": 1}


def route(track=None, **spec):
    track = {"name": "stable", "version": "7", "weight": 100} | (track or {"endpoint": ONE})
    data = {
        "apiVersion": "signalyard.io/v1alpha1",
        "kind": "SignalRoute",
        "metadata": {"name": "rb-trend"},
        "spec": {
            "model": "rb-trend",
            "instruments": ["rb*.SHFE"],
            "tracks": [track],
            "mapping": {"long": {"enter": 0.6}},
        }
        | spec,
    }
    return compile_route(parse_document(data, "rb.yaml"))


def target(**more):
    (found,) = set(route(**more).targets())
    return found


def test_one_endpoint_or_several():
    assert target().endpoints == (Endpoint("a", 1),)
    assert target(track={"endpoints": [ONE, TWO]}).endpoints == (Endpoint("a", 1), Endpoint("b", 1))
    assert target(track={"endpoints": [ONE]}) == target()
    rung = {"model": {"name": "momentum", "version": "1", "endpoints": [ONE, TWO]}}
    (ladder,) = route(ladder=[rung]).ladder
    assert isinstance(ladder, ModelRung)
    assert len(ladder.target.endpoints) == 2


@pytest.mark.parametrize(
    ("track", "pointer"),
    [
        ({"endpoint": ONE, "endpoints": [TWO]}, "/spec/tracks/0"),
        ({"weight": 100}, "/spec/tracks/0"),
        ({"endpoints": []}, "/spec/tracks/0/endpoints"),
        ({"endpoints": [ONE, TWO, ONE]}, "/spec/tracks/0/endpoints/2"),
    ],
)
def test_not_both_not_none_not_twice(track, pointer):
    with pytest.raises(CallerError) as caught:
        route(track=track)
    assert (caught.value.problem, caught.value.pointer) == (Problem.INVALID_DOCUMENT, pointer)


def test_a_model_rung_without_an_endpoint_is_refused_by_its_place():
    with pytest.raises(CallerError) as caught:
        route(ladder=[{"model": {"name": "momentum", "version": "1"}}])
    assert caught.value.pointer == "/spec/ladder/0/model"


@pytest.mark.parametrize(("after", "hedge"), [("p95", Hedge(None)), ("10ms", Hedge(10_000_000))])
def test_hedges(after, hedge):
    assert target().hedge is None
    assert target(hedge={"after": after}).hedge == hedge


@pytest.mark.parametrize("after", ["p99", "0ms", "soon", "p95ms"])
def test_hedges_that_are_none(after):
    with pytest.raises(CallerError) as caught:
        route(hedge={"after": after})
    assert caught.value.pointer == "/spec/hedge/after"


def test_on_drift():
    assert route().on_drift == "serve"
    assert route(onDrift="refuse").on_drift == "refuse"
    with pytest.raises(CallerError):
        route(onDrift="ignore")


def test_an_address_of_colons_is_written_in_brackets():
    assert str(Endpoint("::1", 8080)) == "[::1]:8080"


def test_what_an_endpoint_speaks_is_no_part_of_a_revision_that_does_not_say_it():
    silent, told = route(), route(track={"endpoint": ONE | {"protocol": "grpc"}})
    assert msgspec.to_builtins(DocumentEndpoint(service="a", port=1)) == ONE
    assert told.revision != silent.revision
    assert [next(each.targets()).endpoints for each in (silent, told)] == [
        (Endpoint("a", 1),),
        (Endpoint("a", 1, grpc=True),),
    ]
