"""Scores to confidence."""

import math
from collections.abc import Callable

import numpy as np

from signalyard_runtimes.bundle.manifest import Calibration, Isotonic
from signalyard_runtimes.features import Vector

_EXP_OVERFLOWS = math.log(np.finfo(np.float64).max)
"""Beyond it the exponential is infinite, and what is divided by it 0."""


def confidence(calibration: Calibration, neutral: float) -> Callable[[Vector], Vector]:
    """A function from scores to the calibrated probability that the side of ``neutral`` on which each score lies is right.

    With p the calibrated probability that the outcome is up, it is p where score >= neutral, else 1 - p. It may be below one
    half: then experience says that the score points the wrong way.
    """
    probability_up = _curve(calibration)

    def apply(score: Vector) -> Vector:
        up = probability_up(score)
        return np.where(score >= neutral, up, 1.0 - up)

    return apply


def confidence_of_one(calibration: Calibration, neutral: float) -> Callable[[float], float]:
    """The same for one score, to the last bit, without the arrays."""
    probability_up = _point(calibration)

    def apply(score: float) -> float:
        up = probability_up(score)
        return up if score >= neutral else 1.0 - up

    return apply


def _curve(calibration: Calibration) -> Callable[[Vector], Vector]:
    if isinstance(calibration, Isotonic):
        x, y = np.array(calibration.x), np.array(calibration.y)
        return lambda score: np.interp(score, x, y)
    a, b = calibration.a, calibration.b

    def platt(score: Vector) -> Vector:
        # np.exp overflows to inf for a sure "down", and 1 / inf is the 0 that is meant.
        with np.errstate(over="ignore"):
            probability: Vector = np.exp(a * score + b)
        probability += 1.0
        return np.divide(1.0, probability, out=probability)

    return platt


def _point(calibration: Calibration) -> Callable[[float], float]:
    if isinstance(calibration, Isotonic):
        x, y = np.array(calibration.x), np.array(calibration.y)
        return lambda score: float(np.interp(score, x, y))
    a, b = calibration.a, calibration.b

    def platt(score: float) -> float:
        exponent = a * score + b
        # numpy's exponential, because math's may differ in the last bit.
        return 0.0 if exponent > _EXP_OVERFLOWS else 1.0 / (1.0 + float(np.exp(exponent)))

    return platt
