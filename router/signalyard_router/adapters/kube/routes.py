"""SignalRoutes and SignalGroups as documents. Each is judged alone: one that is bad leaves the others, and its own last good spec,
in force.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from signalyard.problems import Problem, SignalyardError, error
from signalyard_router.adapters.kube.metrics import KubeMetrics
from signalyard_router.adapters.kube.objects import RouteObject
from signalyard_router.adapters.kube.reflector import Reflector
from signalyard_router.rules.documents import (
    API_VERSION,
    Document,
    GroupDocument,
    in_namespace,
    parse_document,
    parse_group,
    revision,
)
from signalyard_router.rules.groups import compile_group
from signalyard_router.rules.route import compile_route

_log = logging.getLogger("signalyard.router.kube")

_PAUSE = 0.002
"""Seconds between two routes that are judged, so that a decision meets at most one of them on its way."""

NAME_TAKEN = "NameTaken"
ROUTE_TAKEN = "RouteTaken"
INVALID = "Invalid"
_BY_OTHERS = (NAME_TAKEN, ROUTE_TAKEN)
"""Refused for what others are: to be judged again when these have changed."""

_PLURALS = {"signalroutes": "SignalRoutes", "signalgroups": "SignalGroups"}
_Key = tuple[str, str]
"""Namespace and name."""


class Judgement(msgspec.Struct, frozen=True):
    """What became of one spec: its document, or why there is none, as a reason and a text that names the field."""

    uid: str
    generation: int
    document: Document | None = None
    revision: str = ""
    reason: str = ""
    message: str = ""


class KubeRouteStore:
    """Implements `ports.RouteStore`. A route is called as its object is; of two namespaces' routes of one name the older one has it,
    and so with groups. Of two groups that name one route the older one has it.

    ``judgements`` has the newest one of each route, by (namespace, name), ``group_judgements`` of each group.
    """

    def __init__(self, metrics: KubeMetrics) -> None:
        self._metrics = metrics
        self._version = 0
        self._reflectors: Sequence[Reflector[RouteObject]] = ()
        self._groups: Sequence[Reflector[RouteObject]] = ()
        self.refused: dict[str, str] = {}
        self.judgements: dict[_Key, Judgement] = {}
        self.group_judgements: dict[_Key, Judgement] = {}

    def follow(
        self, reflectors: Sequence[Reflector[RouteObject]], groups: Sequence[Reflector[RouteObject]] = ()
    ) -> None:
        """Where the objects are, routes and groups; their changes are told to `changed`."""
        self._reflectors, self._groups = reflectors, groups

    def changed(self, before: RouteObject | None, now: RouteObject | None) -> None:
        """An object came, changed or went. A new status, or a label, changes no route."""
        if before is None or now is None or _spec_of(before) != _spec_of(now):
            self._version += 1

    def version(self) -> tuple[int, bool]:
        return self._version, self._listed()

    async def load(self) -> list[tuple[Document, str]]:
        self._demand_lists()
        routes, groups = _objects(self._reflectors), _objects(self._groups)
        judgements = await self._judge(routes, self.judgements, judge, "route")
        group_judgements = _without_shared(
            groups, await self._judge(groups, self.group_judgements, judge_group, "group")
        )
        documents: list[tuple[Document, str]] = []
        refused: dict[str, str] = {}
        for where, judged in ((place, judgements), (group_place, group_judgements)):
            for (namespace, name), judgement in judged.items():
                at = where(namespace, name)
                if judgement.document is not None:
                    documents.append((judgement.document, at))
                else:
                    refused[at] = f"{at}: {judgement.message}"
        self._tell(refused)
        self.judgements, self.group_judgements, self.refused = judgements, group_judgements, refused
        return documents

    async def _judge(
        self,
        objects: Mapping[_Key, RouteObject],
        known: Mapping[_Key, Judgement],
        by: Callable[[RouteObject, str], Judgement],
        noun: str,
    ) -> dict[_Key, Judgement]:
        """What becomes of each object of a kind; one that has not changed is not judged again."""
        owners = _owners(objects)
        judgements: dict[_Key, Judgement] = {}
        for key in sorted(objects):
            namespace, name = key
            judgement = known.get(key)
            if owners[name] != key:
                judgement = _taken(objects[key], noun, namespace=owners[name][0])
            elif judgement is None or not _is_of(judgement, objects[key]) or judgement.reason in _BY_OTHERS:
                judgement = by(objects[key], namespace)
                await asyncio.sleep(_PAUSE)
            judgements[key] = judgement
        return judgements

    def _tell(self, refused: Mapping[str, str]) -> None:
        self._metrics.refused.set(len(refused))
        for where, text in refused.items():
            if self.refused.get(where) != text:
                _log.error('event=route_refused kept=last_good detail="%s"', text)
        for where in self.refused.keys() - refused.keys():
            _log.info('event=route_good_again place="%s"', where)

    def _listed(self) -> bool:
        return not self._unlisted()

    def _unlisted(self) -> list[Reflector[RouteObject]]:
        """Those whose objects are not known. Where the API server has no SignalGroups at all, it is known that there are none."""
        unknown = [reflector for reflector in self._reflectors if not reflector.listed.is_set()]
        return unknown + [each for each in self._groups if not each.listed.is_set() and not each.absent]

    def _demand_lists(self) -> None:
        """Raises RouterError (routes_unavailable) while the objects of some namespace are not known: to take those of the others
        alone would end its routes, or let those of a group contradict one another."""
        unlisted = self._unlisted()
        if unlisted:
            what = " and ".join(sorted({_PLURALS.get(each.resource.plural, each.resource.plural) for each in unlisted}))
            why = "; ".join(reflector.problem for reflector in unlisted)
            raise error(Problem.ROUTES_UNAVAILABLE, f"the API server has not listed the {what} yet: {why}")


def place(namespace: str, name: str) -> str:
    """What a route's document is said to come from."""
    return f"signalroute {namespace}/{name}"


def group_place(namespace: str, name: str) -> str:
    """What a group's document is said to come from."""
    return f"signalgroup {namespace}/{name}"


def judge(item: RouteObject, namespace: str) -> Judgement:
    """A route's spec as a document, or why it is none."""

    def read(data: Any, where: str) -> Document:
        document = in_namespace(parse_document(data, where), namespace)
        compile_route(document, place=where)
        return document

    return _judged(item, "SignalRoute", place(namespace, item.metadata.name), read)


def judge_group(item: RouteObject, namespace: str) -> Judgement:
    """A group's spec as a document, or why it is none."""

    def read(data: Any, where: str) -> Document:
        document = in_namespace(parse_group(data, where), namespace)
        compile_group(document, place=where)
        return document

    return _judged(item, "SignalGroup", group_place(namespace, item.metadata.name), read)


def _judged(item: RouteObject, kind: str, where: str, read: Callable[[Any, str], Document]) -> Judgement:
    meta = item.metadata
    try:
        data = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": meta.name},
            "spec": msgspec.json.decode(item.spec),
        }
        document = read(data, where)
    except SignalyardError as exc:
        field = exc.pointer.strip("/").replace("/", ".")
        text = exc.detail.removeprefix(f"{where}: ")
        message = f"{field}: {text}" if field else text
        return Judgement(meta.uid, meta.generation, reason=INVALID, message=message)
    return Judgement(meta.uid, meta.generation, document, revision(document))


def _objects(reflectors: Sequence[Reflector[RouteObject]]) -> dict[_Key, RouteObject]:
    return {
        (reflector.resource.namespace, name): item
        for reflector in reflectors
        for name, item in reflector.objects.items()
    }


def _without_shared(objects: Mapping[_Key, RouteObject], judgements: Mapping[_Key, Judgement]) -> dict[_Key, Judgement]:
    """The judgements of groups, with those refused that name a route of an older one."""
    made = dict(judgements)
    owners: dict[_Key, str] = {}
    for key in sorted(objects, key=lambda key: _age(objects[key])):
        namespace, name = key
        document = judgements[key].document
        if not isinstance(document, GroupDocument):
            continue
        taken = next((route for route in document.spec.routes if (namespace, route) in owners), None)
        if taken is None:
            owners |= {(namespace, route): name for route in document.spec.routes}
            continue
        text = (
            f"the route {taken!r} is in the group {owners[namespace, taken]!r} already; a route is in one group at most"
        )
        meta = objects[key].metadata
        made[key] = Judgement(meta.uid, meta.generation, reason=ROUTE_TAKEN, message=f"spec.routes: {text}")
    return made


def _spec_of(item: RouteObject) -> tuple[str, int]:
    return item.metadata.uid, item.metadata.generation


def _is_of(judgement: Judgement, item: RouteObject) -> bool:
    return (judgement.uid, judgement.generation) == _spec_of(item)


def _age(item: RouteObject) -> tuple[str, str]:
    return item.metadata.creation_timestamp or "", item.metadata.uid


def _owners(objects: Mapping[_Key, RouteObject]) -> dict[str, _Key]:
    """Who has each name: the oldest object, so that one that is in force cannot lose its name to a newcomer."""
    names: dict[str, list[_Key]] = {}
    for key in objects:
        names.setdefault(key[1], []).append(key)
    return {name: min(keys, key=lambda key: _age(objects[key])) for name, keys in names.items()}


def _taken(item: RouteObject, noun: str, namespace: str) -> Judgement:
    meta = item.metadata
    text = f"the {noun} {meta.name!r} of namespace {namespace} has this name already: give this one another name"
    return Judgement(meta.uid, meta.generation, reason=NAME_TAKEN, message=text)
