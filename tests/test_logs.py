from __future__ import annotations

import json
import logging
import sys

from borgbase_exporter.logs import Formatter


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"msg": message, "levelno": logging.WARNING, "levelname": "WARNING", "created": 1.5}
    )
    vars(made).update(extra)
    return made


def test_logfmt_quotes_what_needs_it() -> None:
    line = Formatter("logfmt").format(record('say "hi"\n', account="a b", reason="auth", empty=""))
    assert line == (
        "ts=1970-01-01T00:00:01.500+00:00 level=warning "
        r'msg="say \"hi\"\n" account="a b" reason=auth empty=""'
    )


def test_json_holds_the_same() -> None:
    line = Formatter("json").format(record("hello", account="ä"))
    assert json.loads(line) == {
        "ts": "1970-01-01T00:00:01.500+00:00",
        "level": "warning",
        "msg": "hello",
        "account": "ä",
    }


def test_a_traceback_stays_on_the_records_line() -> None:
    made = record("broken")
    try:
        raise ValueError("deep inside")
    except ValueError:
        made.exc_info = sys.exc_info()
    line = Formatter("logfmt").format(made)
    assert "\n" not in line
    assert "deep inside" in line
