"""The exposition of a fixed account, byte for byte, and what promtool reports about it."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.facts import GOLDEN, new_account
from tests.end_to_end.processes import ROOT, exporter, until
from tests.graphql import GraphQLApi
from tests.programs import require

RENEW = "RENEW_GOLDEN"  # set it to have the golden file written instead of compared

ABOUT_THIS_RUN = re.compile(
    r"^(?:# \w+ )?(?:process_|python_info|borgbase_exporter_build_info).*\n", re.MULTILINE
)
MOVING_VALUE = re.compile(r"^(borgbase_last_(?:poll|success)_\w+\{.*\}) .*$", re.MULTILINE)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The exporter's page after its first poll."""
    account = new_account(1, repos=12, well=False)
    with GraphQLApi([account]) as api:
        flags = ("--api.url", api.url, "--poll.interval", "6h")
        folder = tmp_path_factory.mktemp("exposition")
        with exporter(folder, *flags, BORGBASE_TOKEN=account.token) as running:
            until(lambda: running.get("/-/ready").status == 200, "the first poll has ended")
            yield running.get("/metrics").text


def test_the_text_is_the_golden_one(page: str) -> None:
    text = MOVING_VALUE.sub(r"\1 <moving>", ABOUT_THIS_RUN.sub("", page))
    if os.environ.get(RENEW):
        GOLDEN.write_text(text, "utf-8")

    assert text == GOLDEN.read_text("utf-8"), (
        f"the exposition is not {GOLDEN.name} any more; if that is meant, renew it: "
        f"{RENEW}=1 python -m pytest {Path(__file__).relative_to(ROOT)}"
    )


def test_promtool_reports_nothing(page: str) -> None:
    command = (require("promtool"), "check", "metrics")
    done = subprocess.run(command, input=page.encode(), capture_output=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
