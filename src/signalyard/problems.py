"""The closed list of problems, and the errors that carry them.

A domain error names a problem and, where there is one, the place in the input as a JSON pointer (RFC 6901).
It never carries an HTTP status: each inbound adapter owns one complete table from problem to status.

    SignalyardError
    ├── CallerError    the input was at fault: mend it, then send it again
    ├── ModelError     a model, its server or its bundle was at fault
    └── RouterError    the router could not do its part, or could not be reached
"""

from enum import StrEnum
from typing import Any

import msgspec


class Fault(StrEnum):
    """Whose fault a problem is."""

    CALLER = "caller"
    MODEL = "model"
    ROUTER = "router"


class Problem(StrEnum):
    """The code of a problem; :data:`CATALOGUE` says what each one means."""

    # caller: the request
    INVALID_REQUEST = "invalid_request"
    MALFORMED_BODY = "malformed_body"
    BODY_TOO_LARGE = "body_too_large"
    TOO_MANY_ROWS = "too_many_rows"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    REQUEST_TIMEOUT = "request_timeout"
    TOO_MANY_REQUESTS = "too_many_requests"
    INVALID_BUDGET = "invalid_budget"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    # caller: a row
    INVALID_SNAPSHOT = "invalid_snapshot"
    INVALID_INSTRUMENT = "invalid_instrument"
    NO_ROUTE = "no_route"
    UNKNOWN_ROUTE = "unknown_route"
    UNKNOWN_FEATURE = "unknown_feature"
    MISSING_FEATURE = "missing_feature"
    DUPLICATE_FEATURE = "duplicate_feature"
    FEATURE_NOT_FINITE = "feature_not_finite"
    FEATURE_OUT_OF_RANGE = "feature_out_of_range"
    SNAPSHOT_TOO_OLD = "snapshot_too_old"
    SNAPSHOT_FROM_FUTURE = "snapshot_from_future"
    INVALID_OBSERVATION = "invalid_observation"
    # caller: an inference call
    INVALID_INFERENCE = "invalid_inference"
    UNKNOWN_MODEL = "unknown_model"
    # caller: files and settings
    INVALID_DOCUMENT = "invalid_document"
    INVALID_SETTING = "invalid_setting"
    # caller: levers
    INVALID_LEVER = "invalid_lever"
    STEP_SKIPPED = "step_skipped"
    UNAUTHENTICATED = "unauthenticated"
    # model: the server
    MODEL_UNREACHABLE = "model_unreachable"
    MODEL_TIMEOUT = "model_timeout"
    MODEL_UNKNOWN = "model_unknown"
    MODEL_FAILED = "model_failed"
    MODEL_OVERLOADED = "model_overloaded"
    MODEL_ANSWER_MALFORMED = "model_answer_malformed"
    MODEL_ANSWER_WRONG_SHAPE = "model_answer_wrong_shape"
    MODEL_ANSWER_WRONG_ID = "model_answer_wrong_id"
    MODEL_ANSWER_WRONG_VERSION = "model_answer_wrong_version"
    MODEL_ANSWER_NOT_FINITE = "model_answer_not_finite"
    # model: the bundle
    BUNDLE_MANIFEST_INVALID = "bundle_manifest_invalid"
    BUNDLE_FILE_MISSING = "bundle_file_missing"
    BUNDLE_FILE_EXTRA = "bundle_file_extra"
    BUNDLE_FILE_CHANGED = "bundle_file_changed"
    BUNDLE_PATH_UNSAFE = "bundle_path_unsafe"
    BUNDLE_UNSIGNED = "bundle_unsigned"
    BUNDLE_SIGNATURE_UNTRUSTED = "bundle_signature_untrusted"
    BUNDLE_LIBRARY_MISMATCH = "bundle_library_mismatch"
    BUNDLE_ARTIFACT_INVALID = "bundle_artifact_invalid"
    BUNDLE_GOLDEN_MISMATCH = "bundle_golden_mismatch"
    BUNDLE_NOT_REQUIRED = "bundle_not_required"
    # model: the way of a bundle over the network
    BUNDLE_NOT_FOUND = "bundle_not_found"
    BUNDLE_ACCESS_DENIED = "bundle_access_denied"
    BUNDLE_STORE_UNREACHABLE = "bundle_store_unreachable"
    BUNDLE_TRANSFER_TIMEOUT = "bundle_transfer_timeout"
    BUNDLE_TRUNCATED = "bundle_truncated"
    BUNDLE_ARCHIVE_INVALID = "bundle_archive_invalid"
    BUNDLE_EXISTS = "bundle_exists"
    # router
    OVERLOADED = "overloaded"
    DRAINING = "draining"
    NOT_READY = "not_ready"
    JOURNAL_UNAVAILABLE = "journal_unavailable"
    JOURNAL_CORRUPT = "journal_corrupt"
    JOURNAL_LOCKED = "journal_locked"
    ROUTES_UNAVAILABLE = "routes_unavailable"
    ROUTER_UNREACHABLE = "router_unreachable"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    INTERNAL = "internal"


class Entry(msgspec.Struct, frozen=True):
    """What is said of a problem: a title that never changes, whose fault it is, whether the same call may succeed."""

    title: str
    fault: Fault
    retryable: bool


def _caller(title: str, *, retryable: bool = False) -> Entry:
    return Entry(title, Fault.CALLER, retryable)


def _model(title: str, *, retryable: bool = False) -> Entry:
    return Entry(title, Fault.MODEL, retryable)


def _router(title: str, *, retryable: bool = True) -> Entry:
    return Entry(title, Fault.ROUTER, retryable)


CATALOGUE: dict[Problem, Entry] = {
    Problem.INVALID_REQUEST: _caller("The request is not one that the server can read"),
    Problem.MALFORMED_BODY: _caller("The body is not valid JSON"),
    Problem.BODY_TOO_LARGE: _caller("The body is larger than the server accepts"),
    Problem.TOO_MANY_ROWS: _caller("The request has more rows than the server accepts in one call"),
    Problem.UNSUPPORTED_MEDIA_TYPE: _caller("The content type is not one that the server reads"),
    Problem.REQUEST_TIMEOUT: _caller("The request did not arrive in time", retryable=True),
    Problem.TOO_MANY_REQUESTS: _caller("The caller sends more requests than it may", retryable=True),
    Problem.INVALID_BUDGET: _caller("The budget header is not a positive whole number of microseconds"),
    Problem.NOT_FOUND: _caller("There is nothing at this path"),
    Problem.METHOD_NOT_ALLOWED: _caller("The path does not take this method"),
    Problem.INVALID_SNAPSHOT: _caller("The snapshot does not have the form of a snapshot"),
    Problem.INVALID_INSTRUMENT: _caller("The instrument is not written as symbol.EXCHANGE"),
    Problem.NO_ROUTE: _caller("No route serves this instrument"),
    Problem.UNKNOWN_ROUTE: _caller("There is no route of this name for this instrument"),
    Problem.UNKNOWN_FEATURE: _caller("The model does not know this feature"),
    Problem.MISSING_FEATURE: _caller("The model needs a feature that is missing"),
    Problem.DUPLICATE_FEATURE: _caller("A feature is given twice"),
    Problem.FEATURE_NOT_FINITE: _caller("A feature is infinite"),
    Problem.FEATURE_OUT_OF_RANGE: _caller("A feature lies outside the range that the model was trained for"),
    Problem.SNAPSHOT_TOO_OLD: _caller("The snapshot is older than the route accepts"),
    Problem.SNAPSHOT_FROM_FUTURE: _caller("The snapshot is further in the future than clocks may differ"),
    Problem.INVALID_OBSERVATION: _caller("The observation does not have the form of an observation"),
    Problem.INVALID_INFERENCE: _caller("The inference call is not one that the model can be asked"),
    Problem.UNKNOWN_MODEL: _caller("No route has this model or version"),
    Problem.INVALID_DOCUMENT: _caller("The document is not valid"),
    Problem.INVALID_SETTING: _caller("The setting is not valid"),
    Problem.INVALID_LEVER: _caller("The lever cannot be pulled like this"),
    Problem.STEP_SKIPPED: _caller("A step before this one has not been taken"),
    Problem.UNAUTHENTICATED: _caller("The caller has not said who it is"),
    Problem.MODEL_UNREACHABLE: _model("The model server cannot be reached", retryable=True),
    Problem.MODEL_TIMEOUT: _model("The model server did not answer within the budget", retryable=True),
    Problem.MODEL_UNKNOWN: _model("The model server does not have this model or version"),
    Problem.MODEL_FAILED: _model("The model server answered with an error"),
    Problem.MODEL_OVERLOADED: _model("The model server refuses work for now", retryable=True),
    Problem.MODEL_ANSWER_MALFORMED: _model("The model server's answer cannot be read"),
    Problem.MODEL_ANSWER_WRONG_SHAPE: _model("The model server's answer has not one score for each row"),
    Problem.MODEL_ANSWER_WRONG_ID: _model("The model server's answer belongs to another request"),
    Problem.MODEL_ANSWER_WRONG_VERSION: _model("The model server answered with another model or version"),
    Problem.MODEL_ANSWER_NOT_FINITE: _model("The model server answered with a score that is not a number"),
    Problem.BUNDLE_MANIFEST_INVALID: _model("The bundle's manifest is not valid"),
    Problem.BUNDLE_FILE_MISSING: _model("A file that the bundle's manifest lists is missing"),
    Problem.BUNDLE_FILE_EXTRA: _model("The bundle holds a file that its manifest does not list"),
    Problem.BUNDLE_FILE_CHANGED: _model("A file's bytes are not those that the bundle's manifest lists"),
    Problem.BUNDLE_PATH_UNSAFE: _model("A path in the bundle leaves it, or is a link or a special file"),
    Problem.BUNDLE_UNSIGNED: _model("The bundle is not signed, and only signed ones are trusted"),
    Problem.BUNDLE_SIGNATURE_UNTRUSTED: _model("The bundle's signature is by no trusted key, or of other files"),
    Problem.BUNDLE_LIBRARY_MISMATCH: _model("The installed library is not the version that the bundle was made with"),
    Problem.BUNDLE_ARTIFACT_INVALID: _model("The model artifact cannot be loaded"),
    Problem.BUNDLE_GOLDEN_MISMATCH: _model("The loaded model does not give the scores that the bundle promises"),
    Problem.BUNDLE_NOT_REQUIRED: _model("The bundles are not those that the server must serve"),
    Problem.BUNDLE_NOT_FOUND: _model("There is no bundle at this address"),
    Problem.BUNDLE_ACCESS_DENIED: _model("The store of bundles does not let the caller do this"),
    Problem.BUNDLE_STORE_UNREACHABLE: _model("The store of bundles cannot be reached, or fails", retryable=True),
    Problem.BUNDLE_TRANSFER_TIMEOUT: _model("The bundle was not there in time", retryable=True),
    Problem.BUNDLE_TRUNCATED: _model("The transfer ended before the whole bundle was there", retryable=True),
    Problem.BUNDLE_ARCHIVE_INVALID: _model("The archive is not one of a bundle"),
    Problem.BUNDLE_EXISTS: _model("Another bundle stands at this address, and a bundle is never changed"),
    Problem.OVERLOADED: _router("The router has as much in flight as it accepts"),
    Problem.DRAINING: _router("The router is shutting down"),
    Problem.NOT_READY: _router("The router is not ready"),
    Problem.JOURNAL_UNAVAILABLE: _router("The journal cannot record decisions"),
    Problem.JOURNAL_CORRUPT: _router("The journal's chain is broken", retryable=False),
    Problem.JOURNAL_LOCKED: _router("Another process writes this journal", retryable=False),
    Problem.ROUTES_UNAVAILABLE: _router("The route documents cannot be read where they are kept"),
    Problem.ROUTER_UNREACHABLE: _router("The router cannot be reached"),
    Problem.DEADLINE_EXCEEDED: _router("No answer came within the deadline"),
    Problem.INTERNAL: _router("The router failed in a way that it should not"),
}


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem on the wire, after RFC 9457; ``status`` is there on HTTP answers only.

    ``pointer`` is a JSON pointer into the request, ``""`` where the whole of it is meant.
    """

    type: str
    title: str
    code: Problem
    fault: Fault
    retryable: bool
    detail: str = ""
    pointer: str = ""
    status: int | None = None


def describe(code: Problem, detail: str = "", pointer: str = "", status: int | None = None) -> ProblemDetails:
    """The wire form of a problem."""
    entry = CATALOGUE[code]
    return ProblemDetails(
        type=f"urn:signalyard:problem:{code}",
        title=entry.title,
        code=code,
        fault=entry.fault,
        retryable=entry.retryable,
        detail=detail,
        pointer=pointer,
        status=status,
    )


class SignalyardError(Exception):
    """The root of all errors that Signalyard raises on purpose.

    ``problem`` is the code, ``detail`` says what would be right, ``pointer`` names the field.
    """

    def __init__(self, problem: Problem, detail: str = "", pointer: str = "") -> None:
        super().__init__(problem, detail, pointer)
        self.problem = problem
        self.detail = detail
        self.pointer = pointer

    def __str__(self) -> str:
        place = f" at {self.pointer}" if self.pointer else ""
        return f"{self.problem}{place}: {self.detail or CATALOGUE[self.problem].title}"

    @property
    def details(self) -> ProblemDetails:
        """The problem as the wire carries it."""
        return describe(self.problem, self.detail, self.pointer)


class CallerError(SignalyardError):
    """The input was at fault."""


class ModelError(SignalyardError):
    """A model, its server or its bundle was at fault."""


class RouterError(SignalyardError):
    """The router could not do its part, or could not be reached."""


_ERRORS: dict[Fault, type[SignalyardError]] = {
    Fault.CALLER: CallerError,
    Fault.MODEL: ModelError,
    Fault.ROUTER: RouterError,
}


def error(problem: Problem, detail: str = "", pointer: str = "") -> SignalyardError:
    """The error of the class that fits the problem's fault."""
    return _ERRORS[CATALOGUE[problem].fault](problem, detail, pointer)


def escape_pointer(token: Any) -> str:
    """One token of a JSON pointer, escaped after RFC 6901."""
    return str(token).replace("~", "~0").replace("/", "~1")
