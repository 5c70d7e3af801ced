"""Asks a model for what it serves and for one score; exits non-zero, saying why, if it is not what was installed."""

import json
import math
import os
import sys
import urllib.request

SECONDS = 5


def ask(path: str, body: dict | None = None) -> dict:
    """The JSON answer to a GET, or to a POST of ``body``. Raises OSError where there is none."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["ADDRESS"] + path, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return json.load(answer)


model = f"/v2/models/{os.environ['MODEL']}/versions/{os.environ['VERSION']}"
features = ask(model)["inputs"][0]
digest = features["parameters"]["digest"]
if digest != os.environ["DIGEST"]:
    sys.exit(f"{model} serves {digest}, and installed was {os.environ['DIGEST']}")

# A row of zeros: whatever the model makes of it, or refuses in it, is an answer for this row.
columns = [feature["name"] for feature in json.loads(features["parameters"]["schema"])["features"]]
answer = ask(
    f"{model}/infer",
    {
        "inputs": [
            {
                "name": "features",
                "shape": [1, len(columns)],
                "datatype": "FP64",
                "parameters": {"columns": json.dumps(columns)},
                "data": [0.0] * len(columns),
            }
        ]
    },
)
outputs = {output["name"]: output["data"] for output in answer["outputs"]}
score, trouble = outputs["score"][0], outputs["row_error"][0]
if answer["model_version"] != os.environ["VERSION"] or (not trouble and not math.isfinite(score)):
    sys.exit(f"not an answer of version {os.environ['VERSION']}: {answer}")
print(f"{model} serves {digest} and answers: score {score}, row_error {trouble!r}")
