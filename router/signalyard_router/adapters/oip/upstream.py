"""The model servers, as the router's flow sees them."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from itertools import count
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from signalyard.profile import ModelCard, encode_request
from signalyard_router.adapters.oip.group import Group
from signalyard_router.adapters.oip.metrics import OipMetrics
from signalyard_router.adapters.oip.peer import Peer, PeerKey
from signalyard_router.adapters.oip.pools import Pools
from signalyard_router.adapters.oip.prober import Prober
from signalyard_router.adapters.oip.request import DOUBTFUL, Passing, Scoring
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.ports import Discovery, EndpointStatus, Passed, Scored, Tracer, World
from signalyard_router.rules.inference import Inference
from signalyard_router.rules.route import Endpoint, Target
from signalyard_router.wire.tensors_json import write_inference


class AsNamed:
    """Implements `ports.Discovery` where endpoints are the addresses that documents give, for good."""

    def addresses(self, endpoint: Endpoint) -> tuple[Endpoint, ...]:
        return (endpoint,)

    def subscribe(self, observer: Callable[[Collection[Endpoint]], None]) -> None:
        """Nothing ever changes."""


class OipUpstream:
    """Implements :class:`signalyard_router.ports.Upstream` by the inference profile over HTTP/1.1.

    It may be called for any target at any time; :meth:`start` and :meth:`retarget` say whose cards to learn and to whom to
    keep connections. ``first_round`` is set once each endpoint of the targets given to ``start`` was asked for its metadata,
    successfully or not.

    Connections belong to an endpoint, breakers and looks to a version at an endpoint (a peer), the digest in use and the retry
    budget to a target (a group). All of them outlive routing tables.
    """

    def __init__(
        self,
        world: World,
        settings: OipSettings,
        registry: CollectorRegistry,
        tracer: Tracer | None = None,
        discovery: Discovery | None = None,
    ) -> None:
        self._discovery = discovery or AsNamed()
        self._discovery.subscribe(self._moved)
        self._targets: list[Target] = []
        self._clock = world.clock
        self._settings = settings
        self._tracer = tracer
        self._metrics = OipMetrics(registry)
        self._pools = Pools(world, settings, self._metrics)
        self._prober = Prober(world, settings)
        self._peers: dict[PeerKey, Peer] = {}
        self._groups: dict[Target, Group] = {}
        self._members: dict[Peer, list[Group]] = {}
        self._prefix = world.random_bytes(6).hex()
        self._numbers = count(1)

    @property
    def first_round(self) -> asyncio.Event:
        """Set when every endpoint of the targets given to :meth:`start` was tried once."""
        return self._prober.first_round

    def card(self, target: Target) -> ModelCard | None:
        """What the target's endpoints serve now; see the port."""
        group = self._groups.get(target)
        return None if group is None else group.card

    def score(
        self, target: Target, card: ModelCard, rows: Sequence[Sequence[float | None]], until: int
    ) -> Coroutine[Any, Any, Scored]:
        """Score ``rows`` [n, features of the card] by ``until``, monotonic nanoseconds. Raises CallFailed; see the port."""
        group = self._groups.get(target) or self._group(target)
        request_id = f"{self._prefix}-{next(self._numbers)}"
        body = encode_request(request_id, group.columns(card), rows)
        return group.score(Scoring(request_id, body, card, until, len(rows)), Scored)

    def infer(self, target: Target, card: ModelCard, asked: Inference, until: int) -> Coroutine[Any, Any, Passed]:
        """Pass a call on to the card's version; see the port. Raises CallFailed, CallerError."""
        request_id = f"{self._prefix}-{next(self._numbers)}"
        body = write_inference(asked, request_id)
        return self._group(target).score(Passing(request_id, body, card, until, doubtful=DOUBTFUL), Passed)

    def chunk(self, target: Target, budget: int) -> int:
        """How many rows one call should carry at most; see the port."""
        return self._group(target).chunk(budget)

    def share(self, target: Target, rows: int) -> int:
        """How many rows a call should carry of those that several requests have at once; see the port."""
        return self._group(target).share(rows)

    def endpoints(self, target: Target) -> list[EndpointStatus]:
        """The target's endpoints as they stand."""
        return [peer.status() for peer in self._group(target).peers]

    async def start(self, targets: Iterable[Target]) -> None:
        """Begin to learn the targets' cards. Returns at once; await ``first_round`` to know how it went."""
        self._prober.start(self._prepare(targets))

    def retarget(self, targets: Iterable[Target]) -> None:
        """These are the targets from now on; whoever still calls another one is served."""
        self._prober.retarget(self._prepare(targets))

    async def asked(self, targets: Iterable[Target]) -> None:
        """Return once each endpoint of these targets was asked; see the port."""
        for target in targets:
            for peer in self._group(target).peers:
                await peer.asked.wait()

    async def close(self) -> None:
        """Stop probing and close every connection; calls in flight fail with model_unreachable."""
        await self._prober.close()
        await self._pools.close()

    def _prepare(self, targets: Iterable[Target]) -> list[Peer]:
        self._targets = list(targets)
        peers = list(dict.fromkeys(peer for target in self._targets for peer in self._group(target).peers))
        self._pools.keep(peer.key.endpoint for peer in peers)
        return peers

    def _group(self, target: Target) -> Group:
        group = self._groups.get(target)
        if group is None:
            peers = self._found(target)
            # What they serve under an older table goes on: one more endpoint in a document changes no model.
            older = (group for peer in peers for group in reversed(self._members.get(peer, [])))
            in_use = next((group.in_use for group in older if group.in_use is not None), None)
            group = self._groups[target] = Group(target, peers, in_use, self._clock, self._settings, self._metrics)
            for peer in peers:
                self._members.setdefault(peer, []).append(group)
        return group

    def _found(self, target: Target) -> list[Peer]:
        """The target's peers, by the addresses that its endpoints have now."""
        addresses = (
            msgspec.structs.replace(address, grpc=endpoint.grpc)
            for endpoint in target.endpoints
            for address in self._discovery.addresses(_place(endpoint))
        )
        return [self._peer(PeerKey(target.model, target.version, address)) for address in dict.fromkeys(addresses)]

    def _moved(self, endpoints: Collection[Endpoint]) -> None:
        """Other addresses stand behind these endpoints from now on: those that are gone are asked no more."""
        gone: dict[Peer, None] = {}
        for target, group in self._groups.items():
            if not any(_place(endpoint) in endpoints for endpoint in target.endpoints):
                continue
            before, now = group.peers, self._found(target)
            for peer in before:
                self._members[peer].remove(group)
                gone[peer] = None
            for peer in now:
                self._members.setdefault(peer, []).append(group)
            group.change(now)
        self._prober.retarget(self._prepare(self._targets))
        for peer in gone:
            if not self._members[peer]:
                self._forget(peer)

    def _forget(self, peer: Peer) -> None:
        key = peer.key
        del self._members[peer], self._peers[key]
        self._metrics.forget(key.model, key.version, peer.name)
        if not any(other.endpoint == key.endpoint for other in self._peers):
            self._pools.forget(key.endpoint)

    def _peer(self, key: PeerKey) -> Peer:
        peer = self._peers.get(key)
        if peer is None:
            made = _grpc_peer() if key.endpoint.grpc else Peer
            peer = self._peers[key] = made(
                key, self._clock, self._settings, self._pools, self._metrics, self._changed, self._tracer
            )
        return peer

    def _changed(self, peer: Peer, look: bool) -> None:
        for group in self._members.get(peer, ()):
            group.review()
        if look:
            self._prober.soon(peer)


def _place(endpoint: Endpoint) -> Endpoint:
    """Where it is, whatever it speaks."""
    return msgspec.structs.replace(endpoint, grpc=False) if endpoint.grpc else endpoint


def _grpc_peer() -> type[Peer]:
    # Imported where a route asks for it: grpcio is an extra, and takes memory.
    from signalyard_router.adapters.oip.grpc import GrpcPeer

    return GrpcPeer
