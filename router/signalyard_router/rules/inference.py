"""Inference calls that are passed through: tensors in, tensors out, and no signal. One form, whichever wire they came by."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal

import msgspec

from signalyard.problems import Problem, ProblemDetails, error
from signalyard.words import Track
from signalyard_router.rules.proposal import Step
from signalyard_router.rules.tensors import Tensor, TensorError

SYMBOL, ROUTE, TIMEOUT = "symbol", "route", "timeout"
"""The parameters of a request that the router reads: the instrument to split by, the route, and Triton's time-out in microseconds."""

Wire = Literal["rest", "grpc"]


class Requested(msgspec.Struct, frozen=True):
    """An output that is asked for."""

    name: str
    parameters: Mapping[str, Any] = {}


class Inference(msgspec.Struct, frozen=True, kw_only=True):
    """A call as it was made. ``version`` is None where the split is to choose, ``id`` the caller's own, "" for none."""

    model: str
    version: str | None
    id: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Requested, ...] = ()
    parameters: Mapping[str, Any] = {}
    wire: Wire = "rest"

    def text(self, name: str) -> str | None:
        """A parameter that is text, None where it is not given. Raises CallerError (invalid_inference)."""
        value = self.parameters.get(name)
        if value is None or isinstance(value, str):
            return value
        raise error(Problem.INVALID_INFERENCE, f"the parameter {name!r} is text", f"/parameters/{name}")

    def timeout(self) -> int | None:
        """How long the caller says that it waits, nanoseconds; None or 0 microseconds: it does not say.

        Raises CallerError (invalid_inference).
        """
        value = self.parameters.get(TIMEOUT)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            text = f"the parameter {TIMEOUT!r} is a whole number of microseconds"
            raise error(Problem.INVALID_INFERENCE, text, f"/parameters/{TIMEOUT}")
        return value * 1_000 or None

    @property
    def rows(self) -> int:
        """How many rows it has, as far as its first input's first side says so."""
        return max(1, self.inputs[0].shape[0]) if self.inputs and self.inputs[0].shape else 1


class Inferred(msgspec.Struct, frozen=True, kw_only=True):
    """A model's answer, and the version and digest that gave it."""

    model: str
    version: str
    digest: str
    outputs: tuple[Tensor, ...]
    parameters: Mapping[str, Any] = {}


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal keeps of a call. Times are UTC nanoseconds, ``received`` and ``budget`` monotonic ones.

    ``input`` and ``output`` are `digest_of` its tensors; ``inputs`` the inputs themselves, where they are kept.
    """

    route: str
    revision: str
    generation: int
    wire: Wire
    model: str
    asked: str
    input: str
    ts_recv: int
    received: int
    budget: int
    symbol: str = ""
    client_id: str = ""
    output: str = ""
    answered: Inferred | None = None
    track: Track | None = None
    assigned: str = ""
    failover: bool = False
    drift: bool = False
    problem: ProblemDetails | None = None
    steps: Sequence[Step] = ()
    request_id: str = ""
    inputs: Sequence[Any] | None = None


def digest_of(tensors: Sequence[Tensor]) -> str:
    """``sha256:HEX`` over tensors, the same for every wire that may carry them.

    Each adds the JSON array [name, datatype, shape] without spaces, a newline, and its content packed little-endian. Raises
    TensorError, whose text begins with the tensor's name.
    """
    hasher = sha256()
    for tensor in tensors:
        try:
            packed = tensor.as_packed()
        except TensorError as exc:
            raise TensorError(f"{tensor.name!r}: {exc}") from exc
        hasher.update(msgspec.json.encode((tensor.name, tensor.datatype, tensor.shape)))
        hasher.update(b"\n")
        hasher.update(packed)
    return f"sha256:{hasher.hexdigest()}"
