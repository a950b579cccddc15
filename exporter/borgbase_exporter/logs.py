"""The log: one line per record on standard error, as logfmt or JSON. It never blocks."""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import re
from collections import OrderedDict
from datetime import UTC, datetime

from borgbase_exporter.text import printable

WAITING = 10_000
"""Records that wait while nobody reads standard error; further ones are dropped and counted."""
FLUSH_SECONDS = 0.2
SPARING_SECONDS = 60.0
"""How often the same message of a library may be logged."""
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
