"""Why pods do not become ready, as they say it themselves.

A Service knows that a pod is not ready and never why. Only pods that are awaited are looked at, each by its name and now and then, so
the router needs no list of pods and no watch.
"""

import json
import logging
from collections.abc import Collection
from typing import NamedTuple

import msgspec

from signalyard_router.adapters.kube.api import Api
from signalyard_router.adapters.kube.errors import ApiError, GarbledError, StatusError
from signalyard_router.adapters.kube.objects import ContainerStatus, Pod
from signalyard_router.ports import Clock

_log = logging.getLogger("signalyard.router.kube")

_PAUSE = 5_000_000_000
"""Nanoseconds between two looks at one pod."""
_MOST = 4
"""Pods that are looked at in a row: statuses must not wait for a cluster that starts anew."""
_LONGEST = 300
"""Characters of what one pod says."""
_BEGINNING = ("ContainerCreating", "PodInitializing")

_decoder = msgspec.json.Decoder(Pod)


class PodName(NamedTuple):
    """A pod of a namespace."""

    namespace: str
    name: str


class _Seen(NamedTuple):
    at: int
    says: str


class PodReasons:
    """What the pods say that are awaited."""

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._seen: dict[PodName, _Seen] = {}
        self._problem = ""

    def of(self, pod: PodName) -> str:
        """What keeps it from becoming ready; "" where nothing is known to."""
        seen = self._seen.get(pod)
        return seen.says if seen is not None else ""

    async def look(self, awaited: Collection[PodName]) -> None:
        """Look at those that were not looked at for a while; others than ``awaited`` are forgotten."""
        self._seen = {pod: seen for pod, seen in self._seen.items() if pod in awaited}
        now = self._clock.monotonic()
        due = [pod for pod in awaited if pod.name and (pod not in self._seen or now - self._seen[pod].at >= _PAUSE)]
        # Those that were never looked at first, then the longest ago.
        due.sort(key=lambda pod: self._seen[pod].at if pod in self._seen else -1)
        for pod in due[:_MOST]:
            try:
                says = failure(await self._read(pod))
            except ApiError as exc:
                if str(exc) != self._problem:
                    _log.warning("event=pod_unread pod=%s/%s detail=%s", *pod, json.dumps(str(exc)))
                self._problem = str(exc)
                if not isinstance(exc, StatusError):
                    return  # what was known of it still holds; the API server is away
                says = ""
            else:
                self._problem = ""
            self._seen[pod] = _Seen(now, says)

    async def _read(self, pod: PodName) -> Pod:
        body = await self._api.call("GET", f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}")
        try:
            return _decoder.decode(body)
        except msgspec.DecodeError as exc:
            raise GarbledError(f"pod {pod.name}: {exc}") from exc


def failure(pod: Pod) -> str:
    """Why a container of it ended last, or cannot begin; "" while nothing went wrong. Pure."""
    containers = [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]
    return next(filter(None, map(_failure, containers)), "")


def _failure(container: ContainerStatus) -> str:
    end = container.state.terminated or container.last_state.terminated
    waiting = container.state.waiting
    if end is not None and end.exit_code != 0:
        # Where a container leaves nothing, the message is the end of its log; the last line says most.
        lines = end.message.strip().splitlines()
        text = lines[-1] if lines else f"ended with {end.exit_code} {end.reason}".strip()
    elif waiting is not None and waiting.reason not in _BEGINNING:
        text = f"{waiting.reason} {waiting.message}".strip()
    else:
        return ""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return f"{container.name}: {' '.join(printable.split())[:_LONGEST]}"
