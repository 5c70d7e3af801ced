"""Peers and last values: bounded, whatever comes."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.clients.conftest import NOW, SECOND, signal

from signalyard_router.adapters.zeromq.lastvalues import LastValues
from signalyard_router.adapters.zeromq.peers import Peers


def test_a_peer_has_so_many_under_way_and_no_more():
    peers = Peers(10, 2, 100)
    assert [peers.begin(b"a") for _ in range(3)] == [True, True, False]
    assert peers.begin(b"b")
    peers.end(b"a")
    assert peers.begin(b"a")
    assert peers.in_flight == 3


def test_the_silent_are_forgotten_and_so_is_one_for_another():
    peers = Peers(2, 1, 100)
    for now, peer in enumerate([b"a", b"b", b"a", b"c"]):
        peers.heard(peer, now)
    assert peers.known == [b"a", b"c"]
    peers.forget(102)
    assert peers.known == [b"c"]
    peers.gone(b"c")
    peers.gone(b"never there")
    assert len(peers) == 0


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=80))
def test_what_begins_and_ends_is_counted(steps):
    peers, open_ = Peers(2, 3, 10), []
    for now, (name, begins) in enumerate(steps):
        peer = name.encode()
        peers.heard(peer, now)
        if begins:
            if peers.begin(peer):
                open_.append(peer)
        elif peer in open_:
            open_.remove(peer)
            peers.end(peer)
        assert peers.in_flight == len(open_)
        assert len(peers) <= 2


def test_a_late_subscriber_gets_the_last_of_each_that_lives():
    last = LastValues()
    for one in (signal(1), signal(2), signal(1, route="s"), signal(7, "ag.SHFE", expires=1)):
        last.keep(one)
    assert [(one.symbol, one.route, one.seq) for one in last.of(b"", NOW)] == [
        ("ag.SHFE", "r", 7),
        ("rb2410.SHFE", "r", 2),
        ("rb2410.SHFE", "s", 1),
    ]
    assert [one.seq for one in last.of(b"rb2410.SHFE/r", NOW)] == [2]
    assert last.of(b"rb2410.SHFE/x", NOW) == []
    assert [one.symbol for one in last.of(b"", NOW + SECOND)] == ["rb2410.SHFE"] * 2
    last.keep(msgspec.structs.replace(signal(3), ts_expire=NOW))
    assert len(last.of(b"", NOW)) == 1
    assert len(last) == 1
