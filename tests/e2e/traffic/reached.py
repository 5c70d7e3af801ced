"""Waits until a URL is answered: a pod that is ready is not yet behind its Service's address.

python reached.py --url http://router:8090/readyz --seconds 60
"""

import argparse
import sys
import time
import urllib.error
import urllib.request


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--seconds", type=float, required=True, help="for which it is tried")
    given = parser.parse_args()
    until = time.monotonic() + given.seconds
    while True:
        try:
            with urllib.request.urlopen(given.url, timeout=2) as answer:
                answer.read()
        except urllib.error.URLError as exc:
            if time.monotonic() > until:
                sys.exit(f"{given.url} was not reached within {given.seconds:g} s: {exc.reason}")
            time.sleep(0.1)
        else:
            return


if __name__ == "__main__":
    main()
