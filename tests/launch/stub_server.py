"""A stand-in for a server, as a program: answers /health and one completion, and misbehaves on request."""

import argparse
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GRANDCHILD = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("grandchild is there", flush=True)
time.sleep(600)
"""


class Handler(BaseHTTPRequestHandler):
    completion_status = 200

    def do_GET(self) -> None:
        self._answer(200, b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(self.completion_status, b'{"error": {"message": "stub refuses"}}')

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--say", default="stub starts")
    parser.add_argument("--exit", type=int)
    parser.add_argument("--never-ready", action="store_true")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--grandchild", action="store_true")
    parser.add_argument("--completion-status", type=int, default=200)
    options = parser.parse_args()
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.grandchild:
        child = subprocess.Popen([sys.executable, "-c", GRANDCHILD], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
    print(options.say, flush=True)
    if options.exit is not None:
        os._exit(options.exit)
    if options.never_ready:
        time.sleep(600)
    Handler.completion_status = options.completion_status
    ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
