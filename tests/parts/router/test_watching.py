"""Alerts and sessions seen from outside, and `signalyard top` before a live router and before none."""

import subprocess
from pathlib import Path

# Who watches need not be where the router runs, and the router's own environment has no `top`.
DEV = Path(__file__).resolve().parents[3] / ".venv" / "dev" / "bin" / "signalyard"
SESSIONS = """
  sessions: {timezone: Asia/Shanghai, hours: ["00:00-24:00"], days: [mon, tue, wed, thu, fri, sat, sun]}
  alerts: {noSignal: 5m, surge: off}
"""


def watched(router):
    path = router.routes / "rb.yaml"
    path.write_text(path.read_text() + SESSIONS.removeprefix("\n"))
    return router.start()


def once(url):
    command = [str(DEV), "top", "--once", "--url", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={"COLUMNS": "80"})


def test_the_status_and_the_metrics(router):
    watched(router)
    router.ask(0.7)
    status = router.get("/v1/status")[1]
    assert status["routes"][0]["session"]["open"] is True
    alerts = {alert["alert"]: alert for alert in status["alerts"]}
    assert set(alerts) == {"no_signal", "low_confidence", "degraded", "late", "drift"}
    found = alerts["no_signal"]
    assert (found["route"], found["state"], found["threshold"]) == ("rb-trend", "ok", 300.0)
    assert found["since"] > 0
    # the status has counted what was decided before it, so the page shows it
    page = router.get("/metrics")[1].decode()
    for line in (
        'signalyard_session_open{route="rb-trend"} 1.0',
        'signalyard_alert{alert="no_signal",route="rb-trend"} 0.0',
        'signalyard_signals_total{direction="long",route="rb-trend",symbol="rb2410.SHFE"} 1.0',
    ):
        assert line in page
    assert 'signalyard_last_signal_timestamp_seconds{route="rb-trend"} 0.0' not in page
    # and another process on the same journal still knows when the last signal was
    router.terminate()
    router.start()
    router.get("/v1/status")
    assert 'signalyard_last_signal_timestamp_seconds{route="rb-trend"} 0.0' not in router.get("/metrics")[1].decode()


def test_a_bad_session_is_refused_by_its_field(router):
    path = router.routes / "rb.yaml"
    path.write_text(path.read_text() + "  sessions: {timezone: Mars/Olympus, hours: [09:00-10:00]}\n")
    checked = router.run("router", "--check", "--routes", str(router.routes))
    assert checked.returncode == 1
    assert "Mars/Olympus" in checked.stderr


def test_top_once(router):
    watched(router)
    for p in (0.7, 0.3, 0.5):
        router.ask(p)
    shown = once(f"http://127.0.0.1:{router.port}")
    assert shown.returncode == 0, shown.stderr
    for word in ("rb-trend", "ready", "stable", "standby", "alerts", "open", "1 of 1 instruments"):
        assert word in shown.stdout, shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    router.terminate()
    gone = once(f"http://127.0.0.1:{router.port}")
    assert gone.returncode == 1
    assert "router away" in gone.stderr
