"""What the images hold, looked at from inside running containers that only `restricted` pods may have."""

import json
from pathlib import Path

import pytest
from plain import SECURE

LOOK = """
import importlib.util, json, os, pathlib, subprocess, sys
names = sys.argv[1].split(",")
setuid = []
for folder, _, files in os.walk("/"):
    if folder.startswith(("/proc", "/sys")):
        continue
    for name in files:
        path = os.path.join(folder, name)
        if not os.path.islink(path) and os.lstat(path).st_mode & 0o6000:
            setuid.append(path)
system = subprocess.run(
    ["python3", "-c", "import importlib.util as u; print([n for n in ('pip', 'ensurepip') if u.find_spec(n)])"],
    capture_output=True, text=True, check=True, env={"PATH": "/usr/local/bin:/usr/bin:/bin"})
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "setuid": setuid,
    "importable": [name for name in names if importlib.util.find_spec(name)],
    "installers": system.stdout.strip(),
    "writable": [place for place in ("/", "/opt/signalyard", "/etc", "/usr") if os.access(place, os.W_OK)],
}))
"""
FRAMEWORKS = (
    "numpy",
    "pandas",
    "scipy",
    "lightgbm",
    "sklearn",
    "xgboost",
    "joblib",
    "skops",
    "onnxruntime",
    "torch",
    "tensorflow",
    "cloudpickle",
    "mlserver",
)

OWN = {
    "lightgbm": {"lightgbm", "scipy"},
    "sklearn": {"sklearn", "joblib", "cloudpickle", "skops", "scipy"},
    "xgboost": {"xgboost", "scipy"},
    "onnx": {"onnxruntime"},
    "tensorflow": {"tensorflow"},
}
"""What is in the image of a framework beside what all have. PyTorch's is left out: with the libraries of a GPU it takes 20 GB here."""
SCENARIOS = "lightgbm"
"""The image that the scenarios' models run in. To build the others takes minutes, each."""
FITTED = Path(__file__).with_name("fitted.py")


@pytest.fixture
def look(scenario):
    """What is importable of ``names`` in an image, whom it runs as, and what it would let that user do."""

    def look(image, names):
        mounts = [{"name": "tmp", "mountPath": "/tmp"}]
        container = {"name": "it", "image": image, "command": ["sleep", "600"], "securityContext": SECURE}
        container["volumeMounts"] = mounts
        spec = {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            # Without a user here the kubelet takes the image's, and refuses root and names.
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        }
        scenario.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "image"}, "spec": spec})
        scenario.kubectl("wait", "--for=condition=Ready", "pod/image", "--timeout=60s", timeout=70)
        return json.loads(scenario.kubectl("exec", "image", "--", "python3", "-c", LOOK, ",".join(names)))

    return look


def check(seen):
    assert seen["user"] == [10001, 10001]
    assert seen["setuid"] == []
    assert seen["installers"] == "[]"
    assert seen["writable"] == []


def test_router_image_holds_no_framework(look, router_image, scenario):
    seen = look(
        router_image, ("signalyard", "signalyard_router", "signalyard_runtimes", "signalyard_demo", "pip", *FRAMEWORKS)
    )
    check(seen)
    assert seen["importable"] == ["signalyard", "signalyard_router"]
    commands = scenario.kubectl("exec", "image", "--", "signalyard", "--help")
    assert "router" in commands
    assert "serve" not in commands


@pytest.mark.parametrize(
    "framework", [pytest.param(one, marks=[pytest.mark.images] if one != SCENARIOS else []) for one in OWN]
)
def test_runtimes_image_holds_one_framework_and_scores_by_it(look, cluster, scenario, framework):
    seen = look(
        cluster.runtimes_image(framework),
        ("signalyard", "signalyard_runtimes", "signalyard_router", "signalyard_demo", "pip", *FRAMEWORKS),
    )
    check(seen)
    everybodys = {"signalyard", "signalyard_runtimes", "numpy", "pandas", "mlserver"}
    assert set(seen["importable"]) == everybodys | OWN[framework]
    commands = scenario.kubectl("exec", "image", "--", "signalyard", "--help")
    assert "serve" in commands
    assert "router" not in commands
    # Its golden rows are scored by the code that serves: when it is packed, and again when it is verified.
    scenario.kubectl("exec", "image", "--", "python3", "-c", FITTED.read_text(), framework, "/tmp/small-1", timeout=240)
    verified = ("signalyard", "bundle", "verify", "/tmp/small-1", "--json")
    assert json.loads(scenario.kubectl("exec", "image", "--", *verified, timeout=240))["ok"]
