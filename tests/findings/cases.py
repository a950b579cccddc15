"""Reports on accounts that are made by hand."""

from __future__ import annotations

from dataclasses import replace

from borgbase_exporter.findings.problems import Problem
from borgbase_exporter.findings.report import AccountReport, Extra, Report, report
from borgbase_exporter.model import (
    Account,
    AccountStatus,
    APITokenList,
    CollectorStatus,
    Failure,
    Repo,
    RepoList,
)
from tests.facts import FINE_ACCOUNT, FINE_REPO, NO_TOKENS, NOW, status

ALL = ("repos", "account", "ssh_keys", "tokens")


def polled(
    *repos: Repo,
    name: str = "default",
    account: Account = FINE_ACCOUNT,
    tokens: APITokenList = NO_TOKENS,
) -> AccountStatus:
    """Return the status of an account whose polls work."""
    made = status(name, repos=RepoList(repos, complete=True), account=account, tokens=tokens)
    return replace(made, token_expires=None)


def failing(
    reason: str,
    *names: str,
    message: str = "so it is",
    expires: float | None = None,
    last_poll: float = NOW,
) -> AccountStatus:
    """Return the status of an account where these collectors fail, and the others work."""
    whole = replace(polled(FINE_REPO), last_poll=last_poll, token_expires=expires)
    broken = CollectorStatus(failure=Failure(reason, message))
    collectors = {n: broken if n in names else c for n, c in whole.collectors.items()}
    return replace(whole, collectors=collectors)


def checked(*accounts: AccountStatus, problems: tuple[Problem, ...] = ()) -> Report:
    """Return the report that `check` makes."""
    extras = {account.name: Extra("BORGBASE_TOKEN") for account in accounts}
    return report(accounts, NOW, known=problems, extras=extras)


def found(account: AccountStatus) -> AccountReport:
    """Return the report on one account."""
    (only,) = report([account], NOW).accounts
    return only
