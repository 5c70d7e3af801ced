"""Where the shared log is, as people write it."""

import pytest

from signalyard.problems import SignalyardError
from signalyard_router.adapters.redis.log.address import Address, address_of

LOCAL = Address(host="127.0.0.1", port=6379, database=0, user="", password="", tls=False)
SOCKET = Address(host="", port=0, database=0, user="", password="", tls=False, path="/run/redis.sock")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://127.0.0.1", LOCAL),
        (
            "rediss://me:p%40ss@redis.x:6380/3",
            Address(host="redis.x", port=6380, database=3, user="me", password="p@ss", tls=True),
        ),
        ("unix:///run/redis.sock", SOCKET),
        (
            "unix://me:p%40ss@/run/my%20redis.sock?db=2",
            Address(host="", port=0, database=2, user="me", password="p@ss", tls=False, path="/run/my redis.sock"),
        ),
    ],
)
def test_an_address_is_taken_apart(url, address):
    assert address_of(url) == address


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1", "something else"),
        ("redis:///0", "no host"),
        ("redis://h:x/0", "port"),
        ("redis://h/zero", "'zero' is no number"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix:///", "three slashes"),
        ("unix:///run/redis.sock?db=x", "'x' is no number"),
        ("unix:///run/redis.sock?db=1&db=2", "nothing but db"),
        ("unix:///run/redis.sock?timeout=1", "nothing but db"),
    ],
)
def test_what_is_none_is_refused_with_the_reason(url, text):
    with pytest.raises(SignalyardError, match=text) as refused:
        address_of(url)
    assert refused.value.details.pointer == "/journal-redis"


@pytest.mark.parametrize("url", ["redis://me:secret@h:1/2", "unix://me:secret@/run/redis.sock?db=2"])
def test_what_people_are_shown_holds_no_password(url):
    address = address_of(url)
    assert "secret" not in address.shown
    assert address_of(address.shown).database == 2
