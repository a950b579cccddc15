"""`check`: look at the accounts once, or at what a running exporter knows, and print the report.

Exit statuses: 0 all is well, 1 problems, 3 an account could not be looked at. In the formats of
plugins 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import click
import msgspec
import requests

from borgbase_exporter import __version__
from borgbase_exporter.api import history
from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.client import Client
from borgbase_exporter.commands.main import make_poller
from borgbase_exporter.commands.oneshot import INTERRUPTED, at_once, interruptible, replacing
from borgbase_exporter.errors import InternalError, PollError, TokenError
from borgbase_exporter.findings import plugins, shape, terminal
from borgbase_exporter.findings import report as reports
from borgbase_exporter.findings.comparisons import DailyUnit
from borgbase_exporter.findings.problems import ADVICE, Problem
from borgbase_exporter.findings.report import Extra, Report
from borgbase_exporter.metrics.samples import calibrate
from borgbase_exporter.model import AccountStatus, RepoList
from borgbase_exporter.settings import PROGRAM, Check
from borgbase_exporter.tokens import AccountTokens, TokenFolder, TokenSource

log = logging.getLogger(__name__)

PROBLEMS, UNSEEN = 1, 3
SAMPLE = 10
"""How many repos' daily values to ask for: of the largest, which were rounded by the least."""
CHUNK = 64 * 1024


class UnseenError(Exception):
    """There is no report; the text says why."""


def run(settings: Check) -> int:
    """Look, print, and return the exit status."""
    try:
        with interruptible():
            report = _fetched(settings) if settings.source else Look(settings).report()
            return _printed(report, settings.format)
    except UnseenError as error:
        if settings.format in {"nagios", "checkmk"}:
            click.echo(plugins.unknown(str(error), settings.format))
        else:
            click.echo(f"{PROGRAM}: {error}", err=True)
        return UNSEEN
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        _give_up_printing(error)
        return UNSEEN


# ---- Looking


@dataclass
class Look:
    """One look at every account."""

    settings: Check
    accounts: dict[str, AccountStatus] = field(default_factory=dict)
    extras: dict[str, Extra] = field(default_factory=dict)
    shapes: dict[str, Any] = field(default_factory=dict)

    def report(self) -> Report:
        """Poll all accounts; write the file of --report."""
        tokens = self.settings.tokens
        assert tokens  # noqa: S101  # missing with --from only
        try:
            sources: Mapping[str, TokenSource] = tokens.sources()
            known = list(_folder_problems(tokens, sources))
        except TokenError as error:
            sources = {}
            known = [Problem("critical", "token folder", str(error), ADVICE["token"])]
        with _progress("Asking BorgBase", len(sources)) as advance:
            jobs = [_job(self._look, name, source, advance) for name, source in sources.items()]
            at_once(jobs)
        statuses = [self.accounts[name] for name in sources]
        report = reports.report(statuses, time.time(), known=known, extras=self.extras)
        if self.settings.report:
            _write_shapes(self.settings.report, report, self.shapes)
        return report

    def _look(self, account: str, source: TokenSource) -> None:
        """Poll an account and see what else can be found out."""
        poller = make_poller(self.settings, account, source)
        problems, daily = list(_exposure(source)), None
        try:
            status = poller.poll()
            if repos := status.snapshot.repos:
                # It is an extra: the poll has reported what keeps it from being known.
                with contextlib.suppress(PollError):
                    daily = self._daily_unit(repos, source.read())
            if self.settings.report:
                self.shapes[account] = self._shapes(status, source)
        except Exception:
            log.exception("a defect, please report it", extra={"account": account})
            what = "a defect of the exporter; its log has the details"
            problems.append(Problem("critical", "check", what, ADVICE[InternalError.reason]))
        self.accounts[account] = poller.status
        self.extras[account] = Extra(source.origin, tuple(problems), daily)

    def _daily_unit(self, repos: RepoList, token: str) -> DailyUnit | None:
        """Find the unit of the daily values; raise PollError when there are none."""
        largest = sorted(repos.repos, key=lambda repo: repo.usage or 0, reverse=True)[:SAMPLE]
        if not largest:
            return None
        query = history.usage([repo.id for repo in largest])
        client = Client(self.settings.api)
        answer = client.run(query, token, seconds=self.settings.poll.timeout)
        days = [history.usage_days(answer, number) for number in range(len(largest))]
        found = calibrate(
            (known[max(known)], repo.usage)
            for known, repo in zip(days, largest, strict=True)
            if known and repo.usage
        )
        return DailyUnit(found.unit if found.convincing else None, found.fits, found.compared)

    def _shapes(self, status: AccountStatus, source: TokenSource) -> dict[str, Any]:
        """Ask once more, and keep the shape of the answers."""
        found: dict[str, Any] = {}
        queries = [words for area in AREAS for words in (area.query.text(), *area.query.names)]
        for area in AREAS:
            if (collector := status.collectors.get(area.name)) is None:
                continue
            seen: dict[str, Any] = {"success": collector.success}
            seen["fields_that_the_api_lacks"] = sorted(collector.gaps | collector.missing)
            seen["entries_unreadable"] = collector.skipped
            seen["fields_unreadable"] = collector.fields_skipped
            try:
                client, asked = Client(self.settings.api), area.query.text(collector.missing)
                answer = client.run(
                    area.query, source.read(), collector.missing, seconds=self.settings.poll.timeout
                )
                data = {name: msgspec.json.decode(raw) for name, raw in answer.data.items()}
                seen["fields"] = shape.of_answer(data, asked)
                seen["error"] = shape.of_error(answer.error, queries)
            except PollError as error:
                seen["reason"] = error.reason
                seen["error"] = shape.of_error(str(error), queries)
            found[area.name] = seen
        return found


def _job(
    look: Callable[[str, TokenSource], None],
    account: str,
    source: TokenSource,
    advance: Callable[[], None],
) -> Callable[[], None]:
    def job() -> None:
        look(account, source)
        advance()

    return job


def _write_shapes(path: Path, report: Report, shapes: Mapping[str, Any]) -> None:
    """Write what a maintainer needs to see, without anything that is the account's."""
    document = {
        "version": __version__,
        "python": platform.python_version(),
        "accounts": [
            {
                "collectors": shapes.get(account.name, {}),
                "comparisons": [
                    {"subject": one.subject, "ratio": one.other and one.listed / one.other}
                    for one in account.comparisons
                ],
                "daily": account.daily,
            }
            for account in report.accounts
        ],
    }
    try:
        with replacing(path) as file:
            file.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    except OSError as error:
        raise UnseenError(f"{path}: cannot be written: {error.strerror}") from None


def _exposure(source: TokenSource) -> Iterator[Problem]:
    if source.exposed:
        what = f"{source.origin} can be read by other users"
        yield Problem("warning", "token", what, "chmod 600 it, or 640 for a group of its own")


def _folder_problems(
    tokens: AccountTokens, sources: Mapping[str, TokenSource]
) -> Iterator[Problem]:
    """Yield what is wrong with a folder of token files, if that is where the tokens are."""
    if not isinstance(tokens, TokenFolder):
        return
    folder = tokens.origin
    if not sources:
        advice = "put a file into it for each account, named after the account"
        yield Problem("critical", "token folder", f"{folder} has no token files", advice)


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal's standard error; yield a function that advances it by one."""
    hidden = not (sys.stderr and sys.stderr.isatty())
    with click.progressbar(length=total, label=what, file=sys.stderr, hidden=hidden) as bar:
        yield lambda: bar.update(1)


# ---- Asking a running exporter


def _fetched(settings: Check) -> Report:
    """Return the report of the exporter at --from; raise UnseenError without its password."""
    given = urlsplit(settings.source or "")
    netloc = given.netloc.rpartition("@")[2]
    path = given.path if given.path.endswith(".json") else f"{given.path.rstrip('/')}/status.json"
    url = urlunsplit((given.scheme, netloc, path, "", ""))
    user = (
        (unquote(given.username or ""), unquote(given.password or "")) if given.username else None
    )
    ends = time.monotonic() + settings.poll.timeout
    with requests.Session() as session:
        session.trust_env = False  # neither a proxy nor ~/.netrc is meant for the exporter
        try:
            answer = session.get(
                url,
                auth=user,
                timeout=settings.poll.timeout,
                verify=str(settings.api.ca_file) if settings.api.ca_file else True,
                allow_redirects=False,
                stream=True,
            )
            if answer.status_code != requests.codes.ok:
                raise UnseenError(f"{url}: {_why(answer.status_code)}")
            body = b""
            for chunk in answer.iter_content(CHUNK):
                body += chunk
                if len(body) > settings.api.max_response or time.monotonic() > ends:
                    raise UnseenError(
                        f"{url}: more than --api.max-response or --poll.timeout allow"
                    )
            return reports.decode(body)
        except requests.RequestException as error:
            raise UnseenError(f"{url}: {_cause(error)}") from None
        except ValueError as error:
            raise UnseenError(f"{url}: {error}") from None


def _why(status: int) -> str:
    known = {
        401: "a user and a password are required: http://USER:PASSWORD@HOST/",
        404: "no report: is this a borgbase-exporter of the same release?",
    }
    return f"HTTP status {status}" + (f", {known[status]}" if status in known else "")


def _cause(error: BaseException) -> str:
    """Return the innermost reason of an error of requests, which wraps it several times."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    reason = error.args[0] if error.args else error
    reason = getattr(reason, "reason", reason)
    return str(reason).rpartition(": ")[2] or type(error).__name__


# ---- Printing


def _printed(report: Report, form: str) -> int:
    """Print a report and return the exit status."""
    if form == "json":
        click.echo(reports.encode(report), nl=False)
    elif form == "text":
        on_terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if on_terminal else None
        coloured = on_terminal and not os.environ.get("NO_COLOR")
        _print(terminal.lines(report, width), coloured=coloured)
        if on_terminal and report.well:
            click.echo("Now start it: the same without `check`.")
    else:
        _print((plugins.nagios if form == "nagios" else plugins.checkmk)(report))
    sys.stdout.flush()
    if form in {"nagios", "checkmk"}:
        return plugins.status(report)
    if not report.accounts or not all(account.seen for account in report.accounts):
        return UNSEEN
    return 0 if report.well else PROBLEMS


def _print(lines: Iterator[str], *, coloured: bool = False) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:  # not every terminal knows a check mark
        click.echo(line.encode(encoding, "replace").decode(encoding), color=coloured)


def _give_up_printing(error: OSError) -> None:
    """Report that standard output takes no more; a reader that has seen enough knows."""
    if not isinstance(error, BrokenPipeError):
        click.echo(f"{PROGRAM}: standard output: {error.strerror}", err=True)
    # What is still buffered would be tried again, and fail again, at the process's end.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
