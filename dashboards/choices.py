"""The variables by which a person chooses what a dashboard shows."""

from dashboards.model import variable
from dashboards.queries import ACCOUNT, JOB

JOBS = variable("job", "Job", "label_values(borgbase_exporter_build_info, job)", many=True)

_ACCOUNTS = f"label_values(borgbase_up{{{JOB}}}, account)"
ACCOUNTS = variable("account", "Account", _ACCOUNTS, many=True)
ONE_ACCOUNT = variable("account", "Account", _ACCOUNTS, many=False)

REPO = variable("repo", "Repo", f"label_values(borgbase_repo_info{{{ACCOUNT}}}, repo)", many=False)

# The id of the repo that has, or in the shown time had, the chosen name: a link with an old name
# still leads to the repo, and its history goes on before the rename. Found by a regex and not by a
# matcher, as not every Grafana quotes a name with quotation marks in it.
REPO_ID = variable(
    "repo_id",
    "Repo id",
    "query_result(count by (repo, repo_id) "
    f"(last_over_time(borgbase_repo_info{{{ACCOUNT}}}[$__range])))",
    many=True,
    allValue=None,
    hide=2,
    regex=r'/repo="$repo",repo_id="([^"]+)"/',
    skipUrlSync=True,
)
