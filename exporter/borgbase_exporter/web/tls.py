"""Certificates that are renewed on disk without a restart."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from borgbase_exporter.settings.webfile import TLS

log = logging.getLogger(__name__)


class Certificates:
    """Gives each handshake a context made from the files that are on disk.

    Files that are unfit, or only half written, leave the last good context in use.
    """

    def __init__(self, tls: TLS) -> None:
        self._tls = tls
        self._stamp = _stamp(tls)
        self._context = tls.context()

    def configure(self, tls: TLS) -> None:
        """Use other settings from now on."""
        self._tls, self._stamp = tls, None

    def context(self) -> ssl.SSLContext:
        """Return the context for the next handshake."""
        stamp = _stamp(self._tls)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context = self._tls.context()
            except (OSError, ValueError) as error:
                log.error("certificates cannot be used, the last good ones stay: %s", error)  # noqa: TRY400  # the traceback says no more
            else:
                log.info("new certificates are in use")
        return self._context

    def allow(self, certificate: Mapping[str, Any]) -> bool:
        """Return whether a client may connect, by what `getpeercert()` returns."""
        return self._tls.allows(certificate)


def _stamp(tls: TLS) -> tuple[tuple[int, int, int] | None, ...] | None:
    """Return a value that is another one after the files have changed."""
    return tuple(_mark(path) for path in tls.files)


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
