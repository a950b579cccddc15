"""The API in front of simulated accounts: GraphQL over HTTP on loopback, with faults on request."""

import gzip
import json
import re
import socket
import socketserver
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from borgbase_exporter.simulator.account import SimulatedAccount
from borgbase_exporter.simulator.schema import Drift, Edition
from borgbase_exporter.simulator.tokens import TokenRecord

_PATH = "/graphql"
_ANSWERS_KEPT = 16
_REQUESTS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Request:
    """A GraphQL request that arrived."""

    query: str
    operation: str | None
    token: str | None
    """The name of the token, never its secret; None without a valid one."""
    time: float
    """By the clock of the token's account, or of the first one."""


class SimulatedApi:
    """The API of one or more accounts, at `url` from `start()` to `stop()` or in a `with` block.

    The bearer token selects the account. Fields are written like `RepoType.quota`: those `without`
    are missing from the schema, those `renamed` have another name there (`"maxSizeGb"`; sizes are
    converted when the new name ends in Gb). ValueError for fields that are not documented, and
    for accounts that share a token.
    """

    def __init__(
        self,
        accounts: Sequence[SimulatedAccount],
        *,
        port: int = 0,
        without: Collection[str] = (),
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        if len({account.token for account in accounts}) < max(1, len(accounts)):
            raise ValueError("give at least one account, and each its own seed")
        self._accounts = tuple(accounts)
        self._port = port
        self._lock = threading.Lock()
        self._edition = Edition(Drift(without=frozenset(without), renamed=dict(renamed or {})))
        self._requests: deque[Request] = deque(maxlen=_REQUESTS_KEPT)
        self._kept: dict[tuple[bytes, str, bool], tuple[Any, tuple[int, bytes]]] = {}
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where to send queries; known from the first start on, and kept."""
        return f"http://127.0.0.1:{self._port}{_PATH}"

    @property
    def requests(self) -> list[Request]:
        """The GraphQL requests so far, valid or not (the last 10 000), oldest first."""
        with self._lock:
            return list(self._requests)

    def start(self) -> None:
        """Listen on 127.0.0.1 and answer in the background. OSError when the port is taken.

        After a stop, the port is the same as before.
        """
        if self._server:
            return
        self._server = _Server(("127.0.0.1", self._port), self._answer)
        self._port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.02},
            name="simulated-api",
            daemon=True,
        ).start()

    def stop(self) -> None:
        """Stop listening and cut the open connections."""
        if self._server:
            self._server.stop()
            self._server = None

    def drop_field(self, field: str) -> None:
        """Take a field out of the schema."""
        self._drift(lambda drift: {"without": drift.without | {field}})

    def restore_field(self, field: str) -> None:
        """Put a field back into the schema."""
        self._drift(lambda drift: {"without": drift.without - {field}})

    def break_resolver(self, field: str) -> None:
        """Make a field fail: null with an error, or what that does to its non-null parents."""
        self._drift(lambda drift: {"broken": drift.broken | {field}})

    def mend_resolver(self, field: str) -> None:
        """Make a field work again."""
        self._drift(lambda drift: {"broken": drift.broken - {field}})

    def null_entries(self, field: str, indices: Collection[int]) -> None:
        """Put nulls in place of these entries of a root field's list; none of them mends it."""
        gaps = {f"Query.{field}": frozenset(indices)}
        self._drift(lambda drift: {"nulls": {**drift.nulls, **gaps}})

    def _drift(self, change: Callable[[Drift], dict[str, Any]]) -> None:
        with self._lock:
            drift = self._edition.drift
            self._edition = Edition(replace(drift, **change(drift)))

    def _answer(self, body: bytes, secret: str, *, zipped: bool) -> tuple[int, bytes]:
        """Answer a request with a status and a body, which is kept while nothing changes."""
        try:
            query, operation, variables = _read(body)
        except (ValueError, TypeError) as error:
            answer = {"errors": [{"message": str(error)}]}
            return HTTPStatus.BAD_REQUEST, _encode(answer, zipped=zipped)
        account, token = self._authenticate(secret)
        moment = account.moment()
        name = operation or next(iter(re.findall(r"^\s*query\s+(\w+)", query)), None)
        with self._lock:
            self._requests.append(Request(query, name, token.name if token else None, moment.now))
            edition = self._edition
            key, stamp = (body, secret, zipped), (edition, moment.revision, moment.now)
            kept_stamp, kept = self._kept.get(key, (None, None))
        if kept and kept_stamp == stamp:
            return kept
        root = moment.root(token.permission if token else None)
        answer = edition.execute(query, root, variables, operation)
        status = HTTPStatus.OK if "data" in answer else HTTPStatus.BAD_REQUEST
        sent = status, _encode(answer, zipped=zipped)
        with self._lock:
            if len(self._kept) >= _ANSWERS_KEPT:
                self._kept.clear()
            self._kept[key] = stamp, sent
        return sent

    def _authenticate(self, secret: str) -> tuple[SimulatedAccount, TokenRecord | None]:
        for account in self._accounts:
            if token := account.token_for(secret):
                return account, token
        return self._accounts[0], None


def _read(body: bytes) -> tuple[str, str | None, dict[str, Any]]:
    request = json.loads(body)
    if not isinstance(request, dict) or not isinstance(request.get("query"), str):
        raise TypeError("Must provide query string.")
    operation, variables = request.get("operationName"), request.get("variables") or {}
    if not isinstance(operation, str | None) or not isinstance(variables, dict):
        raise TypeError("Variables are invalid JSON.")
    return request["query"], operation, variables


def _encode(answer: dict[str, Any], *, zipped: bool) -> bytes:
    body = json.dumps(answer, separators=(",", ":")).encode()
    return gzip.compress(body, compresslevel=1, mtime=0) if zipped else body


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], answer: Callable[..., tuple[int, bytes]]) -> None:
        self.answer = answer
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def close_request(self, request: Any) -> None:
        self._open.discard(request)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet about clients that went away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._found():
            self._send(HTTPStatus.NOT_FOUND)
            return
        scheme, _, secret = self.headers.get("Authorization", "").partition(" ")
        zipped = "gzip" in self.headers.get("Accept-Encoding", "")
        answer = self.server.answer(body, secret if scheme == "Bearer" else "", zipped=zipped)
        headers = {"Content-Type": "application/json"}
        self._send(*answer, headers | ({"Content-Encoding": "gzip"} if zipped else {}))

    def _refuse(self) -> None:
        # Closing spares reading a body that may be underway.
        status = HTTPStatus.METHOD_NOT_ALLOWED if self._found() else HTTPStatus.NOT_FOUND
        self._send(status, b"", {"Allow": "POST", "Connection": "close"})

    def _found(self) -> bool:
        return self.path.partition("?")[0] == _PATH

    def _send(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815 - theirs

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep standard error for what matters."""
