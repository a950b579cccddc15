"""TLS that picks up new certificates without a restart."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any, Self

from borgbase_exporter.webconfig import TLS

log = logging.getLogger(__name__)


class FreshContext(ssl.SSLContext):
    """A server's context that makes each handshake with the certificates that are on disk.

    Files that are unfit, or only half written, leave the last good ones in use.
    """

    def __new__(cls, _tls: TLS) -> Self:
        """Return a context; its own settings are never used."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, tls: TLS) -> None:
        super().__init__()
        self._tls = tls
        self._stamp = _stamp(tls)
        self._current = tls.context()

    def configure(self, tls: TLS) -> None:
        """Serve with other settings from now on."""
        self._tls, self._stamp = tls, ()

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin a connection, as the event loop does."""
        stamp = _stamp(self._tls)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._current = self._tls.context()
            except (OSError, ValueError) as error:
                log.error("certificates cannot be used, the last good ones stay: %s", error)  # noqa: TRY400  # the traceback says no more
            else:
                log.info("new certificates are in use")
        return self._current.wrap_bio(*args, **kwargs)


def _stamp(tls: TLS) -> tuple[tuple[int, int, int] | None, ...]:
    """Return what tells whether the files have changed."""
    return tuple(_mark(path) for path in tls.files)


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
