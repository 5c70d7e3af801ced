"""Levers and reloads on a running router, as an operator pulls them."""

import json
import time

import pytest

PATIENCE = 20.0


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def test_a_halt_from_the_terminal_holds_through_sigkill_and_ends_by_name(router):
    router.start()
    assert router.ask(0.7)["outcome"] == "emitted"
    halted = router.lever("halt", "rb-trend", "--by", "ann", "--why", "a fat finger")
    assert halted.returncode == 0, halted.stderr
    assert router.ask(0.3)["reason"] == "halted"
    router.kill()
    router.start()
    assert router.ask(0.3)["reason"] == "halted"
    listed = router.lever("list").stdout
    assert "halt" in listed
    assert "by ann: a fat finger" in listed
    assert router.lever("resume", "l-999", "--why", "wrong one").returncode == 1
    lever = next(record["id"] for record in router.records("lever"))
    assert router.lever("resume", lever, "--by", "bob", "--why", "checked").returncode == 0
    assert router.ask(0.3)["outcome"] == "emitted"
    assert router.run("journal", "verify", "--journal", str(router.journal)).returncode == 0


def test_a_rollback_needs_no_restart_and_a_bad_one_is_told_why(router):
    router.start()
    refused = router.lever("rollback", "rb-trend", "--to", "5", "--why", "x")
    assert refused.returncode == 1
    assert "7, 6" in refused.stderr
    assert router.lever("rollback", "rb-trend", "--to", "6", "--why", "it misbehaves").returncode == 0
    signal = router.ask(0.7)["signal"]
    assert (signal["version"], signal.get("failover", False)) == ("6", False)
    shown = json.loads(router.lever("show", "rb-trend").stdout)
    assert shown["rolled_back"] == "6"


def test_a_changed_document_is_in_force_without_a_restart(router):
    router.start()
    text = (router.routes / "rb.yaml").read_text()
    assert router.ask(0.55)["reason"] == "no_direction"
    router.write_route(text.replace("enter: 0.6", "enter: 0.51"))
    until(lambda: len(router.records("route")) == 2)
    until(lambda: router.get("/v1/status")[1]["routes"][0]["generation"] == 2)
    assert router.ask(0.55)["outcome"] == "emitted"
    router.write_route(text.replace("weight: 100", "weight: 10"))
    until(lambda: "documents_refused" in router.said())
    assert router.ask(0.3)["outcome"] == "emitted"
    assert "rb.yaml" in router.lever("list").stdout


def test_without_a_name_nobody_pulls(router):
    router.start()
    refused = router.lever("halt", "--by", " ", "--why", "x")
    assert refused.returncode == 1
    assert "/by" in refused.stderr


def test_tokens_say_who_it_is(router, tmp_path):
    made = router.run("route", "token", "ann").stdout.split()
    secret, digest = made[made.index("secret:") + 1], made[-1]
    tokens = tmp_path / "tokens"
    tokens.write_text(f"# who may\nann {digest}\n")
    router.start("--admin-tokens", str(tokens))
    assert secret not in tokens.read_text()
    for token in ({}, {"SIGNALYARD_TOKEN": "guess"}):
        refused = router.lever("halt", "--why", "x", **token)
        assert refused.returncode == 1
        assert "unauthenticated" in refused.stderr
    assert router.lever("halt", "--by", "bob", "--why", "x", SIGNALYARD_TOKEN=secret).returncode == 0
    (record,) = router.records("lever")
    assert (record["by"], record["proved"]) == ("ann", True)
    assert secret not in router.said() + json.dumps(router.records("lever")) + router.get("/metrics")[1].decode()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--admin-host", "0.0.0.0"], "anybody could pull levers"),
        (["--admin-certificate", "x.pem"], "go together"),
        (["--admin-tokens", "/nowhere"], "cannot be read"),
    ],
)
def test_an_admin_port_that_would_be_open_is_refused(router, options, says):
    refused = router.run(
        "router", "--routes", str(router.routes), "--journal", str(router.journal), "--port", "0", *options
    )
    assert refused.returncode == 1
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_admin_port_speaks_tls(router, certified):
    certificate, key = certified
    router.start("--admin-certificate", str(certificate), "--admin-key", str(key))
    url = f"https://127.0.0.1:{router.admin_port}"
    assert router.run("route", "--admin", url, "--authority", str(certificate), "list").returncode == 0
    assert router.run("route", "--admin", url, "list").returncode == 1
    assert router.lever("list").returncode == 1
