"""SignalRoutes as route documents. Each is judged alone: one that is bad leaves the others, and its own last good spec, in force."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

import msgspec

from signalyard.problems import Problem, SignalyardError, error
from signalyard_router.adapters.kube.metrics import KubeMetrics
from signalyard_router.adapters.kube.objects import RouteObject
from signalyard_router.adapters.kube.reflector import Reflector
from signalyard_router.rules.documents import (
    API_VERSION,
    Document,
    RouteDocument,
    in_namespace,
    parse_document,
    revision,
)
from signalyard_router.rules.route import compile_route

_log = logging.getLogger("signalyard.router.kube")

_PAUSE = 0.002
"""Seconds between two routes that are judged, so that a decision meets at most one of them on its way."""

NAME_TAKEN = "NameTaken"
INVALID = "Invalid"


class Judgement(msgspec.Struct, frozen=True):
    """What became of one spec: its document, or why there is none, as a reason and a text that names the field."""

    uid: str
    generation: int
    document: RouteDocument | None = None
    revision: str = ""
    reason: str = ""
    message: str = ""


class KubeRouteStore:
    """Implements `ports.RouteStore`. A route is called as its object is; of two namespaces' routes of one name the older one has it.

    ``judgements`` has the newest one of each object, by (namespace, name).
    """

    def __init__(self, metrics: KubeMetrics) -> None:
        self._metrics = metrics
        self._version = 0
        self._reflectors: Sequence[Reflector[RouteObject]] = ()
        self.refused: dict[str, str] = {}
        self.judgements: dict[tuple[str, str], Judgement] = {}

    def follow(self, reflectors: Sequence[Reflector[RouteObject]]) -> None:
        """Where the objects are; their changes are told to `changed`."""
        self._reflectors = reflectors

    def changed(self, before: RouteObject | None, now: RouteObject | None) -> None:
        """An object came, changed or went. A new status, or a label, changes no route."""
        if before is None or now is None or _spec_of(before) != _spec_of(now):
            self._version += 1

    def version(self) -> tuple[int, bool]:
        return self._version, self._listed()

    async def load(self) -> list[tuple[Document, str]]:
        self._demand_lists()
        objects = {
            (reflector.resource.namespace, name): item
            for reflector in self._reflectors
            for name, item in reflector.objects.items()
        }
        owners = _owners(objects)
        documents: list[tuple[Document, str]] = []
        refused: dict[str, str] = {}
        judgements: dict[tuple[str, str], Judgement] = {}
        for key in sorted(objects):
            namespace, name = key
            judgement = self.judgements.get(key)
            if owners[name] != key:
                judgement = _taken(objects[key], namespace=owners[name][0])
            elif judgement is None or not _is_of(judgement, objects[key]) or judgement.reason == NAME_TAKEN:
                judgement = judge(objects[key], namespace)
                await asyncio.sleep(_PAUSE)
            judgements[key] = judgement
            if judgement.document is not None:
                documents.append((judgement.document, place(namespace, name)))
            else:
                refused[place(namespace, name)] = f"{place(namespace, name)}: {judgement.message}"
        self._tell(refused)
        self.judgements, self.refused = judgements, refused
        return documents

    def _tell(self, refused: Mapping[str, str]) -> None:
        self._metrics.refused.set(len(refused))
        for where, text in refused.items():
            if self.refused.get(where) != text:
                _log.error('event=route_refused kept=last_good detail="%s"', text)
        for where in self.refused.keys() - refused.keys():
            _log.info('event=route_good_again place="%s"', where)

    def _listed(self) -> bool:
        return all(reflector.listed.is_set() for reflector in self._reflectors)

    def _demand_lists(self) -> None:
        """Raises RouterError (routes_unavailable) while the objects of some namespace are not known: to take those of the others
        alone would end its routes."""
        if not self._listed():
            why = "; ".join(reflector.problem for reflector in self._reflectors if not reflector.listed.is_set())
            raise error(Problem.ROUTES_UNAVAILABLE, f"the API server has not listed the SignalRoutes yet: {why}")


def place(namespace: str, name: str) -> str:
    """What a route's document is said to come from."""
    return f"signalroute {namespace}/{name}"


def judge(item: RouteObject, namespace: str) -> Judgement:
    """An object's spec as a document, or why it is none."""
    meta = item.metadata
    where = place(namespace, meta.name)
    try:
        data = {
            "apiVersion": API_VERSION,
            "kind": "SignalRoute",
            "metadata": {"name": meta.name},
            "spec": msgspec.json.decode(item.spec),
        }
        document = in_namespace(parse_document(data, where), namespace)
        compile_route(document, place=where)
    except SignalyardError as exc:
        field = exc.pointer.strip("/").replace("/", ".")
        text = exc.detail.removeprefix(f"{where}: ")
        message = f"{field}: {text}" if field else text
        return Judgement(meta.uid, meta.generation, reason=INVALID, message=message)
    return Judgement(meta.uid, meta.generation, document, revision(document))


def _spec_of(item: RouteObject) -> tuple[str, int]:
    return item.metadata.uid, item.metadata.generation


def _is_of(judgement: Judgement, item: RouteObject) -> bool:
    return (judgement.uid, judgement.generation) == _spec_of(item)


def _owners(objects: Mapping[tuple[str, str], RouteObject]) -> dict[str, tuple[str, str]]:
    """Who has each name: the oldest object, so that one that is in force cannot lose its name to a newcomer."""

    def age(key: tuple[str, str]) -> tuple[str, str]:
        return objects[key].metadata.creation_timestamp or "", objects[key].metadata.uid

    names: dict[str, list[tuple[str, str]]] = {}
    for key in objects:
        names.setdefault(key[1], []).append(key)
    return {name: min(keys, key=age) for name, keys in names.items()}


def _taken(item: RouteObject, namespace: str) -> Judgement:
    meta = item.metadata
    text = f"the route {meta.name!r} of namespace {namespace} has this name already: give this one another name"
    return Judgement(meta.uid, meta.generation, reason=NAME_TAKEN, message=text)
