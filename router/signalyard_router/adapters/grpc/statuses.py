"""The one table from problem to gRPC status."""

import grpc

from signalyard.problems import CATALOGUE, Fault, Problem

STATUSES: dict[Problem, grpc.StatusCode] = {
    **{
        problem: grpc.StatusCode.INVALID_ARGUMENT if entry.fault is Fault.CALLER else grpc.StatusCode.INTERNAL
        for problem, entry in CATALOGUE.items()
    },
    Problem.BODY_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Problem.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Problem.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Problem.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Problem.METHOD_NOT_ALLOWED: grpc.StatusCode.UNIMPLEMENTED,
    Problem.NO_ROUTE: grpc.StatusCode.NOT_FOUND,
    Problem.UNKNOWN_ROUTE: grpc.StatusCode.NOT_FOUND,
    Problem.UNKNOWN_MODEL: grpc.StatusCode.NOT_FOUND,
    Problem.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Problem.STEP_SKIPPED: grpc.StatusCode.FAILED_PRECONDITION,
    Problem.MODEL_UNREACHABLE: grpc.StatusCode.UNAVAILABLE,
    Problem.MODEL_OVERLOADED: grpc.StatusCode.UNAVAILABLE,
    Problem.MODEL_UNKNOWN: grpc.StatusCode.UNAVAILABLE,
    Problem.MODEL_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Problem.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Problem.DRAINING: grpc.StatusCode.UNAVAILABLE,
    Problem.NOT_READY: grpc.StatusCode.UNAVAILABLE,
    Problem.JOURNAL_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Problem.ROUTES_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Problem.ROUTER_UNREACHABLE: grpc.StatusCode.UNAVAILABLE,
    Problem.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""What each problem is answered with: a caller's is an INVALID_ARGUMENT, and anybody else's INTERNAL, where nothing fits better."""
