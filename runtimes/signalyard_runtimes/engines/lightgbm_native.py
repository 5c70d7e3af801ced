"""Rows by LightGBM's C interface: without what ``Booster.predict`` does in Python for every call and, of one row, what it makes anew.

The trees are walked by the same code, so the score is the same bits. For one row what is spared are a configuration, a predictor and half
a dozen arrays, which take most of the time.
"""

import ctypes
import weakref
from ctypes import CFUNCTYPE, POINTER, PYFUNCTYPE, c_char_p, c_double, c_int, c_int32, c_int64, c_void_p
from typing import Any

import lightgbm as lgb
import numpy as np

from signalyard_runtimes.features import Matrix, Vector

# From LightGBM's c_api.h.
_FLOAT64 = 1
_PREDICT_NORMAL = 0
_ALL_ITERATIONS = -1
_ROW_MAJOR = 1

_ONE_THREAD = b"num_threads=1"

_Init = CFUNCTYPE(c_int, c_void_p, c_int, c_int, c_int, c_int, c_int32, c_char_p, POINTER(c_void_p))
_PredictRows = CFUNCTYPE(
    c_int, c_void_p, c_void_p, c_int, c_int32, c_int32, c_int, c_int, c_int, c_int, c_char_p, POINTER(c_int64), c_void_p
)
_Free = CFUNCTYPE(c_int, c_void_p)
_LastError = CFUNCTYPE(c_char_p)
# The interpreter's lock is kept over the call. A row takes some microseconds; who lets the lock go for them may wait milliseconds until
# a busy thread gives it back.
_Predict = PYFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_void_p)


def fast_prediction(booster: lgb.Booster) -> "FastPrediction | None":
    """None where this version of LightGBM's package keeps its library or its handle elsewhere: neither has a public name."""
    library, handle = getattr(lgb.basic, "_LIB", None), getattr(booster, "_handle", None)
    if library is None or handle is None:
        return None
    return FastPrediction(booster, library, handle)


class FastPrediction:
    """One Booster, on one native thread, and what LightGBM keeps for single rows of it."""

    def __init__(self, booster: lgb.Booster, library: Any, handle: Any) -> None:
        """``library`` is the one that made the ``handle`` of ``booster``. Raises LightGBMError."""
        self._booster = booster  # whose trees are walked: it must live as long
        self._handle = handle
        self.features = booster.num_feature()
        self._predict_rows = _PredictRows(("LGBM_BoosterPredictForMat", library))
        self._predict = _Predict(("LGBM_BoosterPredictForMatSingleRowFast", library))
        self._last_error = _LastError(("LGBM_GetLastError", library))
        kept = c_void_p()
        begin = _Init(("LGBM_BoosterPredictForMatSingleRowFastInit", library))
        self.check(
            begin(
                handle,
                _PREDICT_NORMAL,
                0,
                _ALL_ITERATIONS,
                _FLOAT64,
                self.features,
                _ONE_THREAD,
                ctypes.byref(kept),
            )
        )
        weakref.finalize(self, _Free(("LGBM_FastConfigFree", library)), kept)
        self._kept = kept.value

    def row(self) -> "LightGBMRow":
        """A place for one row, for one thread."""
        return LightGBMRow(self, self._predict, self._kept, self.features)

    def rows(self, matrix: Matrix) -> Vector:
        """The transformed output for [rows, features], at least one row; other threads run meanwhile. Raises LightGBMError."""
        matrix = np.ascontiguousarray(matrix, dtype=np.float64)
        scores, count = np.empty(len(matrix)), c_int64()
        code = self._predict_rows(
            self._handle,
            matrix.ctypes.data,
            _FLOAT64,
            *matrix.shape,
            _ROW_MAJOR,
            _PREDICT_NORMAL,
            0,
            _ALL_ITERATIONS,
            _ONE_THREAD,
            ctypes.byref(count),
            scores.ctypes.data,
        )
        self.check(code)
        return scores

    def check(self, code: int) -> None:
        """Raises LightGBMError where a call of the C interface failed."""
        if code:
            raise lgb.basic.LightGBMError(self._last_error().decode(errors="replace"))


class LightGBMRow:
    """Implements `engines.row.Row`."""

    def __init__(self, prediction: FastPrediction, predict: Any, kept: int | None, features: int) -> None:
        self.values: Matrix = np.empty((1, features))
        self._prediction = prediction
        self._predict = predict
        self._kept = kept
        self._score = c_double()
        self._count = c_int64()
        # Addresses, because ctypes would make an object of each argument for every call.
        self._values_at = self.values.ctypes.data
        self._count_at = ctypes.addressof(self._count)
        self._score_at = ctypes.addressof(self._score)

    def score(self) -> float:
        """The transformed output for what stands in ``values``. Raises LightGBMError."""
        code = self._predict(self._kept, self._values_at, self._count_at, self._score_at)
        if code:
            self._prediction.check(code)
        return self._score.value
