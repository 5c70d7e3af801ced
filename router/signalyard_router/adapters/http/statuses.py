"""The one table from problem to HTTP status."""

from signalyard.problems import Problem

STATUSES: dict[Problem, int] = {
    Problem.MALFORMED_BODY: 400,
    Problem.BODY_TOO_LARGE: 413,
    Problem.TOO_MANY_ROWS: 413,
    Problem.UNSUPPORTED_MEDIA_TYPE: 415,
    Problem.REQUEST_TIMEOUT: 408,
    Problem.INVALID_BUDGET: 400,
    Problem.NOT_FOUND: 404,
    Problem.METHOD_NOT_ALLOWED: 405,
    Problem.INVALID_SNAPSHOT: 422,
    Problem.INVALID_INSTRUMENT: 422,
    Problem.NO_ROUTE: 404,
    Problem.UNKNOWN_ROUTE: 404,
    Problem.UNKNOWN_FEATURE: 422,
    Problem.MISSING_FEATURE: 422,
    Problem.DUPLICATE_FEATURE: 422,
    Problem.FEATURE_NOT_FINITE: 422,
    Problem.FEATURE_OUT_OF_RANGE: 422,
    Problem.SNAPSHOT_TOO_OLD: 422,
    Problem.SNAPSHOT_FROM_FUTURE: 422,
    Problem.INVALID_DOCUMENT: 422,
    Problem.INVALID_SETTING: 400,
    Problem.MODEL_UNREACHABLE: 502,
    Problem.MODEL_TIMEOUT: 504,
    Problem.MODEL_UNKNOWN: 502,
    Problem.MODEL_FAILED: 502,
    Problem.MODEL_OVERLOADED: 502,
    Problem.MODEL_ANSWER_MALFORMED: 502,
    Problem.MODEL_ANSWER_WRONG_SHAPE: 502,
    Problem.MODEL_ANSWER_WRONG_ID: 502,
    Problem.MODEL_ANSWER_WRONG_VERSION: 502,
    Problem.MODEL_ANSWER_NOT_FINITE: 502,
    Problem.BUNDLE_MANIFEST_INVALID: 502,
    Problem.BUNDLE_FILE_MISSING: 502,
    Problem.BUNDLE_FILE_EXTRA: 502,
    Problem.BUNDLE_FILE_CHANGED: 502,
    Problem.BUNDLE_PATH_UNSAFE: 502,
    Problem.BUNDLE_LIBRARY_MISMATCH: 502,
    Problem.BUNDLE_ARTIFACT_INVALID: 502,
    Problem.BUNDLE_GOLDEN_MISMATCH: 502,
    Problem.OVERLOADED: 503,
    Problem.DRAINING: 503,
    Problem.NOT_READY: 503,
    Problem.JOURNAL_UNAVAILABLE: 503,
    Problem.JOURNAL_CORRUPT: 500,
    Problem.JOURNAL_LOCKED: 500,
    Problem.ROUTER_UNREACHABLE: 503,
    Problem.DEADLINE_EXCEEDED: 504,
    Problem.INTERNAL: 500,
}
"""What each problem is answered with: the caller's 4xx, a model's 502 or 504, the router's own 5xx."""

BAD_REQUEST = Problem.MALFORMED_BODY
"""The problem of a request that is wrong as a whole, outside its body too: its framing, its query."""

HEADER_TOO_LARGE = 431
"""The status of a header over its cap; it says more than the 400 of `BAD_REQUEST`."""
