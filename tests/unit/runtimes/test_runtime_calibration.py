"""Scores to confidence."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalyard_runtimes.bundle.manifest import Isotonic, Platt
from signalyard_runtimes.calibration import confidence, confidence_of_one


def test_isotonic_is_linear_between_its_knots_and_level_beyond() -> None:
    curve = confidence(Isotonic(x=(0.2, 0.6, 0.8), y=(0.1, 0.5, 0.9)), neutral=0.0)
    assert curve(np.array([0.0, 0.2, 0.4, 0.7, 0.8, 1.0])).tolist() == pytest.approx([0.1, 0.1, 0.3, 0.7, 0.9, 0.9])


def test_below_neutral_it_is_the_probability_of_down() -> None:
    curve = confidence(Isotonic(x=(0.0, 1.0), y=(0.0, 1.0)), neutral=0.5)
    assert curve(np.array([0.1, 0.4, 0.5, 0.9])).tolist() == pytest.approx([0.9, 0.6, 0.5, 0.9])


def test_a_score_that_misleads_has_a_confidence_below_one_half() -> None:
    curve = confidence(Isotonic(x=(0.0, 1.0), y=(0.0, 0.4)), neutral=0.5)
    assert curve(np.array([1.0])).tolist() == pytest.approx([0.4])


def test_platt() -> None:
    curve = confidence(Platt(a=-2.0, b=0.5), neutral=0.0)
    expected = 1 / (1 + math.exp(-2.0 * 0.7 + 0.5))
    assert curve(np.array([0.7, -1e6, 1e6])).tolist() == pytest.approx([expected, 1.0, 1.0])


@given(
    score=st.floats(allow_nan=False, allow_infinity=False) | st.floats(-2, 2),
    a=st.floats(-1e3, 1e3),
    b=st.floats(-800, 800),
    neutral=st.floats(-1, 1),
)
def test_one_score_has_the_confidence_that_it_has_among_others(
    score: float, a: float, b: float, neutral: float
) -> None:
    for curve in (Platt(a=a, b=b), Isotonic(x=(-0.5, 0.25, 1.0), y=(0.1, 0.4, 0.9))):
        (among, _) = confidence(curve, neutral)(np.array([score, 0.5]))
        assert np.float64(confidence_of_one(curve, neutral)(score)).tobytes() == among.tobytes()
