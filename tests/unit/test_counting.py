"""Our counters and histograms say what the library's own would say."""

import prometheus_client as library
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from signalyard import _counting as counting

EDGES = (0.00005, 0.001, 0.5, 1, 100_000, 2e22)

disable_created_metrics()


def fill(kind, values):
    registry = CollectorRegistry()
    plain = kind.Counter("plain_total", "One", registry=registry)
    named = kind.Counter("named", "Some", ["route", "outcome"], registry=registry)
    alone = kind.Histogram("alone_seconds", "One", buckets=EDGES, registry=registry)
    each = kind.Histogram("each_seconds", "Some", ["route"], buckets=EDGES, registry=registry)
    named.labels("a", 'quote " and \\').inc()
    each.labels("untouched")
    summed = kind.Summary("summed_seconds", "Some", ["route"], registry=registry)
    summed.labels("untouched")
    for value in values:
        plain.inc()
        plain.inc(value)
        named.labels("a", "b").inc()
        alone.observe(value)
        each.labels("b").observe(value)
        summed.labels("b").observe(value)
    return registry


@given(st.lists(st.sampled_from(EDGES) | st.floats(0, 1e23)))
def test_pages_are_the_librarys_to_the_letter(values):
    ours, theirs = fill(counting, values), fill(library, values)
    assert generate_latest(ours) == generate_latest(theirs)
    assert generate_openmetrics(ours) == generate_openmetrics(theirs)


def test_a_name_is_registered_once():
    registry = CollectorRegistry()
    counting.Counter("name_total", "One", registry=registry)
    with pytest.raises(ValueError, match="Duplicated"):
        counting.Counter("name", "Another", registry=registry)


def test_labels_are_as_many_as_named():
    with pytest.raises(ValueError, match="name has the labels"):
        counting.Counter("name", "One", ["route"], registry=CollectorRegistry()).labels()
