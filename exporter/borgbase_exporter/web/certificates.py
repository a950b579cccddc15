"""Certificates that are renewed on disk without a restart."""

from __future__ import annotations

import logging
import ssl

from borgbase_exporter.settings.webfile import TLS

log = logging.getLogger(__name__)


class Certificates:
    """Contexts of the files on disk; the last good one is used while those cannot be used."""

    def __init__(self, tls: TLS) -> None:
        self.tls, self._stamps, self._context = tls, _stamps(tls), tls.context()

    def context(self) -> ssl.SSLContext:
        """Return the context for the next handshake."""
        try:
            if (stamps := _stamps(self.tls)) != self._stamps:
                self._context, self._stamps = self.tls.context(), stamps
                log.info("new certificates are in use")
        except (OSError, ValueError) as error:
            log.error("certificates cannot be used, the last good ones remain in use: %s", error)  # noqa: TRY400  # the traceback says no more
        return self._context


def _stamps(tls: TLS) -> list[object]:
    """Return a value that changes with settings and files; raise OSError if a file is missing."""
    files = [path.stat() for path in tls.files]
    return [tls, *((file.st_mtime_ns, file.st_size, file.st_ino) for file in files)]
