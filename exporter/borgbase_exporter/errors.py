"""What can go wrong between the exporter and BorgBase."""

from __future__ import annotations

from enum import StrEnum, auto
from typing import Self


class Reason(StrEnum):
    """Why a query has no usable answer: the label `reason` of borgbase_poll_failures_total."""

    CONNECT = auto()  # no such host, refused, reset, cut short
    TLS = auto()  # the certificate or the handshake
    TIMEOUT = auto()  # the poll's time was used up
    HTTP_STATUS = auto()  # an error status without a GraphQL answer
    REDIRECT = auto()  # the API points elsewhere; redirects are not followed
    TOO_LARGE = auto()  # more bytes than --api.max-response
    NOT_JSON = auto()  # a truncated document, HTML, or other bytes
    GRAPHQL = auto()  # the API answered with errors or with nothing
    AUTH = auto()  # the token is refused, or may not do this
    TOKEN = auto()  # the token is missing or cannot be read
    INTERNAL = auto()  # a defect of the exporter
    SCHEMA = auto()  # the API answered with errors about fields that it does not have (any more)


REASONS = tuple(reason.value for reason in Reason)
DEFECT = "a defect of the exporter; its log has the details"  # the text for Reason.INTERNAL


class PollError(Exception):
    """A query without a usable answer; the text is fit for a log and holds no secret."""

    def __init__(self, reason: Reason, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason.value
        self.retry_after = retry_after  # seconds that the API asked clients to stay away

    def without_frames(self) -> Self:
        """Return the error without its traceback and causes: their frames may hold an answer."""
        self.__context__ = self.__cause__ = None
        return self.with_traceback(None)


class TokenError(PollError):
    """The token is missing or cannot be read."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.TOKEN, message)
