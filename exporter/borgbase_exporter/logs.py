"""The log: one line a record on standard error, as logfmt or JSON."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

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
        f"{key}={value if _BARE.fullmatch(value) else json.dumps(value, ensure_ascii=False)}"
        for key, value in fields.items()
    )


def set_up(level: str, style: str) -> None:
    """Send the log of everything to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(style))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # One line for each connection at level debug: of no use without the traffic itself.
    logging.getLogger("urllib3").setLevel(logging.WARNING)
