"""A GraphQL query and its answer: errors told apart, authentication checked, drift absorbed."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from borgbase_exporter.api.query import AUTHENTICATED, Query, Root
from borgbase_exporter.api.reading import ENTRIES, NULL, UNREADABLE, Skipped, reader
from borgbase_exporter.api.transport import CHUNK, Endpoint, Reply, Transport, secrets
from borgbase_exporter.errors import (
    AuthError,
    GraphQLError,
    HTTPStatusError,
    NotJSONError,
    PollError,
    UnknownFieldError,
)
from borgbase_exporter.text import MAX_READ, redacted

log = logging.getLogger(__name__)

MAX_DRIFT_ROUNDS = 8
"""How often one query is sent again without what was refused: nesting hides further fields."""
MAX_ERRORS = 100
MAX_SHOWN = 3
MAX_ERROR_BYTES = 16 * 1024
"""A longer error is not decoded; its beginning is taken as it is."""

_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_AUTH = re.compile(
    r"permission|signature|authenticat|unauthori[sz]ed|forbidden|access.denied|log ?in"
    r"|(?:expired|invalid) token",
    re.IGNORECASE,
)
_INVALID_QUERY = re.compile(r"\(GRAPHQL_(?:VALIDATION|PARSE)_FAILED\)$")
_UNKNOWN_FIELD = re.compile(
    r"""Cannot\ query\ field\ ["'](?P<field>\w+)["']\ on\ type\ ["'](?P<type>\w+)["']
      | Field\ ["'](?P<changed>\w+)["'].*\bmust\ (?:not\ )?have\ a\ (?:sub\ ?)?selection""",
    re.VERBOSE,
)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_TRUE, _FALSE = msgspec.Raw(b"true"), msgspec.Raw(b"false")
R = TypeVar("R", bound=Root)


@dataclass(frozen=True, slots=True)
class Answer:
    """The data of an answer, each root field still as JSON, and what the API reports as wrong.

    `error` is that in short, empty where there is nothing; `denied` when it is about permission.
    `missing` holds `Type.field` of every selected field that the API does not have; `guessed`
    when the API gave no reason that we can read, and only the documented floor worked.
    """

    data: Mapping[str, msgspec.Raw]
    error: str = ""
    denied: bool = False
    missing: frozenset[str] = frozenset()
    guessed: bool = False

    @property
    def lost(self) -> bool:
        """Whether a root field came as null."""
        return NULL in self.data.values()

    def read(self, kind: type[R], skipped: Skipped) -> R:
        """Read the root fields; raise AuthError or GraphQLError without a required one."""
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(kind):
            try:
                values[field.name] = self.root(field.encode_name, field.type, skipped)
            except PollError:
                if field.required:
                    raise
                skipped.fields += self.data.get(field.encode_name, NULL) != NULL
        return kind(**values)

    def root(self, name: str, annotation: Any, skipped: Skipped) -> Any:
        """Read one root field; raise AuthError or GraphQLError where that cannot be done."""
        raw = self.data.get(name, NULL)
        if raw == NULL and self.denied:
            raise AuthError(f'the token may not ask for "{name}": {self.error}')
        if raw == NULL:
            why = self.error or "null without an error"
            raise GraphQLError(f'the API gives no "{name}": {why}')
        try:
            return reader(annotation)(raw, skipped)
        except UNREADABLE as error:
            raise GraphQLError(f'the "{name}" of the API is not readable: {error}') from None


class _Envelope(msgspec.Struct):
    data: dict[str, msgspec.Raw] | None = None
    errors: msgspec.Raw = NULL


_ENVELOPE = msgspec.json.Decoder(_Envelope)


class _RefusedError(UnknownFieldError):
    """A query that does not fit the API's schema."""

    def __init__(self, error: str, messages: Sequence[str]) -> None:
        super().__init__(error)
        self.messages = messages


class Client:
    """Runs the queries of one account."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._transport = Transport(endpoint)

    def run(
        self, query: Query, token: str, missing: frozenset[str] = frozenset(), *, seconds: float
    ) -> Answer:
        """Run a query without the fields known to be missing; find out which more are.

        It is over within `seconds`. Raises a PollError, which holds no frame of ours, when there is
        nothing to show.
        """
        outcome = self._run(query, token, missing, time.monotonic() + seconds)
        if isinstance(outcome, Answer):
            return outcome
        try:
            raise outcome
        finally:
            del outcome  # else the error and this frame would hold each other

    def _run(
        self, query: Query, token: str, missing: frozenset[str], ends: float
    ) -> Answer | PollError:
        guessed = False
        for _ in range(MAX_DRIFT_ROUNDS):
            outcome = self._ask(query, token, missing, ends)
            if isinstance(outcome, Answer):
                return replace(outcome, missing=missing, guessed=guessed)
            if not isinstance(outcome, _RefusedError):
                return outcome
            learned = _unknown(outcome.messages, query) - missing
            if not learned and query.floor and not guessed:
                guessed = True
                learned = query.names - query.floor
            if not learned or learned & query.floor:
                return UnknownFieldError(f"the API refuses the query {query.name}: {outcome}")
            missing |= learned
        return UnknownFieldError(f"the API refuses every form of the query {query.name}")

    def _ask(
        self, query: Query, token: str, missing: frozenset[str], ends: float
    ) -> Answer | PollError:
        begun, size = time.monotonic(), 0
        outcome: Reply | Answer | PollError
        outcome = self._transport.post(query.text(missing), token, seconds=ends - begun)
        if isinstance(outcome, Reply):
            size, retry_after = len(outcome.body), outcome.retry_after
            try:
                outcome = _judged(outcome, missing, secrets(self._endpoint, token))
            except PollError as error:
                outcome = error.without_frames()
                outcome.retry_after = retry_after
        log.debug(
            "query",
            extra={
                "query": query.name,
                "seconds": f"{time.monotonic() - begun:.3f}",
                "bytes": size,
                "outcome": outcome.reason if isinstance(outcome, PollError) else "ok",
            },
        )
        return outcome


def _judged(reply: Reply, missing: Collection[str], hidden: Sequence[str]) -> Answer:
    envelope = _envelope(reply)
    messages = _messages(envelope.errors)
    error = "; ".join(redacted(text, *hidden) for text in messages[:MAX_SHOWN])
    denied = any(map(_AUTH.search, messages))
    if envelope.data is None:
        if not messages:
            raise _not_graphql(reply, "it holds neither data nor errors")
        if any(map(_UNKNOWN_FIELD.search, messages)):
            raise _RefusedError(error, messages)
        if reply.status in _REFUSED or denied:
            raise AuthError(f"the API refuses the token: {error}")
        if reply.status == HTTPStatus.BAD_REQUEST or any(map(_INVALID_QUERY.search, messages)):
            raise _RefusedError(error, messages)
        raise GraphQLError(f"the API answers with errors only (HTTP {reply.status}): {error}")
    if (
        envelope.data.get(AUTHENTICATED.name) != _TRUE
        and f"{Root.graphql}.{AUTHENTICATED.name}" not in missing
    ):
        raise AuthError(f"the API does not accept the token: {error or 'it gives no reason'}")
    return Answer(envelope.data, error, denied)


def _envelope(reply: Reply) -> _Envelope:
    try:
        return _decoded(reply.body)
    except msgspec.ValidationError as error:
        raise _not_graphql(reply, str(error)) from None
    except UNREADABLE as error:
        if reply.status >= HTTPStatus.BAD_REQUEST and reply.status != HTTPStatus.FORBIDDEN:
            raise _not_graphql(reply, "") from None
        if reply.status == HTTPStatus.FORBIDDEN:  # a firewall's page, not the API's
            raise HTTPStatusError(f"the API answered with HTTP {reply.status}") from None
        if reply.body[:CHUNK].lstrip()[:1] == b"<":
            raise NotJSONError("the answer is an HTML page, not an API's") from None
        raise NotJSONError(f"the answer is not JSON: {error}") from None


def _not_graphql(reply: Reply, why: str) -> PollError:
    """Return the error for an answer that is not that of a GraphQL server."""
    if reply.status in _REFUSED:
        return AuthError(f"the API refuses the token (HTTP {reply.status})")
    if reply.status >= HTTPStatus.BAD_REQUEST:
        return HTTPStatusError(f"the API answered with HTTP {reply.status}")
    return GraphQLError(f"the answer is JSON, but not of GraphQL: {why}")


def _decoded(body: bytes) -> _Envelope:
    r"""Decode, if need be without lone surrogates (`\ud800`): JSON can spell them, UTF-8 cannot."""
    try:
        return _ENVELOPE.decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if not _SURROGATE.search(body):
            raise
    repaired = _ESCAPE.sub(lambda m: rb"\ufffd" if m["lone"] else m[0], body)
    return _ENVELOPE.decode(repaired)


def _messages(errors: msgspec.Raw) -> list[str]:
    """Return the beginnings of what the API reports as wrong, in whatever form it does."""
    try:
        entries = ENTRIES.decode(errors)
    except UNREADABLE:
        entries = [] if errors in (NULL, _FALSE) else [errors]
    return list(dict.fromkeys(_message(entry)[:MAX_READ] for entry in entries[:MAX_ERRORS]))


def _message(entry: msgspec.Raw) -> str:
    """Return the text of one error, its code behind it in parentheses."""
    if len(memoryview(entry)) > MAX_ERROR_BYTES:
        return bytes(memoryview(entry)[:MAX_READ]).decode(errors="replace")
    try:
        error: Any = msgspec.json.decode(entry)
    except UNREADABLE as unreadable:
        return f"errors that are not readable: {unreadable}"
    if not isinstance(error, dict):
        return str(error)
    extensions = error.get("extensions")
    code = extensions.get("code") if isinstance(extensions, dict) else None
    message = str(error.get("message") or error)
    return f"{message[: MAX_READ // 2]} ({code})" if code else message


def _unknown(messages: Collection[str], query: Query) -> frozenset[str]:
    """Return `Type.field` of each field of the query that the messages complain about."""
    found: set[str] = set()
    for match in filter(None, map(_UNKNOWN_FIELD.search, messages)):
        name = match["field"] or match["changed"]
        named = {f for f in query.names if f.endswith(f".{name}")}
        # A type may have been renamed, then the name of the field must do.
        found |= {f"{match['type']}.{name}"} & named or named
    return frozenset(found)
