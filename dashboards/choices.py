"""The variables that select what a dashboard shows."""

from __future__ import annotations

from dashboards.model import variable
from dashboards.queries import ACCOUNT, JOB

JOBS = variable("job", "Job", "label_values(borgbase_exporter_build_info, job)", many=True)

_ACCOUNTS = f"label_values(borgbase_up{{{JOB}}}, account)"
ACCOUNTS = variable("account", "Account", _ACCOUNTS, many=True)
ONE_ACCOUNT = variable("account", "Account", _ACCOUNTS, many=False)

REPO = variable("repo", "Repo", f"label_values(borgbase_repo_info{{{ACCOUNT}}}, repo)", many=False)

# The id of the repo that has, or had in the shown time, the chosen name: a link with an old name
# still leads to the repo, and its history includes the time before the rename.
REPO_ID = variable(
    "repo_id",
    "Repo id",
    f"label_values(borgbase_repo_info{{{ACCOUNT}, repo=~`${{repo:regex}}`}}, repo_id)",
    many=True,
    allValue="",
    hide=2,
    skipUrlSync=True,
)
