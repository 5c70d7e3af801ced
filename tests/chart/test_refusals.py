"""Values that are no good are refused, and the message names the field."""

from typing import Any

import helm_python
import pytest
from rendered.charts import changed, render, values_of

DIGEST = "sha256:" + "8" * 64
OTHER = "sha256:" + "0" * 64
URI = "oci://registry.example.com/models/rb-trend:8"
STANDBY = {"version": "6", "digest": "sha256:" + "6" * 64, "uri": URI}


def refusal(chart: str, use: str, **paths: Any) -> str:
    with pytest.raises((helm_python.HelmValuesError, helm_python.HelmRenderError)) as refused:
        render(chart, changed(values_of(chart, use), **paths))
    return str(refused.value)


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ({"modell": "rb-trend"}, ["modell"]),
        ({"model": "RB_Trend"}, ["/model"]),
        ({"tracks__stable__version": 7}, ["/tracks/stable/version", "got number, want string"]),
        ({"tracks__stable__version": ""}, ["/tracks/stable/version"]),
        ({"tracks__stable__digest": "sha256:abc"}, ["/tracks/stable/digest", "[0-9a-f]{64}"]),
        ({"tracks__stable__digest": ""}, ["/tracks/stable/digest"]),
        ({"tracks__stable__uri": "rb-trend:7"}, ["/tracks/stable/uri", "s3"]),
        ({"tracks__stable__uri": URI + "#" + DIGEST}, ["/tracks/stable/uri"]),
        ({"tracks__stable__replica": 3}, ["/tracks/stable", "replica"]),
        ({"tracks__stable__weight": 50}, ["/tracks/stable", "weight"]),
        ({"tracks__canary": {"weight": 10}}, ["/tracks/canary", "version", "digest", "uri"]),
        (
            {"tracks__canary": {"version": "8", "digest": DIGEST, "uri": URI, "weight": 101}},
            ["/tracks/canary/weight", "100"],
        ),
        ({"tracks__canary": {"version": "7", "digest": OTHER, "uri": URI}}, ["tracks.canary.digest", "one bundle"]),
        ({"tracks__stable__workload": "StatefulSet"}, ["/tracks/stable/workload", "InferenceService"]),
        ({"keep__fewer": ""}, ["standbys", "keep.versions asks for 2", "keep.fewer"]),
        ({"keep__versions": 1}, ["/keep/versions", "2"]),
        ({"keep": {"fewer": "", "versions": 2}, "standbys": [STANDBY]}, ["standbys: 1 version(s)"]),
        ({"standbys": [STANDBY, STANDBY]}, ["standbys", "6", "twice"]),
        (
            {"standbys": [{**STANDBY, "version": "6.1"}, {**STANDBY, "version": "6-1"}]},
            ["standbys", "6.1", "6-1", "same names"],
        ),
        ({"standbys": {"6": STANDBY}}, ["/standbys", "array"]),
        ({"model": "m" * 40, "standbys": [{**STANDBY, "version": "2024.06"}]}, ["standbys (version 2024.06)", "52"]),
        ({"pods__revisionHistoryLimit": 2}, ["/pods/revisionHistoryLimit", "3"]),
        ({"pods__preStopSeconds": 0}, ["/pods/preStopSeconds"]),
        ({"pods__terminationGracePeriodSeconds": 7}, ["tracks.stable", "terminationGracePeriodSeconds", "8"]),
        ({"pods__maxSurge": 0}, ["/pods/maxSurge"]),
        ({"pods__resources__limits__memory": "lots"}, ["/pods/resources/limits/memory"]),
        ({"pods__labels": {"serving.kserve.io/inferenceservice": "x"}}, ["serving.kserve.io/inferenceservice"]),
        ({"pods__labels": {"app.kubernetes.io/name": "x"}}, ["app.kubernetes.io/name"]),
        ({"pods__autoscaling": {"enabled": True, "minReplicas": 4, "maxReplicas": 3}}, ["maxReplicas", "4"]),
        ({"pods__env": [{"name": "A-B", "value": "x"}]}, ["/pods/env/0/name"]),
        ({"pods__workload": "InferenceService", "pods__pull": {"env": [{"name": "A"}]}}, ["tracks.stable.pull"]),
        ({"route__spec__instruments": []}, ["/route/spec/instruments"]),
        ({"route__spec": {"mapping": {"long": {"enter": 0.6}}}}, ["route.spec.instruments", "rb*.SHFE"]),
        ({"route__spec": {"instruments": ["rb*.SHFE"]}}, ["route.spec.mapping", "enter"]),
        ({"route__spec__tracks": []}, ["/route/spec", "tracks"]),
        ({"route__spec__deadline": "soon"}, ["/route/spec/deadline"]),
        ({"route__spec__mapping__long": {"entr": 0.6}}, ["/route/spec/mapping/long", "entr"]),
        ({"rules__change": {"NoSuchRule": {"for": "1m"}}, "rules__enabled": True}, ["rules.change.NoSuchRule"]),
        ({"rules__change": {"X": {"fore": "1m"}}}, ["/rules/change/X", "fore"]),
        ({"model": "rb-trend-with-a-very-long-name-of-40-letters", "standbys": []}, ["/model"]),
    ],
)
def test_the_model_chart_refuses(paths: dict[str, Any], said: list[str]) -> None:
    text = refusal("model", "01-first-install", **paths)
    assert [part for part in said if part not in text] == [], text


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ({"replicas": 2}, ["replicas: is 2", "journal.redis.urlSecret.name"]),
        ({"replicas": 0}, ["/replicas"]),
        (
            {"replicas": 2, "journal__redis__urlSecret__name": "r", "persistence__existingClaim": "c"},
            ["persistence.existingClaim"],
        ),
        ({"journal__redis__urlSecret__name": "r", "journal__durability": "fsync"}, ["journal.durability"]),
        ({"journal__redis__prefix": "a b"}, ["/journal/redis/prefix"]),
        ({"routes__from": "folder"}, ["/routes/from", "kubernetes", "configMap"]),
        ({"routes__from": "configMap"}, ["routes.documents"]),
        ({"routes__documents": {"x": {}}}, ["/routes/documents/x", "instruments"]),
        ({"routes__namespaces": ["Metals"]}, ["/routes/namespaces/0"]),
        ({"admin__expose": True}, ["admin.tokensSecret"]),
        ({"admin": {"expose": True, "tokensSecret": "t"}}, ["admin.tlsSecret"]),
        ({"admin__tlsSecret": "t"}, ["admin.expose"]),
        ({"grpc__tlsSecret": "t"}, ["grpc.expose", "grpc.tlsSecret"]),
        ({"zeromq__requests__expose": True}, ["zeromq.keySecret", "zeromq.plain"]),
        ({"zeromq__snapshots": ["tcp://features:5555"]}, ["zeromq.keySecret", "zeromq.plain"]),
        (
            {"zeromq__snapshots": ["tcp://features:5555"], "zeromq__keySecret": "z"},
            ["zeromq.snapshots", "tcp://features:5555#PUBLIC-KEY"],
        ),
        ({"zeromq__snapshots": ["features:5555"], "zeromq__plain": True}, ["/zeromq/snapshots/0"]),
        (
            {"zeromq": {"signals": {"expose": True}, "keySecret": "z", "plain": True}},
            ["zeromq.plain", "zeromq.keySecret"],
        ),
        ({"zeromq__plain": True}, ["zeromq.requests.expose", "zeromq.plain"]),
        ({"journal__durability": "none"}, ["/journal/durability", "fsync"]),
        ({"journal__archive": "ftp://x"}, ["/journal/archive"]),
        ({"persistence__accessMode": "ReadWriteMany"}, ["/persistence/accessMode"]),
        ({"drainSeconds": "10s"}, ["/drainSeconds", "integer"]),
        ({"drainSeconds": 60}, ["terminationGracePeriodSeconds", "68"]),
        ({"http__maxWaitShare": 2}, ["/http/maxWaitShare"]),
        ({"log__level": "trace"}, ["/log/level"]),
        ({"redis__in": ["stream"]}, ["redis.urlSecret.name", "redis.in"]),
        ({"redis__urlSecret__name": "redis"}, ["redis.in", "stream or pubsub"]),
        ({"redis__out": ["list"]}, ["/redis/out/0", "pubsub"]),
        ({"redis__prefix": "a b"}, ["/redis/prefix"]),
    ],
)
def test_the_router_chart_refuses(paths: dict[str, Any], said: list[str]) -> None:
    text = refusal("router", "01-defaults", **paths)
    assert [part for part in said if part not in text] == [], text


def test_documents_that_nobody_would_read_are_refused() -> None:
    documents = values_of("router", "03-config-map")["routes"]["documents"]
    text = refusal("router", "01-defaults", routes__documents=documents)
    assert "routes.documents" in text
    assert "configMap" in text
