"""Those who may connect, while their file changes under the running router. What is bad changes nothing, and says so until it is mended."""

import logging
from collections.abc import Mapping

from signalyard.problems import CallerError
from signalyard_router.adapters.zeromq.metrics import ZeromqMetrics
from signalyard_router.adapters.zeromq.security import known_clients
from signalyard_router.adapters.zeromq.settings import ZeromqSettings
from signalyard_router.stamp import Stamp, stamp

_log = logging.getLogger("signalyard.zeromq")


class Clients:
    """Names by public keys: those that were ``known`` at the start, then those of the newest file that could be used."""

    def __init__(self, settings: ZeromqSettings, known: Mapping[bytes, str], metrics: ZeromqMetrics) -> None:
        self._settings = settings
        self._known = known
        self._metrics = metrics
        # Of no file yet: what changed after the start has read it is found by the first look.
        self._seen: Stamp | str | None = None
        self._problem = ""

    def name(self, key: bytes) -> str | None:
        """The name of who has this public key, or None: a stranger."""
        return self._known.get(key)

    def look(self) -> None:
        """To be called now and then: take the file anew if it has changed. Whoever is connected stays so, also without his line."""
        if self._settings.clients is None:
            return
        try:
            seen: Stamp | str = stamp(self._settings.clients.stat())
        except OSError as exc:
            seen = str(exc)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            known = known_clients(self._settings)
        except CallerError as exc:
            self._refuse(str(exc))
        else:
            self._take(known)

    def _take(self, known: Mapping[bytes, str]) -> None:
        self._metrics.take_clients()
        if self._problem or known != self._known:
            _log.info("event=zeromq_clients_taken clients=%d", len(known))
        self._problem = ""
        self._known = known

    def _refuse(self, problem: str) -> None:
        self._metrics.refuse_clients()
        if problem != self._problem:
            _log.error('event=zeromq_clients_refused kept=last_good detail="%s"', problem)
        self._problem = problem
