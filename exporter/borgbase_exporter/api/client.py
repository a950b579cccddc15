"""A GraphQL query and its answer: errors told apart, authentication believed, drift absorbed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from borgbase_exporter.api.documents import AUTHENTICATED, Document
from borgbase_exporter.api.transport import CHUNK, Endpoint, Reply, Transport
from borgbase_exporter.errors import (
    AuthError,
    GraphQLError,
    HTTPStatusError,
    NotJSONError,
    PollError,
    UnknownFieldError,
)
from borgbase_exporter.text import redacted

MAX_DRIFT_ROUNDS = 8
"""How often one query is sent again without what was refused: nesting hides further fields."""

MAX_ERRORS = 100

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for JSON that is broken, of another shape or too deeply nested."""

_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_AUTH = re.compile(
    r"permission|signature|authenticat|unauthori[sz]ed|log ?in|(?:expired|invalid) token",
    re.IGNORECASE,
)
_UNKNOWN_FIELD = re.compile(
    r"""Cannot\ query\ field\ ["'](?P<field>\w+)["']\ on\ type\ ["'](?P<type>\w+)["']
      | Field\ ["'](?P<changed>\w+)["'].*\bmust\ (?:not\ )?have\ a\ (?:sub\ ?)?selection""",
    re.VERBOSE,
)
T = TypeVar("T")

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The data of an answer, each root field still as JSON, and what the API says went wrong.

    `missing` holds `Type.field` of every selected field that the API does not have; `guessed`
    when the API gave no reason that we can read, and only the documented floor worked.
    """

    data: Mapping[str, msgspec.Raw]
    errors: tuple[str, ...] = ()
    missing: frozenset[str] = frozenset()
    guessed: bool = False

    @property
    def said(self) -> str:
        """What the API says went wrong, in short."""
        return _said(self.errors)

    @property
    def lost(self) -> bool:
        """Whether a root field came as null."""
        return _NULL in self.data.values()

    def root(self, name: str, kind: type[T]) -> T:
        """Decode a root field; raise AuthError or GraphQLError where it is null or misshapen."""
        raw = self.data.get(name, _NULL)
        if raw == _NULL:
            if _AUTH.search(self.said):
                raise AuthError(f'the token may not ask for "{name}": {self.said}')
            said = self.said or "null without an error"
            raise GraphQLError(f'the API gives no "{name}": {said}')
        try:
            return msgspec.json.decode(raw, type=kind, strict=False)
        except UNREADABLE as error:
            raise GraphQLError(f'the "{name}" of the API is not readable: {error}') from None


_NULL = msgspec.Raw(b"null")
_TRUE = msgspec.Raw(b"true")


def _said(errors: Sequence[str]) -> str:
    return "; ".join(list(dict.fromkeys(errors))[:3])


class _Envelope(msgspec.Struct):
    data: dict[str, msgspec.Raw] | None = None
    errors: msgspec.Raw = _NULL


_ENVELOPE = msgspec.json.Decoder(_Envelope)
"""Made once, by one thread: msgspec is not safe while it works a new type out."""


class Client:
    """Runs documents for one account with one token."""

    def __init__(self, transport: Transport, token: str) -> None:
        self._transport = transport
        self._token = token

    def run(
        self, document: Document, missing: frozenset[str] = frozenset(), *, reserve: float = 0.0
    ) -> Answer:
        """Run a document without the fields known to be missing; find out which more are.

        `reserve` is the time in seconds to leave for what comes later. Raises a PollError when
        there is nothing to show: the transport's, AuthError, HTTPStatusError, NotJSONError,
        GraphQLError or UnknownFieldError.
        """
        guessed = False
        for _ in range(MAX_DRIFT_ROUNDS):
            reply = self._transport.post(document.text(missing), reserve=reserve)
            try:
                return replace(self._judge(reply, missing), guessed=guessed)
            except _RefusedError as refused:
                learned = _unknown(refused.messages, document) - missing
                if not learned and document.floor and not guessed:
                    guessed = True
                    learned = document.names - document.floor
                if not learned or learned & document.floor:
                    raise UnknownFieldError(
                        f"the API refuses the query {document.name}: {refused}"
                    ) from None
                missing |= learned
        raise UnknownFieldError(f"the API refuses every form of the query {document.name}")

    def _judge(self, reply: Reply, missing: frozenset[str]) -> Answer:
        try:
            envelope = _envelope(reply)
            errors = tuple(redacted(text, self._token) for text in _messages(envelope.errors))
            if envelope.data is None and not errors:
                raise _foreign(reply, "it holds neither data nor errors")
            self._authenticated(reply, envelope.data, errors, missing)
        except PollError as error:
            error.retry_after = reply.retry_after
            raise
        return Answer(envelope.data or {}, errors, missing)

    def _authenticated(
        self,
        reply: Reply,
        data: Mapping[str, msgspec.Raw] | None,
        errors: Sequence[str],
        missing: frozenset[str],
    ) -> None:
        """Raise unless the answer is one to an authenticated query."""
        said = _said(errors) or "it says so without an explanation"
        if data is None:
            refusal = _RefusedError(errors)
            if _unknown_fields(errors):
                raise refusal
            if reply.status in _REFUSED or any(map(_AUTH.search, errors)):
                raise AuthError(f"the API refuses the token: {said}")
            if reply.status == HTTPStatus.BAD_REQUEST:
                raise refusal
            raise GraphQLError(f"the API answers with errors only (HTTP {reply.status}): {said}")
        if f"Query.{AUTHENTICATED.name}" in missing:
            return
        if data.get(AUTHENTICATED.name) != _TRUE:
            raise AuthError(f"the API does not accept the token: {said}")


@contextmanager
def connect(endpoint: Endpoint, seconds: float, token: str) -> Iterator[Client]:
    """Give a client for the time of one poll, which lasts for so many seconds at most."""
    with Transport(endpoint, token, seconds) as transport:
        yield Client(transport, token)


class _RefusedError(GraphQLError):
    """A query that does not fit the API's schema."""

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__(_said(messages))
        self.messages = messages


def _envelope(reply: Reply) -> _Envelope:
    try:
        return _decoded(reply.body)
    except msgspec.ValidationError as error:
        raise _foreign(reply, str(error)) from None
    except UNREADABLE as error:
        if reply.status == HTTPStatus.UNAUTHORIZED:
            raise _refusal(reply) from None
        if reply.status >= HTTPStatus.BAD_REQUEST:
            raise _bad_status(reply) from None
        if reply.body[:CHUNK].lstrip()[:1] == b"<":
            raise NotJSONError("the answer is an HTML page, not an API's") from None
        raise NotJSONError(f"the answer is not JSON: {error}") from None


def _foreign(reply: Reply, why: str) -> PollError:
    """Return the error for an answer that is JSON, but not that of a GraphQL server."""
    if reply.status in _REFUSED:
        return _refusal(reply)
    if reply.status >= HTTPStatus.BAD_REQUEST:
        return _bad_status(reply)
    return GraphQLError(f"the answer is JSON, but not of GraphQL: {why}")


def _refusal(reply: Reply) -> AuthError:
    return AuthError(f"the API refuses the token (HTTP {reply.status})")


def _bad_status(reply: Reply) -> HTTPStatusError:
    return HTTPStatusError(f"the API answered with HTTP {reply.status}")


def _decoded(body: bytes) -> _Envelope:
    r"""Decode, if need be without lone surrogates (`\ud800`): JSON can spell them, UTF-8 cannot."""
    try:
        return _ENVELOPE.decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if not _SURROGATE.search(body):
            raise
    mended = _ESCAPE.sub(lambda m: rb"\ufffd" if m["lone"] else m[0], body)
    return _ENVELOPE.decode(mended)


def _messages(errors: msgspec.Raw) -> list[str]:
    """Return what the API says went wrong, in whatever form it says so."""
    try:
        decoded: Any = msgspec.json.decode(errors)
    except UNREADABLE as error:
        return [f"errors that are not readable: {error}"]
    entries = decoded if isinstance(decoded, list) else [decoded] if decoded else []
    return [
        str(entry.get("message") or entry) if isinstance(entry, dict) else str(entry)
        for entry in entries[:MAX_ERRORS]
    ]


def _unknown_fields(messages: Sequence[str]) -> list[re.Match[str]]:
    return [match for match in map(_UNKNOWN_FIELD.search, messages) if match]


def _unknown(messages: Sequence[str], document: Document) -> frozenset[str]:
    """Return `Type.field` of each field of the document that the messages complain about."""
    found: set[str] = set()
    for match in _unknown_fields(messages):
        name = match["field"] or match["changed"]
        named = {f for f in document.names if f.endswith(f".{name}")}
        # A type may have been renamed, then the name of the field must do.
        found |= {f"{match['type']}.{name}"} & named or named
    return frozenset(found)
