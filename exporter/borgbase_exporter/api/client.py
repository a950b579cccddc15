"""Run GraphQL queries: classify errors, check authentication, drop fields the API removed."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from borgbase_exporter.api.query import AUTHENTICATED, Query, Root, fields_of
from borgbase_exporter.api.reading import NULL, UNREADABLE, Skipped, reader
from borgbase_exporter.api.transport import Reply, Transport, secrets
from borgbase_exporter.errors import PollError, Reason
from borgbase_exporter.settings import API
from borgbase_exporter.text import MAX_READ, redacted

log = logging.getLogger(__name__)

MAX_DRIFT_ROUNDS = 8  # tries without refused fields: nesting hides further ones
MAX_ERRORS = 100
MAX_SHOWN = 3

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
_TRUE = msgspec.Raw(b"true")
R = TypeVar("R", bound=Root)


@dataclass(frozen=True, slots=True)
class Answer:
    """The data of an answer, each root field still as JSON, and the errors that came with it.

    `error` summarizes the errors; `denied` is set if they are about permission. `missing` holds
    `Type.field` of every selected field that the API does not have; `guessed` is set if the API
    gave no readable reason and only the documented fields worked.
    """

    data: Mapping[str, msgspec.Raw]
    error: str = ""
    denied: bool = False
    missing: frozenset[str] = frozenset()
    guessed: bool = False

    def read(self, kind: type[R], skipped: Skipped) -> R:
        """Read the root fields; raise PollError without a required one."""
        values: dict[str, Any] = {}
        for field in fields_of(kind):
            try:
                values[field.name] = self.root(field.encode_name, field.type, skipped)
            except PollError:
                if field.required:
                    raise
                skipped.fields += self.data.get(field.encode_name, NULL) != NULL
        return kind(**values)

    def root(self, name: str, annotation: Any, skipped: Skipped) -> Any:
        """Read one root field; raise PollError if it is unusable."""
        raw = self.data.get(name, NULL)
        if raw == NULL and self.denied:
            raise PollError(Reason.AUTH, f'the token may not read "{name}": {self.error}')
        if raw == NULL:
            why = self.error or "null without an error"
            raise PollError(Reason.GRAPHQL, f'the API returns no "{name}": {why}')
        try:
            return reader(annotation)(raw, skipped)
        except UNREADABLE as error:
            text = f'"{name}" from the API cannot be decoded: {error}'
            raise PollError(Reason.GRAPHQL, text) from None


class _Envelope(msgspec.Struct):
    data: dict[str, msgspec.Raw] | None = None
    errors: Any = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)


class _RefusedError(PollError):
    """A query that does not fit the API's schema."""

    def __init__(self, error: str, messages: Sequence[str]) -> None:
        super().__init__(Reason.SCHEMA, error)
        self.messages = messages


class Client:
    """Runs the queries of one account, which is named in the log."""

    def __init__(self, endpoint: API, account: str = "") -> None:
        self._endpoint = endpoint
        self._extra = {"account": account} if account else {}
        self._transport = Transport(endpoint)

    def run(
        self, query: Query, token: str, missing: frozenset[str] = frozenset(), *, seconds: float
    ) -> Answer:
        """Run a query without the fields known to be missing; detect further missing ones.

        Returns within `seconds`. Raises a PollError when there is no usable data.
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
                    raise PollError(Reason.SCHEMA, text, retry_after=error.retry_after) from None
                missing |= learned
            else:
                return replace(answer, missing=missing, guessed=guessed)
        raise PollError(Reason.SCHEMA, f"the API refuses every form of the query {query.name}")

    def close(self) -> None:
        """Close the connection, which otherwise stays open for the next query."""
        self._transport.close()

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
    """Return the answer in a reply, or raise the PollError that describes it."""
    data, messages, broken = _decoded(reply.body)
    error = "; ".join(redacted(text, *hidden) for text in messages[:MAX_SHOWN])
    denied = any(map(_AUTH.search, messages))
    if data is None:
        raise _failure(reply.status, messages, error, broken)
    asked = f"{Root.graphql}.{AUTHENTICATED}" not in missing
    if asked and data.get(AUTHENTICATED) != _TRUE:
        why = error or "it gives no reason"
        raise PollError(Reason.AUTH, f"the API does not accept the token: {why}")
    return Answer(data, error, denied)


def _failure(status: int, messages: Sequence[str], error: str, broken: str) -> PollError:
    """Return the error for an answer without data; `broken` says why it is not JSON."""
    shown = f": {error}" if error else f" (HTTP {status})"
    if any(map(_UNKNOWN_FIELD.search, messages)):
        return _RefusedError(error, messages)
    # HTTP 403 without JSON is the page of a firewall.
    refused = status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.FORBIDDEN and not broken)
    if refused or any(map(_AUTH.search, messages)):
        return PollError(Reason.AUTH, f"the API refuses the token{shown}")
    invalid = status == HTTPStatus.BAD_REQUEST or any(map(_INVALID_QUERY.search, messages))
    if messages and invalid:
        return _RefusedError(error, messages)
    if status >= HTTPStatus.BAD_REQUEST and not messages:
        return PollError(Reason.HTTP_STATUS, f"the API answered with HTTP {status}")
    if broken:
        return PollError(Reason.NOT_JSON, f"the answer {broken}")
    return PollError(Reason.GRAPHQL, f"the API answers without data{shown}")


def _decoded(body: bytes) -> tuple[Mapping[str, msgspec.Raw] | None, list[str], str]:
    """Return the data and the errors of an answer, and why it is not JSON."""
    try:
        envelope = _ENVELOPE.decode(body)
        return envelope.data, _messages(envelope.errors), ""
    except msgspec.ValidationError:
        return None, [], ""
    except UNREADABLE as error:
        page = body.lstrip()[:1] == b"<"
        return None, [], "is an HTML page, not JSON" if page else f"is not JSON: {error}"


def _messages(errors: Any) -> list[str]:
    """Return the API's error messages, shortened, whatever form they have."""
    entries = errors if isinstance(errors, list) else [errors] if errors else []
    return list(dict.fromkeys(_message(entry)[:MAX_READ] for entry in entries[:MAX_ERRORS]))


def _message(error: Any) -> str:
    """Return the text of one error, followed by its code in parentheses."""
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
        # If the type was renamed, the field's name alone has to match.
        found |= {f"{match['type']}.{name}"} & named or named
    return frozenset(found)
