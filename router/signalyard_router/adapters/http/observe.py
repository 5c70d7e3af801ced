"""From the body of an observe request to observations. It is taken as a whole or not at all: nothing is decided by it."""

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from signalyard.problems import Problem, SignalyardError, error, escape_pointer
from signalyard.wire import Observation
from signalyard_router.wire.forms import Name, Time

_MESSAGE = re.compile(r"^(?P<text>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[(\d+)\]")


class ObservationForm(Observation, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`signalyard.wire.Observation` with the edges of what its fields may be."""

    symbol: Annotated[str, Meta(max_length=64)]
    ts_event: Time
    route: Name | None = None
    source: Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")] = "baseline"


class ObserveReader:
    """Reads one observation or a list of them."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._one = msgspec.json.Decoder(ObservationForm)
        self._many = msgspec.json.Decoder(list[ObservationForm])

    def read(self, body: bytes) -> tuple[list[ObservationForm], bool]:
        """The observations, and whether there was one alone.

        Raises CallerError: malformed_body, too_many_rows, invalid_observation with a pointer into the request.
        """
        alone = body.lstrip(b" \t\r\n")[:1] != b"["
        try:
            found = [self._one.decode(body)] if alone else self._many.decode(body)
        except msgspec.ValidationError as exc:
            match = _MESSAGE.match(str(exc))
            text, path = (match["text"], match["path"] or "") if match else (str(exc), "")
            if "matching regex" in text:
                text = "a source's name has letters, digits, '-', '_' and '.', at most 63 characters"
            pointer = "".join("/" + escape_pointer(step[1] or step[2]) for step in _STEP.finditer(path))
            raise error(Problem.INVALID_OBSERVATION, text, pointer) from exc
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise error(Problem.MALFORMED_BODY, str(exc)) from exc
        except RecursionError as exc:
            raise error(Problem.MALFORMED_BODY, "it is nested too deeply") from exc
        if len(found) > self._max_rows:
            raise error(Problem.TOO_MANY_ROWS, f"it has {len(found)} observations, at most {self._max_rows} are taken")
        return found, alone


def without_place(exc: SignalyardError) -> SignalyardError:
    """The error of an observation that was sent alone, and not in a list."""
    return error(exc.problem, exc.detail, exc.pointer.removeprefix("/0"))
