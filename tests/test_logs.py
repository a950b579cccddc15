from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

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
def test_characters_that_steer_a_terminal_never_reach_it_raw(style: str) -> None:
    steering = "\x7f\x9b\u202e\u2028\x1b\u200b"
    line = Formatter(style).format(record(f"a{steering}b", account=f"c{steering}"))
    assert line.isprintable()


LOGS_TOO_MUCH = f"""
import logging
from borgbase_exporter.logs import Log
log = Log("info", "logfmt")
for number in range({3 * WAITING}):
    logging.info("record %d", number)
log.end()
print("ended")
"""


def test_a_log_that_nobody_reads_never_blocks_the_program() -> None:
    reader, writer = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", LOGS_TOO_MUCH],
            stderr=writer,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=60,
            check=True,
        )
    finally:
        os.close(writer)
        os.close(reader)
    assert done.stdout == b"ended\n"


LOGS_AGAIN = f"""
{LOGS_TOO_MUCH.partition("log.end()")[0]}
print("logged", flush=True)
input()  # until the reader has read what was kept
logging.info("last")
log.end()
"""


def test_dropped_records_are_counted() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOGS_AGAIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "logged\n"
        kept = [process.stderr.readline() for _ in range(WAITING)]
        process.stdin.write("\n")
        process.stdin.close()
        rest = process.stderr.read().splitlines()
    assert kept[0].endswith('msg="record 0"\n')
    assert "log records were dropped" in rest[-2]
    assert rest[-1].endswith("msg=last")
