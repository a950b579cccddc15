"""What can go wrong between the exporter and BorgBase, as one tree.

::

    PollError                 reason        what happened
    ├── ConnectError          connect       no such host, refused, reset, cut short
    ├── TLSError              tls           the certificate or the handshake
    ├── DeadlineError         timeout       the poll's time was used up
    ├── HTTPStatusError       http_status   an error status without a GraphQL answer
    ├── RedirectError         redirect      the API points elsewhere; redirects are not followed
    ├── TooLargeError         too_large     more bytes than --api.max-response
    ├── NotJSONError          not_json      HTML, half a document, bytes of another kind
    ├── GraphQLError          graphql       the API answered with errors or with nothing
    │   └── UnknownFieldError schema        … about fields it does not have (any more)
    ├── AuthError             auth          the token is refused, or may not do this
    ├── TokenError            token         the token is missing or cannot be read
    └── InternalError         internal      a defect of the exporter

`reason` is the value of the label of the same name on borgbase_poll_failures_total.
"""

from __future__ import annotations

from typing import ClassVar, Self


class PollError(Exception):
    """A query without a usable answer; the text is fit for a log and holds no secret.

    `retry_after` is how long the API asked clients to stay away, in seconds.
    """

    reason: ClassVar[str]

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def without_frames(self) -> Self:
        """Return the error without its traceback and causes: their frames may hold an answer."""
        self.__context__ = self.__cause__ = None
        return self.with_traceback(None)


class ConnectError(PollError):
    reason = "connect"


class TLSError(PollError):
    reason = "tls"


class DeadlineError(PollError):
    reason = "timeout"


class HTTPStatusError(PollError):
    reason = "http_status"


class RedirectError(PollError):
    reason = "redirect"


class TooLargeError(PollError):
    reason = "too_large"


class NotJSONError(PollError):
    reason = "not_json"


class GraphQLError(PollError):
    reason = "graphql"


class UnknownFieldError(GraphQLError):
    reason = "schema"


class AuthError(PollError):
    reason = "auth"


class TokenError(PollError):
    reason = "token"


class InternalError(PollError):
    reason = "internal"


_KINDS: list[type[PollError]] = [*PollError.__subclasses__(), UnknownFieldError]
REASONS = tuple(kind.reason for kind in _KINDS)
"""Every value of the label `reason`."""
