"""The exposition of a fixed account, to the letter, and what promtool thinks of it."""

import gzip
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.facts import new_account
from tests.end_to_end.processes import ROOT, Answer, Running, exporter, until
from tests.graphql import GraphQLApi
from tests.programs import require

GOLDEN = Path(__file__).parent / "golden.txt"
RENEW = "RENEW_GOLDEN"
"""Set it to have the golden file written instead of compared."""

ABOUT_THIS_RUN = re.compile(
    r"^(?:# \w+ )?(?:process_|python_info|borgbase_exporter_build_info).*\n", re.MULTILINE
)
MOVING_VALUE = re.compile(r"^(borgbase_last_(?:poll|success)_\w+\{.*\}) .*$", re.MULTILINE)
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.fixture(scope="module")
def polled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An exporter after its first poll, hours before its second."""
    account = new_account(1, repos=12, well=False)
    with GraphQLApi([account]) as api:
        flags = ("--api.url", api.url, "--poll.interval", "6h")
        folder = tmp_path_factory.mktemp("exposition")
        with exporter(folder, *flags, BORGBASE_TOKEN=account.token) as running:
            until(lambda: running.get("/-/ready").status == 200, "the first poll has ended")
            yield running


def test_the_text_is_the_golden_one(polled: Running) -> None:
    text = ABOUT_THIS_RUN.sub("", polled.get("/metrics").text)
    text = MOVING_VALUE.sub(r"\1 <moving>", text)
    if os.environ.get(RENEW):
        GOLDEN.write_text(text, "utf-8")

    assert text == GOLDEN.read_text("utf-8"), (
        f"the exposition is not {GOLDEN.name} any more; if that is meant, renew it: "
        f"{RENEW}=1 python -m pytest {Path(__file__).relative_to(ROOT)}"
    )


def test_promtool_has_nothing_to_say(polled: Running) -> None:
    done = subprocess.run(
        [require("promtool"), "check", "metrics"],
        input=polled.get("/metrics").body,
        capture_output=True,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", OPENMETRICS),
        ("application/openmetrics-text;q=0.1,text/plain;q=0.5", TEXT),
    ],
)
def test_the_format_is_negotiated(polled: Running, accept: str, content_type: str) -> None:
    answer = polled.get("/metrics", Accept=accept)

    assert answer.headers["Content-Type"] == content_type
    assert answer.text.endswith("\n# EOF\n") == (content_type == OPENMETRICS)


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text"])
def test_both_formats_come_compressed_and_are_the_same(polled: Running, accept: str) -> None:
    zipped = polled.get("/metrics", Accept=accept, Accept_Encoding="gzip")
    plain = polled.get("/metrics", Accept=accept)

    assert (zipped.headers["Content-Encoding"], plain.headers["Content-Encoding"]) == ("gzip", None)
    assert _ours(gzip.decompress(zipped.body)) == _ours(plain.body)
    assert len(zipped.body) < len(plain.body) / 5


def test_both_formats_tell_the_same(polled: Running) -> None:
    text, openmetrics = (
        polled.get("/metrics", Accept=accept) for accept in (TEXT, "application/openmetrics-text")
    )

    assert _samples(text) == _samples(openmetrics) != []


def _ours(page: bytes) -> list[str]:
    return [line for line in page.decode().splitlines() if "borgbase_" in line]


def _samples(answer: Answer) -> list[str]:
    return [line for line in _ours(answer.body) if not line.startswith("#")]
