"""The API of simulated accounts, over HTTP on loopback."""

from __future__ import annotations

import gzip
import json
import socketserver
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from borgbase_exporter.demo.account import SimulatedAccount
from borgbase_exporter.demo.answers import JSON
from borgbase_exporter.demo.tokens import Token


class SimulatedApi:
    """The API of one or more accounts, at `url` from `start()` to `stop()` or in a `with` block.

    The bearer token selects the account. ValueError for accounts that share a token.
    """

    def __init__(self, accounts: Sequence[SimulatedAccount]) -> None:
        if len({account.token for account in accounts}) < max(1, len(accounts)):
            raise ValueError("give at least one account, and each its own seed")
        self._accounts = tuple(accounts)
        self._port = 0
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where to send queries; known from the first start on, and kept."""
        return f"http://127.0.0.1:{self._port}/graphql"

    def start(self) -> None:
        """Listen on 127.0.0.1 and answer in the background; after a stop, on the same port."""
        self._server = _Server(("127.0.0.1", self._port), partial(_Handler, self.reply))
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def reply(self, body: bytes, secret: str) -> tuple[int, JSON]:
        """Answer a request with an HTTP status and JSON."""
        account, token = self.authenticate(secret)
        try:
            query = str(json.loads(body)["query"])
            permission = token.permission if token else None
            return HTTPStatus.OK, account.moment().answer(query, permission)
        except (ValueError, TypeError, KeyError) as error:
            return HTTPStatus.BAD_REQUEST, {"errors": [{"message": str(error)}]}

    def authenticate(self, secret: str) -> tuple[SimulatedAccount, Token | None]:
        """Return the account of a valid token and the token, else the first account and None."""
        for account in self._accounts:
            if token := account.token_for(secret):
                return account, token
        return self._accounts[0], None


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnected."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    wbufsize = -1  # head and body leave together

    def __init__(self, reply: Callable[[bytes, str], tuple[int, JSON]], *args: Any) -> None:
        self.reply = reply
        super().__init__(*args)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        secret = self.headers.get("Authorization", "").removeprefix("Bearer ")
        status, answer = self.reply(body, secret)
        content = json.dumps(answer, separators=(",", ":")).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            content = gzip.compress(content, compresslevel=1)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Log nothing: standard error is the exporter's."""
