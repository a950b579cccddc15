"""The report as output of plugins: for Nagios and its relatives, and for Checkmk.

The formats are those of the Monitoring Plugins' guidelines, and of Checkmk's local checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from borgbase_exporter.findings import facts
from borgbase_exporter.findings.problems import AGE, PLAN, QUOTA, Problem, Severity, worst
from borgbase_exporter.findings.report import AccountReport, RepoReport, Report
from borgbase_exporter.text import printable

OK, WARNING, CRITICAL, UNKNOWN = range(4)
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
STATUSES: dict[Severity | None, int] = {None: OK, "warning": WARNING, "critical": CRITICAL}
MOST_REPOS = 50
"""Of more repos Nagios gets no values: it reads 8 KiB of output."""
# Their meaning in performance data, in shells, or in the names of services.
_LABEL = str.maketrans(dict.fromkeys("'=|\"\\;`~!$%^&*<>?,()", "_"))
_TEXT = str.maketrans({"|": "¦", "\\": "/"})


class Value(NamedTuple):
    """One value of performance data, with the limits above which to warn and to be critical."""

    name: str
    amount: float
    unit: str
    limits: tuple[float, float] | None = None
    maximum: float | None = None

    def text(self, label: str, unit: str) -> str:
        """Return it as `label=value;warn;crit;min;max`."""
        numbers = [f"{limit:.0f}" for limit in self.limits or ()] or ["", ""]
        most = "" if self.maximum is None else f"{self.maximum:.0f}"
        return f"{label}={self.amount:.0f}{unit};{';'.join(numbers)};0;{most}".rstrip(";")


def status(report: Report) -> int:
    """Return the plugins' exit status; an account that could not be looked at is unknown."""
    found = STATUSES[worst(report.problems)]
    for account in report.accounts:
        found = _worse(found, _status(account))
    return found if report.accounts else _worse(found, UNKNOWN)


def _status(account: AccountReport) -> int:
    return STATUSES[worst(account.problems)] if account.seen else UNKNOWN


def _worse(one: int, other: int) -> int:
    return max(one, other, key=(OK, WARNING, UNKNOWN, CRITICAL).index)


def unknown(why: str, form: str) -> str:
    """Return the output for a report that cannot be had."""
    why = printable(why).translate(_TEXT)
    return f'3 "BorgBase" - {why}' if form == "checkmk" else f"BORGBASE UNKNOWN: {why}"


def nagios(report: Report) -> Iterator[str]:
    """Yield a line with the verdict and the values, then a line for each problem."""
    simulated = "SIMULATED DATA: " if report.simulated else ""
    every = [*report.problems, *(p for account in report.accounts for p in account.problems)]
    several = len(report.accounts) > 1
    first = f": {every[0].where}: {every[0].what}" if len(every) == 1 else ""
    summary = facts.summary(report)
    words = f"{simulated}{facts.verdict(report)[1]}{first}" + (f", {summary}" if summary else "")
    values = " ".join(_nagios_values(report))
    head = f"BORGBASE {WORDS[status(report)]}: {_said(words)}"
    yield f"{head} | {values}" if values else head
    yield from (_line(problem) for problem in report.problems)
    for account in report.accounts:
        prefix = f"account {account.name}: " if several else ""
        yield from (_line(problem, prefix) for problem in account.problems)


def _line(problem: Problem, prefix: str = "") -> str:
    advice = f" ({problem.advice})" if problem.advice else ""
    return _said(f"{problem.severity}: {prefix}{problem.where}: {problem.what}{advice}")


def _nagios_values(report: Report) -> Iterator[str]:
    repos = sum(len(account.repos or ()) for account in report.accounts)
    for account in report.accounts:
        for value in _account_values(account):
            yield value.text(f"'{_label(account.name)} {value.name}'", value.unit)
        for name, repo in _named(account.repos or ()) if repos <= MOST_REPOS else ():
            for value in _repo_values(repo, report.at):
                label = f"'{_label(account.name)}/{_label(name)} {value.name}'"
                yield value.text(label, value.unit)


def checkmk(report: Report) -> Iterator[str]:
    """Yield a line for each service: the exporter, each account, each repo."""
    if report.problems or not report.accounts:
        words = "; ".join(map(_line, report.problems)) or "there are no accounts"
        level = STATUSES[worst(report.problems)] if report.accounts else UNKNOWN
        yield f'{level} "BorgBase" - {words}'
    for account in report.accounts:
        simulated = "SIMULATED DATA: " if account.simulated else ""
        own = account.own_problems
        level = STATUSES[worst(own)] if account.seen else UNKNOWN
        said = "; ".join(map(_line, own)) or f"{facts.STATES[account.state]}"
        words = f"{simulated}{said}, {facts.repos(account)}"
        values = _account_values(account)
        yield _service(level, f"BorgBase {account.name}", values, words)
        for name, repo in _named(account.repos or ()):
            told = facts.of_repo(repo, report.at)
            bad = [problem for problem in account.problems if problem.repo_id == repo.id]
            said = f"{told.usage or 'unknown'} stored, last write {told.written}"
            words = f"{simulated}{'; '.join(map(_line, bad)) or said}"
            label = f"BorgBase {account.name} {name}"
            yield _service(STATUSES[repo.severity], label, _repo_values(repo, report.at), words)


def _service(level: int, name: str, values: Iterable[Value], words: str) -> str:
    metrics = "|".join(value.text(f"borgbase_{value.name}", "") for value in values)
    return f'{level} "{_label(name)}" {metrics or "-"} {_said(words)}'


def _account_values(account: AccountReport) -> Iterator[Value]:
    if account.repos is not None:
        yield Value("repos", len(account.repos), "")
    plan = account.account.plan if account.account else None
    limit = plan.limit if plan else None
    if account.usage is not None:
        limits = (limit * PLAN[0], limit * PLAN[1]) if limit else None
        yield Value("usage", account.usage, "B", limits, limit)


def _repo_values(repo: RepoReport, at: float) -> Iterator[Value]:
    if repo.usage is not None:
        limits = (repo.quota * QUOTA[0], repo.quota * QUOTA[1]) if repo.quota else None
        yield Value("usage", repo.usage, "B", limits, repo.quota)
    if repo.last_modified is not None:
        longest = repo.inactivity_limit
        limits = (longest * AGE[0], longest * AGE[1]) if longest else None
        yield Value("age", max(0.0, at - repo.last_modified), "s", limits)


def _named(repos: Sequence[RepoReport]) -> Iterator[tuple[str, RepoReport]]:
    """Yield repos with names that are unique: those of several repos with the id."""
    names = Counter(_label(repo.name) for repo in repos)
    for repo in repos:
        unique = names[_label(repo.name)] == 1
        yield repo.name if unique else f"{repo.name} {repo.id}", repo


def _label(text: str) -> str:
    return printable(text).translate(_LABEL)


def _said(text: str) -> str:
    return printable(text).translate(_TEXT)
