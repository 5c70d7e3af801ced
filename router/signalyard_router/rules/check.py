"""A row against a version's feature schema, before any call is made."""

from collections.abc import Sequence
from difflib import get_close_matches
from math import inf

import msgspec

from signalyard.problems import Problem, SignalyardError, error, escape_pointer
from signalyard.profile import Feature, FeatureSchema

_CACHED = 1024


class _Plan(msgspec.Struct, frozen=True):
    """Where each feature of the schema stands among a row's columns, -1 where it does not, and whether all of them do."""

    places: tuple[int, ...]
    complete: bool


class Checker:
    """Checks rows against one schema, and puts their values in its order."""

    def __init__(self, schema: FeatureSchema) -> None:
        self.schema = schema
        self.columns = schema.names
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._limits = tuple(
            (
                index,
                -inf if feature.minimum is None else feature.minimum,
                inf if feature.maximum is None else feature.maximum,
            )
            for index, feature in enumerate(schema.features)
            if feature.minimum is not None or feature.maximum is not None
        )

    def vector(self, columns: tuple[str, ...], values: Sequence[float | None]) -> list[float | None]:
        """The row's values in the order of the schema, None where missing.

        Raises CallerError naming the feature: missing_feature, duplicate_feature, feature_not_finite, feature_out_of_range,
        or invalid_snapshot where names and values differ in number. Features that the schema does not know are left out:
        another track may know them.
        """
        plan = self._plans.get(columns)
        if plan is None:
            plan = self._plan(columns)
        if len(values) != len(columns):
            raise error(
                Problem.INVALID_SNAPSHOT,
                f"{len(columns)} columns need as many values, these are {len(values)}",
                "/features",
            )
        if plan.complete:
            whole = [values[place] for place in plan.places]
            if self._plainly_good(whole):
                return whole
        vector: list[float | None] = []
        for feature, place in zip(self.schema.features, plan.places, strict=True):
            value = values[place] if place >= 0 else None
            if value is None or value != value:
                if feature.missing == "refuse":
                    raise _refusal(Problem.MISSING_FEATURE, feature, "is missing, and the model cannot do without it")
                vector.append(None)
                continue
            if value - value != 0:  # infinite; math.isfinite fails for huge ints and costs a call
                raise _refusal(Problem.FEATURE_NOT_FINITE, feature, f"must be a finite number, not {value}")
            if feature.minimum is not None and value < feature.minimum:
                raise _refusal(
                    Problem.FEATURE_OUT_OF_RANGE, feature, f"is {value}, below its minimum of {feature.minimum}"
                )
            if feature.maximum is not None and value > feature.maximum:
                raise _refusal(
                    Problem.FEATURE_OUT_OF_RANGE, feature, f"is {value}, above its maximum of {feature.maximum}"
                )
            vector.append(value)
        return vector

    def _plainly_good(self, whole: Sequence[float | None]) -> bool:
        """Whether nothing is missing, infinite or beyond a limit; a sum tells, but for sums that overflow."""
        try:
            total = sum(whole)  # type: ignore[arg-type]  # None raises
        except (TypeError, OverflowError):
            return False
        if total - total != 0:
            return False
        for index, low, high in self._limits:  # noqa: SIM110 -- a generator costs as much as all the rest
            if not low <= whole[index] <= high:  # type: ignore[operator]
                return False
        return True

    def _plan(self, columns: tuple[str, ...]) -> _Plan:
        places = {name: index for index, name in enumerate(columns)}
        if len(places) != len(columns):
            twice = next(name for index, name in enumerate(columns) if name in columns[:index])
            raise error(Problem.DUPLICATE_FEATURE, f"the feature {twice!r} is given twice", _pointer(twice))
        found = tuple(places.get(name, -1) for name in self.columns)
        plan = _Plan(found, -1 not in found)
        if len(self._plans) >= _CACHED:
            self._plans.clear()
        self._plans[columns] = plan
        return plan


def unknown_feature(columns: tuple[str, ...], known: frozenset[str]) -> str | None:
    """The first of the columns that no version of the route knows, or None."""
    return next((name for name in columns if name not in known), None)


def refuse_unknown(name: str, known: frozenset[str]) -> SignalyardError:
    """The error for a feature that no version of the route knows; it names the nearest ones that they do."""
    near = get_close_matches(name, sorted(known), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return error(Problem.UNKNOWN_FEATURE, f"no version of the model knows the feature {name!r}{hint}", _pointer(name))


def _refusal(problem: Problem, feature: Feature, text: str) -> SignalyardError:
    return error(problem, f"the feature {feature.name!r} {text}", _pointer(feature.name))


def _pointer(name: str) -> str:
    return f"/features/{escape_pointer(name)}"
