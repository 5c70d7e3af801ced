"""What goes wrong on the way to a Redis server.

    RedisWireError
    ├── LostError      no connection, or it broke, or time ran out: what was asked for may have been done
    └── RefusedError   the server answered with an error: nothing was done

`connection` makes them of redis-py's, and nobody else knows those.
"""


class RedisWireError(OSError):
    """The root of what commands raise."""


class LostError(RedisWireError):
    """There is no answer."""


class RefusedError(RedisWireError):
    """An answer that is an error. ``code`` is its first word, as NOGROUP or BUSYGROUP; redis-py leaves out the word of an error that it
    has a class for (OOM, READONLY, LOADING and others), and the code is the next one."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = message.partition(" ")[0]
