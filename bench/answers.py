"""An API with precomputed, compressed answers: it costs a poll almost no time.

`python -m bench.answers PORT REPOS`
"""

from __future__ import annotations

import gzip
import sys
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import msgspec

from borgbase_exporter.api.history import BATCH
from tests.lab.account import REPO, answers


def repo(number: int) -> dict[str, Any]:
    """Return a unique repo in the form of the API."""
    noise = number * 2_654_435_761 % 2**32  # the same in every run
    clock = f"{noise % 24:02}:{noise % 59:02}:{noise % 57:02}"
    return {
        **REPO,
        "id": f"{noise:08x}",
        "name": f"host-{number:05}.example.org",
        "currentUsage": round(noise / 1009, 2),
        "quota": 1000 * (noise % 50),
        "quotaEnabled": noise % 3 == 0,
        "alertDays": noise % 5,
        "lastModified": f"2024-02-{noise % 28 + 1:02}T{clock}.{noise % 1_000_000:06}+00:00",
        "createdAt": f"2023-{noise % 12 + 1:02}-{noise % 28 + 1:02}T{clock}+00:00",
        "appendOnly": noise % 7 == 0,
        "fullAccessKeys": [str(key) for key in range(noise % 4)],
        "region": ("eu", "us")[noise % 2],
        "server": {"hostname": f"{noise:08x}.repo.example"},
    }


def bodies(repos: int) -> dict[str, bytes]:
    """Return the answer to each query."""
    made = answers(1.0)
    made["Repos"]["repoList"] = [repo(number) for number in range(repos)]
    dates = (f"{date.fromordinal(738_000 + day)}" for day in range(730))
    rows = [{"date": day, "diskUsage": 1000} for day in dates]
    made["Usage"] = {"isAuthenticated": True} | {f"u{n}": rows for n in range(min(repos, BATCH))}
    return {name: msgspec.json.encode({"data": data}) for name, data in made.items()}


class Handler(BaseHTTPRequestHandler):
    """Gives each query its answer, by the query's name."""

    protocol_version = "HTTP/1.1"
    prepared: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        """Report that the server is ready."""
        self._send(b"", "identity")

    def do_POST(self) -> None:
        """Answer a query."""
        asked = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(self.prepared[asked["query"].split()[1]], "gzip")

    def _send(self, body: bytes, encoding: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Encoding", encoding)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    port, count = map(int, sys.argv[1:])
    Handler.prepared = {name: gzip.compress(body, 1) for name, body in bodies(count).items()}
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
