"""What a request is answered with."""

from collections.abc import Sequence

import msgspec


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A whole HTTP answer; its length is the body's."""

    status: int
    content_type: bytes
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
