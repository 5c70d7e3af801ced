"""What a SignalRoute's status says. Its schema is made from here, as the spec's is from the documents."""

from typing import Annotated, Literal

import msgspec


class _Told(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    pass


Truth = Literal["True", "False", "Unknown"]
ConditionType = Literal["Accepted", "TracksReady", "VersionDrift", "Overridden", "Halted"]

ACCEPTED: ConditionType = "Accepted"
TRACKS_READY: ConditionType = "TracksReady"
VERSION_DRIFT: ConditionType = "VersionDrift"
OVERRIDDEN: ConditionType = "Overridden"
HALTED: ConditionType = "Halted"


class Condition(_Told, frozen=True):
    """One aspect of a route's state. ``observed_generation`` is the spec's generation that it was judged by, ``last_transition_time`` when
    ``status`` last changed.
    """

    type: Annotated[str, msgspec.Meta(max_length=64)]
    status: Truth
    reason: Annotated[str, msgspec.Meta(max_length=64)]
    message: Annotated[str, msgspec.Meta(max_length=32_768)]
    last_transition_time: Annotated[str, msgspec.Meta(max_length=64)]
    observed_generation: int


class ToldTrack(_Told, frozen=True):
    """One version on the route: the one that the spec names, and the one that its pods serve.

    ``serving`` and ``digest`` are absent while no pod has answered. ``endpoints`` are the pods that are asked, ``ready`` those that answer.
    """

    name: str
    version: str
    serving: str | None = None
    digest: str | None = None
    weight: float | None = None
    mirror: float | None = None
    endpoints: int | None = None
    ready: int | None = None


class ToldPlan(_Told, frozen=True):
    """Where the plan stands: the step in force counted from 1, its weight for the canary, and why."""

    step: int
    state: str
    canary: float
    why: str


class Told(_Told, frozen=True):
    """What the router made of the spec. ``revision`` and ``generation`` are those in force, under which decisions are recorded.

    ``observed_generation`` is the spec's generation that was judged last, ``weights`` what holds now, levers and plan included,
    ``assignment`` how many of the instruments that were seen each track decides for, and ``levers`` the names of those that hold.
    """

    observed_generation: int
    conditions: tuple[Condition, ...] = ()
    revision: str | None = None
    generation: int | None = None
    mode: str | None = None
    weights: str | None = None
    tracks: tuple[ToldTrack, ...] | None = None
    assignment: dict[str, int] | None = None
    plan: ToldPlan | None = None
    levers: tuple[str, ...] | None = None
