"""What the router chart makes of its values."""

import yaml
from rendered.charts import HELM, Object, Rendered, changed, render, values_of

Rules = list[dict[str, list[str]]]

WATCHING: Rules = [
    {"apiGroups": ["signalyard.io"], "resources": ["signalroutes"], "verbs": ["list", "watch"]},
    {"apiGroups": ["signalyard.io"], "resources": ["signalgroups"], "verbs": ["list", "watch"]},
    {"apiGroups": ["signalyard.io"], "resources": ["signalroutes/status"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
]


def pod(release: Rendered, name: str = "rel") -> Object:
    spec: Object = release.of("StatefulSet")[name]["spec"]["template"]["spec"]
    return spec


def settings(release: Rendered, name: str = "rel") -> dict[str, str]:
    (container,) = pod(release, name)["containers"]
    return {each["name"]: each["value"] for each in container["env"]}


def test_there_is_one_router_and_its_journal_is_on_a_volume_of_its_own() -> None:
    release = render("router", {})
    spec = release.of("StatefulSet")["rel"]["spec"]
    assert spec["replicas"] == 1
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert "storageClassName" not in claim["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
    mounts = {each["name"]: each["mountPath"] for each in pod(release)["containers"][0]["volumeMounts"]}
    assert mounts["journal"] == settings(release)["SIGNALYARD_JOURNAL"] == "/var/lib/signalyard"


def test_several_routers_share_their_journal_and_have_volumes_of_their_own() -> None:
    release = render("router", values_of("router", "06-replicas"))
    spec = release.of("StatefulSet")["rel"]["spec"]
    assert spec["replicas"] == 3
    assert len(spec["volumeClaimTemplates"]) == 1
    (container,) = pod(release)["containers"]
    env = {each["name"]: each for each in container["env"]}
    secret = env["SIGNALYARD_JOURNAL_REDIS"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": "signals-redis", "key": "url"}
    assert env["SIGNALYARD_JOURNAL_REDIS_PREFIX"]["value"].endswith(".rel")
    assert release.of("PodDisruptionBudget")["rel"]["spec"]["maxUnavailable"] == 1


def test_no_class_and_the_default_class_of_a_volume_are_two_things() -> None:
    by_hand = render("router", values_of("router", "04-admin-exposed")).of("StatefulSet")["signals"]["spec"]
    assert by_hand["volumeClaimTemplates"][0]["spec"]["storageClassName"] == ""
    assert by_hand["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"


def test_its_rights_are_these_and_no_others() -> None:
    release = render("router", values_of("router", "02-several-namespaces"))
    roles = {
        (each["metadata"]["namespace"], each["metadata"]["name"]): each["rules"]
        for each in release.objects
        if each["kind"] == "Role"
    }
    assert roles == {
        ("metals", "rel"): WATCHING,
        ("energy", "rel"): WATCHING,
        ("trading", "rel-lease"): [
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": ["rel"],
                "verbs": ["get", "update"],
            },
        ],
    }
    # The chart makes the lease, so that it goes with the release, and leaves its fields to the router.
    (lease,) = release.of("Lease").values()
    assert (lease["metadata"]["name"], lease["metadata"]["namespace"]) == ("rel", "trading")
    assert "spec" not in lease
    assert settings(release)["SIGNALYARD_LEASE"] == "rel"
    assert settings(release)["SIGNALYARD_NAMESPACES"] == "metals,energy"
    bindings = [each for each in release.objects if each["kind"] == "RoleBinding"]
    assert len(bindings) == len(roles)
    for each in bindings:
        assert (each["metadata"]["namespace"], each["roleRef"]["name"]) in roles
        assert each["subjects"] == [{"kind": "ServiceAccount", "name": "rel", "namespace": "trading"}]


def test_each_right_says_what_it_is_for() -> None:
    lines = (HELM / "router" / "templates" / "rbac.yaml").read_text().splitlines()
    rights = [number for number, line in enumerate(lines) if line.startswith("  - apiGroups:")]
    assert len(rights) == len(WATCHING) + 1
    assert [lines[number] for number in rights if not lines[number - 1].startswith("  # ")] == []


def test_grpc_speaks_tls_by_a_secret() -> None:
    plain, secured = (render("router", values_of("router", use)) for use in ("06-grpc", "07-grpc-tls"))
    (port,) = (one for one in plain.of("Service")["rel"]["spec"]["ports"] if one["name"] == "grpc")
    assert port["appProtocol"] == "kubernetes.io/h2c"
    assert "SIGNALYARD_GRPC_CERTIFICATE" not in settings(plain)
    (port,) = (one for one in secured.of("Service")["rel"]["spec"]["ports"] if one["name"] == "grpc")
    assert port["appProtocol"] == "https"
    said = settings(secured)
    pod = secured.of("StatefulSet")["rel"]["spec"]["template"]["spec"]
    (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "grpc")
    assert mount["readOnly"]
    assert said["SIGNALYARD_GRPC_CERTIFICATE"] == f"{mount['mountPath']}/tls.crt"
    assert said["SIGNALYARD_GRPC_KEY"] == f"{mount['mountPath']}/tls.key"
    (volume,) = (one for one in pod["volumes"] if one["name"] == "grpc")
    assert volume["secret"] == {"secretName": "signals-grpc"}


def test_zeromq_has_ports_of_its_own_and_keys_by_a_secret() -> None:
    plain, secured = render("router", {}), render("router", values_of("router", "08-zeromq"))
    assert [name for name in settings(plain) if "ZEROMQ" in name] == []
    said = settings(secured)
    ports = {one["name"]: one["port"] for one in secured.of("Service")["rel"]["spec"]["ports"]}
    for name, wire in (("SIGNALYARD_ZEROMQ_REQUESTS", "zmq-requests"), ("SIGNALYARD_ZEROMQ_SIGNALS", "zmq-signals")):
        assert said[name] == f"tcp://0.0.0.0:{ports[wire]}"
    assert said["SIGNALYARD_ZEROMQ_SNAPSHOTS"].startswith("tcp://features.trading.svc:5555#")
    pod = secured.of("StatefulSet")["rel"]["spec"]["template"]["spec"]
    inside = {one["name"]: one["containerPort"] for one in pod["containers"][0]["ports"]}
    assert {wire: inside[wire] for wire in ("zmq-requests", "zmq-signals")} == {
        wire: ports[wire] for wire in ("zmq-requests", "zmq-signals")
    }
    let_in = [one["port"] for one in secured.of("NetworkPolicy")["rel"]["spec"]["ingress"][0]["ports"]]
    assert let_in == [8090, 8093, 8094]
    (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "zeromq")
    assert mount["readOnly"]
    assert said["SIGNALYARD_ZEROMQ_KEY"] == f"{mount['mountPath']}/key"
    assert said["SIGNALYARD_ZEROMQ_CLIENTS"] == f"{mount['mountPath']}/clients"
    (volume,) = (one for one in pod["volumes"] if one["name"] == "zeromq")
    assert volume["secret"] == {"secretName": "signals-zeromq"}


def test_zeromq_is_plain_text_only_where_that_is_said() -> None:
    asked = render("router", {"zeromq": {"requests": {"expose": True}, "plain": True}})
    said = settings(asked)
    assert said["SIGNALYARD_ZEROMQ_PLAIN"] == "true"
    assert "SIGNALYARD_ZEROMQ_KEY" not in said
    assert "SIGNALYARD_ZEROMQ_SIGNALS" not in said


def test_levers_stay_inside_the_pod_unless_they_are_let_out_with_tokens_and_tls() -> None:
    inside = render("router", {})
    assert settings(inside)["SIGNALYARD_ADMIN_HOST"] == "127.0.0.1"
    ports = [port["port"] for service in inside.of("Service").values() for port in service["spec"]["ports"]]
    assert ports == [8090, 8090]

    outside = render("router", values_of("router", "04-admin-exposed"))
    said = settings(outside, "signals")
    assert said["SIGNALYARD_ADMIN_HOST"] == "0.0.0.0"
    assert {"SIGNALYARD_ADMIN_TOKENS", "SIGNALYARD_ADMIN_CERTIFICATE", "SIGNALYARD_ADMIN_KEY"} <= set(said)
    assert [port["port"] for port in outside.of("Service")["signals"]["spec"]["ports"]] == [8090, 8091]
    rules = outside.of("NetworkPolicy")["signals"]["spec"]["ingress"]
    assert [[port["port"] for port in rule["ports"]] for rule in rules] == [[8090], [8091]]


def test_documents_from_values_are_the_files_that_the_router_reads() -> None:
    values = values_of("router", "03-config-map")
    release = render("router", values)
    (name,), (text,) = zip(*release.of("ConfigMap")["rel-routes"]["data"].items(), strict=True)
    document = yaml.safe_load(text)
    assert name == "rb-trend.yaml"
    assert document["spec"] == values["routes"]["documents"]["rb-trend"]
    assert settings(release)["SIGNALYARD_ROUTES_FROM"] == "folder"
    # A change of documents must not start the pod anew.
    more = changed(values, routes__documents__rb_mean=values["routes"]["documents"]["rb-trend"] | {"model": "rb-mean"})
    more["routes"]["documents"]["rb-mean"] = more["routes"]["documents"].pop("rb_mean")
    assert pod(render("router", more)) == pod(release)
    assert set(render("router", more).of("ConfigMap")["rel-routes"]["data"]) == {"rb-trend.yaml", "rb-mean.yaml"}


def test_numbers_reach_the_router_as_they_are_written() -> None:
    said = settings(render("router", {"journal": {"segmentBytes": 1073741824}, "http": {"maxRequestRate": 0.5}}))
    assert said["SIGNALYARD_SEGMENT_BYTES"] == "1073741824"
    assert said["SIGNALYARD_MAX_REQUEST_RATE"] == "0.5"
    assert said["SIGNALYARD_KEEP_BYTES"] == "6442450944"
    assert "SIGNALYARD_KEEP_BYTES" not in settings(render("router", {"journal": {"keepBytes": 0}}))


def test_the_notes_state_the_gap_and_the_levers() -> None:
    notes = render("router", {}).notes
    assert "There is one router" in notes
    assert "kubectl -n trading exec statefulset/rel -- signalyard route halt" in notes
    assert "kubectl -n trading delete pvc journal-rel-0" in notes


def test_the_url_of_redis_comes_from_its_secret_and_nowhere_else() -> None:
    (container,) = pod(render("router", values_of("router", "05-redis")))["containers"]
    given = {each["name"]: each for each in container["env"] if each["name"].startswith("SIGNALYARD_REDIS")}
    url = given.pop("SIGNALYARD_REDIS")
    assert url["valueFrom"] == {"secretKeyRef": {"name": "redis", "key": "url"}}
    assert {name: each["value"] for name, each in given.items()} == {
        "SIGNALYARD_REDIS_IN": "stream",
        "SIGNALYARD_REDIS_OUT": "stream,pubsub",
        "SIGNALYARD_REDIS_ENCODING": "json",
        "SIGNALYARD_REDIS_PREFIX": "desk-a",
        "SIGNALYARD_REDIS_GROUP": "signalyard",
    }
    plain = pod(render("router", {}))["containers"][0]["env"]
    assert not [each for each in plain if "REDIS" in each["name"]]


def test_grpc_is_a_port_of_its_own_where_it_is_wanted() -> None:
    plain, asked = render("router", {}), render("router", values_of("router", "06-grpc"))
    assert "SIGNALYARD_GRPC_PORT" not in settings(plain)
    assert settings(asked)["SIGNALYARD_GRPC_PORT"] == "8092"
    ports = {each["name"]: each for each in asked.of("Service")["rel"]["spec"]["ports"]}
    assert (ports["grpc"]["port"], ports["grpc"]["appProtocol"]) == (8092, "kubernetes.io/h2c")
    assert {each["name"] for each in plain.of("Service")["rel"]["spec"]["ports"]} == {"http"}
    policy = asked.of("NetworkPolicy")["rel"]["spec"]
    assert {"port": 8092, "protocol": "TCP"} in policy["ingress"][0]["ports"]
    assert {"port": 8092, "protocol": "TCP"} not in plain.of("NetworkPolicy")["rel"]["spec"]["ingress"][0]["ports"]
