"""Kinds that a cluster is taught."""

import time
from collections.abc import Callable

from cluster.commands import CommandError

_SECONDS = 60.0


def define(kubectl: Callable[..., str], *given: object, stdin: str | None = None) -> None:
    """Apply the custom resource definitions that kubectl is ``given`` (``-f``, FOLDER), and come back when the kinds are known.

    Raises CommandError.
    """
    # The annotation in which a client's apply keeps the object is too small for some.
    kubectl("apply", "--server-side", *given, stdin=stdin, timeout=120)
    until = time.monotonic() + _SECONDS
    while True:
        try:
            kubectl("wait", "--for=condition=Established", *given, stdin=stdin, timeout=_SECONDS)
        except CommandError:
            # A definition that has no conditions yet is an error to kubectl, and no reason to wait.
            if time.monotonic() > until:
                raise
            time.sleep(0.5)
        else:
            return
