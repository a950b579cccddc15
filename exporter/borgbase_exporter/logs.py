"""The log: one line per record on standard error, as logfmt or JSON. It never blocks."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import re
import threading
from datetime import UTC, datetime

from borgbase_exporter.text import printable

WAITING = 10_000  # records kept while nobody reads standard error; others are dropped and counted
FLUSH_SECONDS = 0.2  # how long the program's end waits for the last records to be written
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_BARE = re.compile(r"[\w.:/@+-]+", re.ASCII)


class Formatter(logging.Formatter):
    """Writes a record's time, level, message and own fields."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self._write = json.dumps if style == "json" else _logfmt

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, a traceback included."""
        fields: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
        }
        fields |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return self._write({key: str(value) for key, value in fields.items()})


def _logfmt(fields: dict[str, str]) -> str:
    # JSON escapes quotes and line breaks; what else could steer a terminal is replaced.
    return " ".join(
        f"{key}={raw if _BARE.fullmatch(raw) else printable(json.dumps(raw, ensure_ascii=False))}"
        for key, raw in fields.items()
    )


class Log(logging.Handler):
    """The log of everything to standard error, at a level and in a style (logfmt or json)."""

    def __init__(self, level: str, style: str) -> None:
        super().__init__()
        self._waiting: queue.Queue[str] = queue.Queue(WAITING)
        self._dropped = 0
        self.setFormatter(Formatter(style))
        logging.basicConfig(level=level.upper(), handlers=[self], force=True)
        # At level debug it logs each connection, which is of no use without the traffic.
        logging.getLogger("urllib3").setLevel(logging.WARNING)
        # Records are formatted where they are logged; this thread writes them.
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, or drop it when nobody reads the log."""
        try:
            if self._dropped:
                dropped = f"{self._dropped} log records were dropped"
                fields = {"levelname": "WARNING", "msg": dropped}
                self._waiting.put_nowait(self.format(logging.makeLogRecord(fields)))
                self._dropped = 0
            self._waiting.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1

    def _write(self) -> None:
        # By number: the lock of sys.stderr would block the end of the process as well.
        while line := self._waiting.get():
            rest = f"{line}\n".encode(errors="backslashreplace")
            with contextlib.suppress(OSError):
                while rest:
                    rest = rest[os.write(2, rest) :]

    def end(self) -> None:
        """Write the last records and end, but do not wait for a reader that does not read."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait("")
        self._writer.join(FLUSH_SECONDS)
