"""The files for GitHub are valid, pinned, and name what this tree has.

zizmor checks permissions, credentials and injections: .github/workflows/audit.yml.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.processes import ROOT, accepted
from tests.gotools import require_tool

GITHUB = ROOT / ".github"
WORKFLOWS = {path.stem: path for path in (GITHUB / "workflows").iterdir()}
PARSED: dict[str, Any] = {name: yaml.safe_load(p.read_text()) for name, p in WORKFLOWS.items()}
JOBS = {(flow, name): job for flow, it in PARSED.items() for name, job in it["jobs"].items()}
STEPS = [step for job in JOBS.values() for step in job.get("steps", [])]
FORMS = [p for p in (GITHUB / "ISSUE_TEMPLATE").iterdir() if p.name != "config.yml"]
USES = re.compile(r"^ *(?:- )?uses: (.+)$", re.MULTILINE)
PINNED = r"[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+"
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
PATH = re.compile(
    r"(?<![\w./-])((?:exporter|tests|bench|docs|deploy|dashboards|\.github)/[\w./-]*\w|requirements[\w-]*\.txt)"
)
PAGES = [
    *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md")),
    *(ROOT / "docs" / name for name in ("compatibility.md", "releasing.md")),
    GITHUB / "pull_request_template.md",
]


def test_actionlint_accepts_the_workflows() -> None:
    # Without shellcheck and pyflakes, which it would use where they happen to be installed.
    options = ("-no-color", "-oneline", "-shellcheck=", "-pyflakes=")
    assert accepted(require_tool("actionlint"), *options, *WORKFLOWS.values()) == ""


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("github-workflows", WORKFLOWS.values()),
        ("github-issue-forms", FORMS),
        ("github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
        ("renovate", [GITHUB / "renovate.json"]),
    ],
)
def test_each_file_has_its_readers_schema(schema: str, paths: Iterable[Path]) -> None:
    options = ("--builtin-schema", f"vendor.{schema}", *map(str, paths))
    assert accepted(sys.executable, "-m", "check_jsonschema", *options) == "ok -- validation done\n"


def test_actions_are_pinned_to_commits_and_say_which_version_that_is() -> None:
    named = [line for path in WORKFLOWS.values() for line in USES.findall(path.read_text())]
    commits = [line for line in named if re.fullmatch(PINNED, line)]

    assert [line for line in named if line not in commits and not line.startswith("./")] == []
    assert len({line.split("@")[0] for line in commits}) == len(set(commits))  # one version of each


def test_only_a_release_may_write() -> None:
    writing = {name for name, job in JOBS.items() if "write" in job["permissions"].values()}
    assert writing == {("release", name) for name in ("image", "chart", "pypi", "github")}
    for flow, name in writing:
        assert "ci" in _needed(flow, name)
    assert _needed("release", "ci") == {"verify"}


def _needed(flow: str, name: str) -> set[str]:
    """Return all the jobs that have to succeed before this one starts."""
    needs = JOBS[flow, name].get("needs", [])
    direct = {needs} if isinstance(needs, str) else set(needs)
    return direct.union(*(_needed(flow, other) for other in direct))


def test_every_promised_python_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    prefix = "Programming Language :: Python :: 3."
    promised = [c.rpartition(" ")[2] for c in project["classifiers"] if c.startswith(prefix)]

    assert project["requires-python"] == f">={promised[0]}"
    assert JOBS["ci", "test"]["strategy"]["matrix"]["python"] == promised
    assert JOBS["ci", "installed"]["strategy"]["matrix"]["python"] == promised
    for step in STEPS:
        if step.get("uses", "").startswith("actions/setup-python@"):
            assert step["with"]["python-version"] in {promised[-1], "${{ matrix.python }}"}


def test_workflows_and_pages_name_what_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    scripts = "\n".join(step["run"] for step in STEPS if "run" in step)
    pages = (code for page in PAGES for code in CODE.findall(page.read_text("utf-8")))
    paths = {path for text in (scripts, *pages) for path in PATH.findall(text)}

    made = set(re.findall(r"^ *make ([\w-]+)", scripts, re.MULTILINE))
    assert {"lint", "test", "test-go", "chart"} <= made <= targets
    assert paths >= {"requirements.txt", "deploy/helm/borgbase-exporter"}
    assert [path for path in paths if not (ROOT / path).exists()] == []
