"""The API of simulated accounts, over HTTP on loopback."""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from borgbase_exporter.demo.account import SimulatedAccount
from borgbase_exporter.demo.answers import JSON, Token


class SimulatedApi(socketserver.ThreadingTCPServer):
    """The API of accounts, at `url` in a `with` block. The bearer token selects the account."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, accounts: Sequence[SimulatedAccount]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/graphql"
        self._accounts = accounts

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

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
        tokens = ((account, account.token_for(secret)) for account in self._accounts)
        return next((found for found in tokens if found[1]), (self._accounts[0], None))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnected."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: SimulatedApi
    wbufsize = -1  # head and body in one packet

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        secret = self.headers.get("Authorization", "").removeprefix("Bearer ")
        status, answer = self.server.reply(body, secret)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Log nothing: standard error is the exporter's."""
