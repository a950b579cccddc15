"""The report as plugin output, by the Monitoring Plugins' guidelines and for Checkmk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from borgbase_exporter.findings import facts
from borgbase_exporter.findings.problems import AGE, PLAN, QUOTA, Problem, Severity, worst
from borgbase_exporter.findings.report import Report
from borgbase_exporter.text import printable

OK, WARNING, CRITICAL, UNKNOWN = range(4)
ORDER = (OK, WARNING, UNKNOWN, CRITICAL)
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
STATUSES: dict[Severity | None, int] = {None: OK, "warning": WARNING, "critical": CRITICAL}
MOST_REPOS = 50  # values of more repos are left out: Nagios reads 8 KiB
# These characters are special in performance data, in shells, or in names of services.
_LABEL = str.maketrans(dict.fromkeys("'=|\"\\;`~!$%^&*<>?,()", "_"))
_TEXT = str.maketrans({"|": "¦", "\\": "/"})


class Value(NamedTuple):
    """One value of performance data; `limits` are shares of `whole`."""

    name: str
    amount: float | None
    unit: str = ""
    whole: float | None = None
    limits: tuple[float, float] = (0, 0)

    def text(self, label: str, unit: str) -> str:
        """Return it as `label=value;warn;crit;min;max`; "" where it is unknown."""
        if self.amount is None:
            return ""
        limits = [f"{self.whole * share:.0f}" if self.whole else "" for share in self.limits]
        most = f"{self.whole:.0f}" if self.whole and self.unit == "B" else ""
        return f"{label}={self.amount:.0f}{unit};{';'.join(limits)};0;{most}".rstrip(";")


class Service(NamedTuple):
    """The exporter, an account of it, or a repo of an account, by its path of names."""

    level: int
    path: tuple[str, ...]
    words: str
    values: tuple[Value, ...] = ()


def status(report: Report) -> int:
    """Return the plugins' exit status; an account that could not be polled is unknown."""
    return max((service.level for service in _services(report)), key=ORDER.index)


def unknown(why: str, form: str) -> str:
    """Return the output where there is no report."""
    start = '3 "BorgBase" -' if form == "checkmk" else "BORGBASE UNKNOWN:"
    return f"{start} {_said(why)}"


def nagios(report: Report) -> Iterator[str]:
    """Yield a line with the verdict and the values, then a line for each problem."""
    simulated = "SIMULATED DATA: " if report.simulated else ""
    problems = [problem for _, problem in report.every]
    first = f": {problems[0].where}: {problems[0].what}" if len(problems) == 1 else ""
    summary = f", {words}" if (words := facts.summary(report)) else ""
    few = len(report.repos) <= MOST_REPOS
    values = [
        value.text(f"'{'/'.join(map(_label, service.path))} {value.name}'", value.unit)
        for service in _services(report)
        if len(service.path) == 1 or few
        for value in service.values
    ]
    words = _said(f"{simulated}{facts.verdict(report)[1]}{first}{summary}")
    head = f"BORGBASE {WORDS[status(report)]}: {words}"
    yield f"{head} | {' '.join(filter(None, values))}" if any(values) else head
    for name, problem in report.every:
        yield _line(problem, f"account {name}: " if name and len(report.accounts) > 1 else "")


def checkmk(report: Report) -> Iterator[str]:
    """Yield a line for each service."""
    for level, path, words, values in _services(report):
        name = _label(" ".join(("BorgBase", *path)))
        known = (value.text(f"borgbase_{value.name}", "") for value in values)
        metrics = "|".join(filter(None, known))
        yield f'{level} "{name}" {metrics or "-"} {_said(words)}'


def _services(report: Report) -> Iterator[Service]:
    """Yield the exporter where it has problems, then each account, followed by its repos."""
    if report.problems or not report.accounts:
        levels = STATUSES[worst(report.problems)], OK if report.accounts else UNKNOWN
        words = "; ".join(map(_line, report.problems)) or "there are no accounts"
        yield Service(max(levels, key=ORDER.index), (), words)
    for account in report.accounts:
        simulated = "SIMULATED DATA: " if account.simulated else ""
        level = STATUSES[account.severity] if account.seen else UNKNOWN
        words = "; ".join(map(_line, account.own_problems)) or account.state
        words = f"{simulated}{words}, {facts.repos(account)}"
        plan = account.account.plan if account.account else None
        usage = Value("usage", account.usage, "B", plan.limit if plan else None, PLAN)
        repos = Value("repos", None if account.repos is None else len(account.repos))
        yield Service(level, (account.name,), words, (repos, usage))
        names = Counter(_label(repo.name) for repo in account.repos or ())
        for repo in account.repos or ():
            name = repo.name if names[_label(repo.name)] == 1 else f"{repo.name} {repo.id}"
            stored, _, _, written, *_ = facts.of_repo(repo, report.at)
            bad = [problem for problem in account.problems if problem.repo_id == repo.id]
            words = f"{stored.text or 'unknown'} stored, last write {written.text}"
            words = f"{simulated}{'; '.join(map(_line, bad)) or words}"
            usage = Value("usage", repo.usage, "B", repo.quota, QUOTA)
            since = None if written.moment is None else max(0.0, report.at - written.moment)
            age = Value("age", since, "s", repo.inactivity_limit, AGE)
            yield Service(STATUSES[repo.severity], (account.name, name), words, (usage, age))


def _line(problem: Problem, prefix: str = "") -> str:
    advice = f" ({problem.advice})" if problem.advice else ""
    return _said(f"{problem.severity}: {prefix}{problem.where}: {problem.what}{advice}")


def _label(text: str) -> str:
    return printable(text).translate(_LABEL)


def _said(text: str) -> str:
    return printable(text).translate(_TEXT)
