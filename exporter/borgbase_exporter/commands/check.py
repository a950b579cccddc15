"""`check`: poll the accounts once, or fetch a running exporter's report, and print the report.

Exit statuses: 0 all is well, 1 problems, 3 an account could not be polled. In the formats of
plugins: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import click
import msgspec
import requests

from borgbase_exporter import __version__
from borgbase_exporter.api.areas import AREAS, Area
from borgbase_exporter.commands import oneshot
from borgbase_exporter.commands.main import make_poller
from borgbase_exporter.commands.oneshot import CommandError
from borgbase_exporter.errors import DEFECT, PollError, TokenError
from borgbase_exporter.findings import plugins, shape, terminal
from borgbase_exporter.findings import report as reports
from borgbase_exporter.findings.problems import ADVICE, Problem
from borgbase_exporter.findings.report import Extra, Report
from borgbase_exporter.settings import PROGRAM, Check
from borgbase_exporter.tokens import TokenFolder, TokenSource

log = logging.getLogger(__name__)

PROBLEMS, UNSEEN = 1, 3
PLUGINS = {"nagios": plugins.nagios, "checkmk": plugins.checkmk}
HINTS = {
    401: ", a user and a password are required: http://USER:PASSWORD@HOST/",
    404: ", no report: is this a borgbase-exporter of the same release?",
}


def run(settings: Check) -> int:
    """Get the report, print it, and return the exit status."""

    def work() -> int:
        report = _fetched(settings) if settings.source else _looked(settings)
        return _printed(report, settings.format)

    def complain(why: str) -> None:
        if settings.format in PLUGINS:
            click.echo(plugins.unknown(why, settings.format))
        else:
            click.echo(f"{PROGRAM}: {why}", err=True)

    return oneshot.run(work, complain, UNSEEN, settings.report)


def _looked(settings: Check) -> Report:
    """Poll all accounts; write the file of --report."""
    assert settings.tokens  # noqa: S101  # missing with --from only
    sources: Mapping[str, TokenSource] = {}
    known = []
    try:
        sources = settings.tokens.sources()
        if not sources and isinstance(settings.tokens, TokenFolder):
            advice = "add a file for each account, named after the account"
            what = f"{settings.tokens.origin} has no token files"
            known = [Problem("critical", "token folder", what, advice)]
    except TokenError as error:
        known = [Problem("critical", "token folder", str(error), ADVICE["token"])]
    looks = [Look(settings, name, source) for name, source in sources.items()]
    hidden = not (sys.stderr and sys.stderr.isatty())
    with click.progressbar(looks, label="Asking BorgBase", file=sys.stderr, hidden=hidden) as bar:

        def look_at(look: Look) -> None:
            look.run()
            bar.update(1)

        oneshot.at_once(look_at, looks)
    statuses = [look.poller.status for look in looks]
    extras = {look.account: look.extra for look in looks}
    report = reports.report(statuses, time.time(), known=known, extras=extras)
    if settings.report:
        _write_shapes(settings.report, report, {look.account: look.shapes for look in looks})
    return report


class Look:
    """A poll of an account, and checks that only this command makes."""

    def __init__(self, settings: Check, account: str, source: TokenSource) -> None:
        self.account, self._settings, self._source = account, settings, source
        self.poller = make_poller(settings, account, source)
        exposed = f"{source.origin} can be read by other users"
        advice = "chmod 600 it, or 640 if another user owns it"
        problem = Problem("warning", "token", exposed, advice)
        self.extra = Extra(source.origin, (problem,) if source.exposed else ())
        self.shapes: Mapping[str, Any] = {}

    def run(self) -> None:
        """Poll the account; report a defect as one of its problems."""
        try:
            self.poller.poll()
            if self._settings.report:
                self.shapes = {area.name: self._shape(area) for area in self.poller.areas}
        except Exception:
            log.exception("a defect, please report it", extra={"account": self.account})
            problem = Problem("critical", "check", DEFECT, ADVICE["internal"])
            self.extra = replace(self.extra, problems=(*self.extra.problems, problem))

    def _shape(self, area: Area) -> dict[str, Any]:
        """Send the query again, and return the shape of the answer."""
        collector, seconds = self.poller.status.collectors[area.name], self._settings.poll.timeout
        seen: dict[str, Any] = {
            "success": collector.success,
            "fields_that_the_api_lacks": sorted(collector.gaps | collector.missing),
            "entries_unreadable": collector.skipped,
            "fields_unreadable": collector.fields_skipped,
        }
        try:
            token = self._source.read()
            with closing(self.poller.client) as client:
                answer = client.run(area.query, token, collector.missing, seconds=seconds)
            data = {name: msgspec.json.decode(raw) for name, raw in answer.data.items()}
            seen["fields"] = shape.of_answer(data, area.query.text(collector.missing))
            error = answer.error
        except PollError as failure:
            seen["reason"], error = failure.reason, str(failure)
        queries = [words for one in AREAS for words in (one.query.text(), *one.query.names)]
        return {**seen, "error": shape.of_error(error, queries)}


def _write_shapes(path: Path, report: Report, shapes: Mapping[str, Any]) -> None:
    """Write the shapes of the answers for a maintainer, without the account's own data."""
    accounts = [
        {
            "collectors": shapes.get(account.name, {}),
            "comparisons": [
                {"subject": one.subject, "ratio": one.other and one.listed / one.other}
                for one in account.comparisons
            ],
        }
        for account in report.accounts
    ]
    python = platform.python_version()
    document = {"version": __version__, "python": python, "accounts": accounts}
    with oneshot.replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def _fetched(settings: Check) -> Report:
    """Return the report of the exporter at --from; raise CommandError where there is none."""
    given = urlsplit(settings.source or "")
    path = given.path if given.path.endswith(".json") else f"{given.path.rstrip('/')}/status.json"
    netloc = given.netloc.rpartition("@")[2]
    url = urlunsplit((given.scheme, netloc, path, "", ""))
    user = requests.utils.get_auth_from_url(settings.source or "")
    try:
        with requests.Session() as session:
            session.trust_env = False  # neither a proxy nor ~/.netrc is meant for the exporter
            session.auth = user if any(user) else None
            session.verify = settings.api.ca_file or True
            answer = session.get(url, timeout=settings.poll.timeout, allow_redirects=False)
        if answer.status_code != requests.codes.ok:
            hint = HINTS.get(answer.status_code, "")
            raise CommandError(f"{url}: HTTP status {answer.status_code}{hint}")
        return reports.decode(answer.content)
    except requests.Timeout:
        raise CommandError(f"{url}: no answer in time") from None
    except requests.RequestException as error:
        # requests wraps the reason several times.
        reason = error.args[0] if error.args else error
        reason = getattr(reason, "reason", reason)
        raise CommandError(f"{url}: {str(reason).rpartition(': ')[2]}") from None
    except ValueError as error:
        raise CommandError(f"{url}: {error}") from None


def _printed(report: Report, form: str) -> int:
    try:
        _print(report, form)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # the reader closed it on purpose
            click.echo(f"{PROGRAM}: standard output: {error.strerror}", err=True)
        # At exit, Python would flush the rest of the buffer, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNSEEN
    if form in PLUGINS:
        return plugins.status(report)
    if not report.accounts or not all(account.seen for account in report.accounts):
        return UNSEEN
    return 0 if report.well else PROBLEMS


def _print(report: Report, form: str) -> None:
    colour = False if os.environ.get("NO_COLOR") else None  # only on a terminal
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    encoding = sys.stdout.encoding or "utf-8"
    if form == "json":
        click.echo(reports.encode(report), nl=False)
    else:
        lines = PLUGINS[form](report) if form in PLUGINS else terminal.lines(report, width)
        for line in lines:  # not every encoding has a check mark
            click.echo(line.encode(encoding, "replace").decode(encoding), color=colour)
    if form == "text" and width and report.well:
        click.echo("To start the exporter, run the same command without `check`.")
    sys.stdout.flush()
