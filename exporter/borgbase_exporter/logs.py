"""The log: one line per record on standard error, as logfmt or JSON. It never blocks."""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import re
from datetime import UTC, datetime

from borgbase_exporter.text import printable

WAITING = 10_000
"""Records that wait while nobody reads standard error; further ones are dropped and counted."""
FLUSH_SECONDS = 0.2
"""How long the program's end waits for the last records to be written."""
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
    return " ".join(
        f"{key}={value if _BARE.fullmatch(value) else _quoted(value)}"
        for key, value in fields.items()
    )


def _quoted(value: str) -> str:
    # JSON escapes quotes and line breaks; what else could steer a terminal is replaced.
    return printable(json.dumps(value, ensure_ascii=False))


class _Queue(logging.handlers.QueueHandler):
    """Formats records where they are logged, and leaves the writing to another thread."""

    _dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record, or drop it when nobody reads the log."""
        try:
            if self._dropped:
                note = logging.makeLogRecord(
                    {"levelname": "WARNING", "msg": f"{self._dropped} log records were dropped"}
                )
                self.queue.put_nowait(self.prepare(note))
                self._dropped = 0
            self.queue.put_nowait(record)
        except queue.Full:
            self._dropped += 1


class Log:
    """The log of everything to standard error, at a level and in a style (logfmt or json)."""

    def __init__(self, level: str, style: str) -> None:
        waiting: queue.Queue[logging.LogRecord] = queue.Queue(WAITING)
        handler = _Queue(waiting)
        handler.setFormatter(Formatter(style))
        self._listener = logging.handlers.QueueListener(waiting, logging.StreamHandler())
        self._listener.start()  # a daemon thread
        logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
        # One line for each connection at level debug: of no use without the traffic itself.
        logging.getLogger("urllib3").setLevel(logging.WARNING)

    def flush(self) -> None:
        """Wait for the last records to be written, but not for a reader that does not read."""
        thread = self._listener._thread  # noqa: SLF001  # `stop` would wait for ever
        self._listener.enqueue_sentinel()
        if thread:
            thread.join(FLUSH_SECONDS)
