"""Traces by OpenTelemetry; needs the extra ``otel``."""
