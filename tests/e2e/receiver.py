"""A webhook receiver in a pod: prints a JSON line for each alert that Alertmanager sends it, with the place it was sent to."""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Receiver(BaseHTTPRequestHandler):
    """POST /PLACE with a notification; GET anything to see whether it is there."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for alert in json.loads(body)["alerts"]:
            line = {"place": self.path.strip("/"), "status": alert["status"], "labels": alert["labels"]}
            print(json.dumps(line | {"annotations": alert["annotations"]}), flush=True)
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Probes are no news."""


if __name__ == "__main__":
    HTTPServer(("0.0.0.0", int(sys.argv[1])), Receiver).serve_forever()
