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
from borgbase_exporter.api.reading import NULL, UNREADABLE, Skipped, reader
from borgbase_exporter.api.transport import Endpoint, Reply, Transport, secrets
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
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_TRUE = msgspec.Raw(b"true")
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
    errors: Any = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)


class _RefusedError(UnknownFieldError):
    """A query that does not fit the API's schema."""

    def __init__(self, error: str, messages: Sequence[str]) -> None:
        super().__init__(error)
        self.messages = messages


class Client:
    """Runs the queries of one account, which is named in the log."""

    def __init__(self, endpoint: Endpoint, account: str = "") -> None:
        self._endpoint = endpoint
        self._extra = {"account": account} if account else {}
        self._transport = Transport(endpoint)

    def run(
        self, query: Query, token: str, missing: frozenset[str] = frozenset(), *, seconds: float
    ) -> Answer:
        """Run a query without the fields known to be missing; find out which more are.

        It is over within `seconds`. Raises a PollError when there is nothing to show.
        """
        ends, guessed = time.monotonic() + seconds, False
        for _ in range(MAX_DRIFT_ROUNDS):
            try:
                answer = self._ask(query, token, missing, ends)
            except _RefusedError as error:
                learned = _unknown(error.messages, query) - missing
                if not learned and query.floor and not guessed:
                    guessed, learned = True, query.names - query.floor
                if not learned or learned & query.floor:
                    text = f"the API refuses the query {query.name}: {error}"
                    raise UnknownFieldError(text, retry_after=error.retry_after) from None
                missing |= learned
            else:
                return replace(answer, missing=missing, guessed=guessed)
        raise UnknownFieldError(f"the API refuses every form of the query {query.name}")

    def _ask(self, query: Query, token: str, missing: frozenset[str], ends: float) -> Answer:
        begun, size, outcome = time.monotonic(), 0, "ok"
        reply: Reply | None = None
        try:
            reply = self._transport.post(query.text(missing), token, seconds=ends - begun)
            size = len(reply.body)
            return _judged(reply, missing, secrets(self._endpoint, token))
        except PollError as error:
            outcome = error.reason
            error.retry_after = reply.retry_after if reply else None
            raise
        finally:
            extra = {"seconds": f"{time.monotonic() - begun:.3f}", "bytes": size}
            extra |= self._extra | {"query": query.name, "outcome": outcome}
            log.debug("query", extra=extra)


def _judged(reply: Reply, missing: Collection[str], hidden: Sequence[str]) -> Answer:
    try:
        envelope = _decoded(reply.body)
        messages = _messages(envelope.errors)
    except UNREADABLE as why:
        is_json = isinstance(why, msgspec.ValidationError)
        raise _not_graphql(reply, str(why), is_json=is_json) from None
    error = "; ".join(redacted(text, *hidden) for text in messages[:MAX_SHOWN])
    denied = any(map(_AUTH.search, messages))
    if envelope.data is None:
        if not messages:
            raise _not_graphql(reply, "it holds neither data nor errors", is_json=True)
        if any(map(_UNKNOWN_FIELD.search, messages)):
            raise _RefusedError(error, messages)
        if reply.status in _REFUSED or denied:
            raise AuthError(f"the API refuses the token: {error}")
        if reply.status == HTTPStatus.BAD_REQUEST or any(map(_INVALID_QUERY.search, messages)):
            raise _RefusedError(error, messages)
        raise GraphQLError(f"the API answers with errors only (HTTP {reply.status}): {error}")
    asked = f"{Root.graphql}.{AUTHENTICATED}" not in missing
    if asked and envelope.data.get(AUTHENTICATED) != _TRUE:
        raise AuthError(f"the API does not accept the token: {error or 'it gives no reason'}")
    return Answer(envelope.data, error, denied)


def _not_graphql(reply: Reply, why: str, *, is_json: bool) -> PollError:
    """Return the error for an answer that is not that of a GraphQL server."""
    # HTTP 403 without JSON is the page of a firewall.
    if reply.status in _REFUSED and (is_json or reply.status == HTTPStatus.UNAUTHORIZED):
        return AuthError(f"the API refuses the token (HTTP {reply.status})")
    if reply.status >= HTTPStatus.BAD_REQUEST:
        return HTTPStatusError(f"the API answered with HTTP {reply.status}")
    if is_json:
        return GraphQLError(f"the answer is JSON, but not of GraphQL: {why}")
    if reply.body.lstrip()[:1] == b"<":
        return NotJSONError("the answer is an HTML page, not an API's")
    return NotJSONError(f"the answer is not JSON: {why}")


def _decoded(body: bytes) -> _Envelope:
    r"""Decode; if need be without surrogates (`\ud800`): a lone one is JSON, but not Unicode."""
    try:
        return _ENVELOPE.decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return _ENVELOPE.decode(_SURROGATE.sub(rb"\\ufffd", body))


def _messages(errors: Any) -> list[str]:
    """Return the beginnings of what the API reports as wrong, in whatever form it does."""
    entries = errors if isinstance(errors, list) else [errors] if errors else []
    return list(dict.fromkeys(_message(entry)[:MAX_READ] for entry in entries[:MAX_ERRORS]))


def _message(error: Any) -> str:
    """Return the text of one error, its code behind it in parentheses."""
    match error:
        case {"message": message, "extensions": {"code": code}} if message and code:
            return f"{str(message)[: MAX_READ // 2]} ({code})"
        case {"message": message} if message:
            return str(message)
    return str(error)


def _unknown(messages: Collection[str], query: Query) -> frozenset[str]:
    """Return `Type.field` of each field of the query that the messages complain about."""
    found: set[str] = set()
    for match in filter(None, map(_UNKNOWN_FIELD.search, messages)):
        name = match["field"] or match["changed"]
        named = {f for f in query.names if f.endswith(f".{name}")}
        # A type may have been renamed, then the name of the field must do.
        found |= {f"{match['type']}.{name}"} & named or named
    return frozenset(found)
