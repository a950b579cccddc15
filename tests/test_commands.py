"""What the documentation says to type works, and prints what it is said to print."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from borgbase_exporter.collectors import COLLECTORS
from borgbase_exporter.config import TOKEN_VARIABLE, options
from tests.commands import PROGRAM, ROOT
from tests.commands.neighbours import Neighbours, neighbours
from tests.commands.pages import BLOCKS, PAGES, SHELL, Block, Step, spans, steps
from tests.commands.sandbox import Machine, missing_line
from tests.commands.standins import REAL, WRONG, journalctl, systemctl
from tests.commands.words import WrongError, own
from tests.end_to_end.processes import EXPORTER, environment

VARIABLES = {
    "docs/runbooks/": {"BORGBASE_TOKEN_FILE": "token"},
    "docs/troubleshooting.md": {"BORGBASE_TOKEN_FILE": "token"},
}
"""Pages that are read where the exporter has its settings."""

Sessions = Mapping[str, Future[str | None]]


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    text = "\n".join(block.text for block in BLOCKS)
    with neighbours(tmp_path_factory.mktemp("beside"), text) as running:
        yield running


@pytest.fixture(scope="module")
def sessions(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, beside: Neighbours
) -> Iterator[Sessions]:
    """Play the pages that were asked for, as many at a time as there are cores."""
    asked = [
        str(item.callspec.params["page"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_the_commands_work"
    ]

    def play(page: str, folder: Path) -> str | None:
        variables = (v for prefix, v in VARIABLES.items() if page.startswith(prefix))
        todo = [step for block in BLOCKS if block.page == page for step in steps(block)]
        if any(":9090" in step.text for step in todo):
            beside.scraped()
        return Machine(folder, beside.scene, beside.curl).play(todo, next(variables, {}))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {page: pool.submit(play, page, tmp_path_factory.mktemp("page")) for page in asked}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.page == p and b.language in SHELL for b in BLOCKS)]
)
def test_the_commands_work(sessions: Sessions, page: str) -> None:
    text = "\n".join(block.text for block in BLOCKS if block.page == page)
    used = [name for name in REAL.split() if re.search(rf"(^|[ (]){name} ", text, re.MULTILINE)]
    if missing := [name for name in used if not shutil.which(name)]:
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop(f"not on this machine: {', '.join(missing)}")
    if wrong := sessions[page].result():
        pytest.fail(wrong, pytrace=False)


SPANS = [
    *((f"{page}:{line}", span) for page in PAGES for line, span in spans(page)),
    *(
        (block.place, command)
        for block in BLOCKS
        if block.language not in SHELL
        for command in re.findall(rf"\b{PROGRAM} (?:check|serve|backfill|textfile)\b.*", block.text)
    ),
]
"""Commands and the like in the text, and in files such as a crontab."""
OPTIONS = options({collector.name: "" for collector in COLLECTORS})
KNOWN = {TOKEN_VARIABLE, *(name for o in OPTIONS for name in (o.flag, o.negative, o.variable))}
OF_OTHERS = {"--web.enable-admin-api", "--collector.textfile.directory"}
"""Flags of Prometheus and node_exporter that look like ours."""


def test_commands_in_the_text_are_right() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wrong = []
    for place, span in SPANS:
        if place.startswith("CHANGELOG"):  # it tells of the past
            continue
        ours = re.match(rf"(make|systemctl|journalctl|{PROGRAM}) ", span)
        match shlex.split(span) if ours else []:
            case ["make", target, *_] if "=" not in target and target not in targets:
                wrong.append(f"{place}: {span}: no such target")
            case [program, *words] if program == PROGRAM:
                wrong += _faults(place, own, _completed(words), {})
            case ["systemctl", *words]:
                wrong += _faults(place, systemctl, None, words)
            case ["journalctl", *words]:
                wrong += _faults(place, journalctl, None, words)
    assert not wrong, "\n".join(wrong)


def _faults(place: str, check: Callable[..., object], *arguments: object) -> list[str]:
    try:
        check(*arguments)
    except WrongError as fault:
        return [f"{place}: {fault}"]
    return []


def test_flags_and_variables_are_ours() -> None:
    named = re.compile(
        r"(?<![\w-])--(?:no-)?(?:web|poll|token|api|log|collector)\.[\w.-]*\w|BORGBASE_\w+"
    )
    wrong = [
        f"{place}: {name}"
        for place, text in (*SPANS, *((block.place, block.text) for block in BLOCKS))
        if not place.startswith("CHANGELOG") and "did you mean" not in text
        for name in named.findall(text)
        if name not in KNOWN | OF_OTHERS and not name.endswith(("NAME", "_"))
    ]
    assert not wrong, "\n".join(wrong)


def _completed(words: list[str]) -> list[str]:
    """Give a command that is only named what it cannot do without."""
    if words == ["backfill"] or (words[0] == "backfill" and "--output" not in " ".join(words)):
        return [*words, "--output", "history.om"]
    if words == ["textfile"]:
        return [*words, "/folder/borgbase.prom"]
    return words


@pytest.mark.parametrize(
    "block", [pytest.param(b, id=b.place) for b in BLOCKS if b.text.startswith("Account ")]
)
def test_the_shown_report_is_what_check_prints(block: Block) -> None:
    done = subprocess.run(
        [*EXPORTER, "check", "--demo"],
        env=environment(COLUMNS="200"),
        capture_output=True,
        text=True,
        check=False,
    )
    # Times, ages and sizes change by the day.
    missing = missing_line(_without_numbers(block.text), _without_numbers(done.stdout))
    assert missing is None, f"{block.place}: not in what `check` prints: {missing}\n{done.stdout}"


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+(?:[.,-]\d+)*", "#", text)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, beside: Neighbours) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"), beside.scene, beside.curl)


COMPOSE = """
services: {exporter: {image: borgbase-exporter}, prometheus: {image: prom/prometheus}}
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("true\nfalse && true\ntrue", "page.md:2: exit status 1"),
        ("true  # exit status 1", "page.md:1: exit status 0"),
        ("false # exit status 1\nfalse", "page.md:2: exit status 1"),
        ("exit 0", "page.md:1: exit status 0"),
        ('echo "$NOT_SET"', "page.md:1: exit status 1"),
        ("nosuchprogram --version", "page.md:1: exit status 127"),
        ("make nosuchtarget", "page.md:1: exit status 2"),
        (f"{PROGRAM} check --token.fil token", "page.md:1: exit status 2"),
        ("curl http://example.org", "page.md:1: exit status 7"),
        ("curl localhost:9999", "page.md:1: exit status 7"),
    ],
)
def test_what_fails_is_told(machine: Machine, text: str, told: str) -> None:
    wrong = machine.play(list(steps(Block("page.md", 1, "sh", "", text))), {})

    assert wrong
    assert wrong.startswith(f"{told}\n")


@pytest.mark.parametrize(
    "text",
    [
        f"{PROGRAM} --no-such-flag",
        f"{PROGRAM} serve --demo --web.listen-address localhost",
        f"BORGBASE_POLL_INTERVALL=5m {PROGRAM} --demo",
        "python -m tests.nosuchmodule",
        "pip install ./nowhere",
        "sudo -u root chown root: nowhere",
        "systemctl enable nosuchunit",
        "systemctl enabel prometheus",
        "docker biuld .",
        "docker build nowhere",
        "docker build --build-arg NO_SUCH=1 .",
        "docker run --read-onyl borgbase-exporter",
        "docker run borgbase-exporter --no-such-flag",
        "docker run -e BORGBASE_TOKEM borgbase-exporter",
        "docker run -v ./nowhere:/tokens borgbase-exporter",
        "docker compose up",
        "docker compose -f compose.yaml logs nobody",
        "docker compose -f compose.yaml run exporter chekc",
        "docker compose -f compose.yaml cp nowhere prometheus:/",
        "kubectl aply -f token",
        "kubectl apply -f nowhere.yaml",
        "echo a | kubectl apply -f -",
        "docker exec borgbase-exporter sh",
        "docker compose -f compose.yaml exec exporter borgbase-exporter check",
        "kubectl exec deploy/borgbase-exporter -- borgbase-exporter check",
        "kubectl exec deploy/borgbase-exporter -- python3 -m borgbase_exporter chekc",
        "helm instal x ./deploy/helm/borgbase-exporter",
        "helm template x ./nowhere",
        "helm template x ./deploy/helm/borgbase-exporter --values nowhere.yaml",
    ],
)
def test_what_cannot_work_is_told_by_the_stand_in(machine: Machine, text: str) -> None:
    (machine.work / "compose.yaml").write_text(COMPOSE)
    (step,) = steps(Block("page.md", 1, "sh", "", text))
    absent = Step(step.place, "cd deploy") if text == "docker compose up" else Step("", "true")

    wrong = machine.play([absent, step], {})

    assert wrong
    assert wrong.startswith(f"page.md:1: exit status {WRONG}\n")


def test_what_works_is_not(machine: Machine) -> None:
    (machine.work / "compose.yaml").write_text(COMPOSE)
    text = """
curl -s localhost:10133/metrics http://127.0.0.1:10133 localhost:9090 http://localhost:9093
curl -s https://example.org/ https://api.borgbase.com/graphql
docker compose run --rm exporter check --account home && docker compose cp token prometheus:/data
docker run -d --read-only -v "$PWD/token:/token:ro" borgbase-exporter --token.file /token
kubectl create secret generic a --from-file=home=token --dry-run=client -o yaml | kubectl apply -f -
borgbase-exporter --demo --web.listen-address :10133 && make run check BORGBASE_TOKEN_FILE=token
helm upgrade --install x deploy/helm/borgbase-exporter --set tokens.existingSecret=x
prometheus --config.file=deploy/prometheus/prometheus.yml --storage.tsdb.path=data
alertmanager --config.file=deploy/alertmanager/alertmanager.yml --storage.path=data
echo a >/etc/made && sudo install -m 600 -o root token /usr/local/bin/made
"""
    if wrong := machine.play(list(steps(Block("page.md", 1, "sh", "", text))), {}):
        pytest.fail(wrong, pytrace=False)
    made = {path.relative_to(machine.root).as_posix() for path in machine.root.rglob("made")}
    assert made == {"etc/made", "usr/local/bin/made"}


def test_a_block_with_a_name_is_a_file(machine: Machine) -> None:
    named = Block("page.md", 1, "yaml", "/etc/prometheus/a.yml", "scrape_configs: []\n")
    shell = Block("page.md", 5, "sh", "", "promtool check config /etc/prometheus/a.yml\n")

    assert machine.play([*steps(named), *steps(shell)], {}) is None


def test_what_is_not_printed_is_told(machine: Machine) -> None:
    block = Block("page.md", 1, "console", "", "$ echo a\nb\n$ echo c\nc\n$ echo d\ne\n")

    wrong = machine.play(list(steps(block)), {})

    assert wrong
    assert re.findall(r"^page.*", wrong, re.MULTILINE) == [
        "page.md:1: not printed: b",
        "page.md:5: not printed: e",
    ]
