"""A small account, made by hand, that tests of findings, metrics, pages and commands share."""

from __future__ import annotations

from borgbase_exporter.errors import REASONS
from borgbase_exporter.model import (
    Account,
    AccountStatus,
    APIToken,
    APITokenList,
    CollectorStatus,
    Part,
    Plan,
    Repo,
    RepoList,
    SSHKey,
    SSHKeyList,
)

NOW = 1_700_000_000.0

FULL_REPO = Repo(
    id="aaaa1111",
    name="laptop",
    usage=123_456_000_000,
    quota=200_000_000_000,
    quota_enabled=True,
    last_modified=NOW - 3600.5,
    created=NOW - 1000,
    inactivity_limit=86_400,
    append_only=False,
    compaction_enabled=True,
    sftp_enabled=False,
    full_access_keys=2,
    append_only_keys=1,
    rsync_keys=0,
    region="eu",
    format="borg1",
    borg_version="V_1_4_X",
    encryption="repokey-blake2",
    access_mode="ssh",
    server="u1.example.org",
)
BARE_REPO = Repo(id="bbbb2222", name="bare")
REPOS = RepoList((FULL_REPO, BARE_REPO), complete=True)
ACCOUNT = Account(
    plan=Plan("Small", included=250_000_000_000, maximum=None, max_repos=10),
    billed_usage=120_000_000_000,
    billed_excess=0,
    accrued_overage_usd=1.25,
    subscription_end=NOW + 100,
    subscription_active=True,
    auto_renew=False,
)
SSH_KEYS = SSHKeyList((SSHKey("1", "laptop key", added=NOW - 50, last_used=NOW - 5),), length=2)
TOKENS = APITokenList(
    (
        APIToken("7", "exporter", "read_only", last_used=NOW, expires=NOW + 500),
        APIToken("8", "old", "full_access"),
    ),
    complete=True,
)


def collector(part: Part | None = None, taken: float = NOW) -> CollectorStatus:
    return CollectorStatus(
        part=part,
        taken=None if part is None else taken,
        success=part is not None,
        failures=dict.fromkeys(REASONS, 0),
    )


def status(
    name: str = "default",
    *,
    repos: Part | None = REPOS,
    account: Part | None = ACCOUNT,
    ssh_keys: Part | None = SSH_KEYS,
    tokens: Part | None = TOKENS,
    taken: float = NOW,
) -> AccountStatus:
    parts = {"repos": repos, "account": account, "ssh_keys": ssh_keys, "tokens": tokens}
    return AccountStatus(
        name,
        {area: collector(part, taken) for area, part in parts.items()},
        polls=3,
        last_poll=NOW,
        last_success=NOW,
        duration=0.25,
        token_expires=NOW + 500,
    )


FINE_REPO = Repo(
    "1", "fine", usage=80.0, quota=100.0, last_modified=NOW - 10, inactivity_limit=86_400
)
FINE_ACCOUNT = Account(plan=Plan("Small", included=1000.0), subscription_end=NOW + 100 * 86_400)
NO_TOKENS = APITokenList((), complete=True)
