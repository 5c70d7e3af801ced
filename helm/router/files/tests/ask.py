"""Asks a router whether it is ready and what its routes are; exits non-zero, saying why, if it has no good answer."""

import json
import os
import sys
import urllib.error
import urllib.request

SECONDS = 5


def ask(path: str) -> dict:
    """The JSON answer to a GET; a refusal ends the test with the reasons that it gives. Raises OSError where there is none."""
    try:
        with urllib.request.urlopen(os.environ["ADDRESS"] + path, timeout=SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refusal:
        sys.exit(f"{path} answers {refusal.code}: {refusal.read().decode(errors='replace')}")


ask("/readyz")
status = ask("/v1/status")
print(f"the router is ready; it has {len(status['routes'])} route(s)")
