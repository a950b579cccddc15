from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from borgbase_exporter.logs import WAITING, Formatter


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


@pytest.mark.parametrize("style", ["logfmt", "json"])
def test_terminal_control_characters_are_escaped(style: str) -> None:
    steering = "\x7f\x9b\u202e\u2028\x1b\u200b"
    line = Formatter(style).format(record(f"a{steering}b", account=f"c{steering}"))
    assert line.isprintable()


LOGS_TOO_MUCH = f"""
import logging
from borgbase_exporter.logs import Log
log = Log("info", "logfmt")
for number in range({3 * WAITING}):
    logging.info("record %d", number)
print("logged", flush=True)
if input() == "more":  # the reader has read what was kept
    logging.info("last")
log.end()
print("ended")
"""


@pytest.fixture
def process() -> Iterator[Any]:
    """Yield a program that has logged a lot, none of which has been read."""
    command, path = (sys.executable, "-c", LOGS_TOO_MUCH), os.pathsep.join(sys.path)
    environment, pipe = {**os.environ, "PYTHONPATH": path}, subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "logged\n"
        yield process


def test_a_log_that_nobody_reads_never_blocks_the_program(process: Any) -> None:
    print("no more", file=process.stdin, flush=True)
    assert process.stdout.readline() == "ended\n"


def test_dropped_records_are_counted(process: Any) -> None:
    kept = [process.stderr.readline() for _ in range(WAITING)]
    print("more", file=process.stdin, flush=True)
    rest = process.stderr.read().splitlines()
    assert kept[0].endswith('msg="record 0"\n')
    assert "log records were dropped" in rest[-2]
    assert rest[-1].endswith("msg=last")
