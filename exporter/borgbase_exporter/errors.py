"""What can go wrong between the exporter and BorgBase, as one tree."""

from __future__ import annotations

from typing import ClassVar, Self


class PollError(Exception):
    """A query without a usable answer; the text is fit for a log and holds no secret.

    `retry_after` is how long the API asked clients to stay away, in seconds.
    """

    kinds: ClassVar[dict[str, type[PollError]]] = {}  # the errors by reason
    reason: ClassVar[str]  # the label of that name on borgbase_poll_failures_total

    def __init_subclass__(cls, *, reason: str | None = None) -> None:
        if reason:
            cls.reason = reason
            cls.kinds[reason] = cls

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def without_frames(self) -> Self:
        """Return the error without its traceback and causes: their frames may hold an answer."""
        self.__context__ = self.__cause__ = None
        return self.with_traceback(None)


class ConnectError(PollError, reason="connect"):
    """No such host, refused, reset, cut short."""


class TLSError(PollError, reason="tls"):
    """The certificate or the handshake."""


class DeadlineError(PollError, reason="timeout"):
    """The poll's time was used up."""


class HTTPStatusError(PollError, reason="http_status"):
    """An error status without a GraphQL answer."""


class RedirectError(PollError, reason="redirect"):
    """The API points elsewhere; redirects are not followed."""


class TooLargeError(PollError, reason="too_large"):
    """More bytes than --api.max-response."""


class NotJSONError(PollError, reason="not_json"):
    """A truncated document, HTML, or other bytes."""


class GraphQLError(PollError, reason="graphql"):
    """The API answered with errors or with nothing."""


class AuthError(PollError, reason="auth"):
    """The token is refused, or may not do this."""


class TokenError(PollError, reason="token"):
    """The token is missing or cannot be read."""


class InternalError(PollError, reason="internal"):
    """A defect of the exporter."""


class UnknownFieldError(GraphQLError, reason="schema"):
    """The API answered with errors about fields it does not have (any more)."""


REASONS = tuple(PollError.kinds)  # every value of the label `reason`
