"""Write the pages that follow from the code: metrics.md and configuration.md.

`python docs/generate.py` (or `make docs`) writes them; a test fails when they are stale.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from borgbase_exporter.collectors import COLLECTORS
from borgbase_exporter.config import COMMANDS, TOKEN_VARIABLE, options
from borgbase_exporter.errors import PollError
from borgbase_exporter.metrics import BUILD, SCOPES, Metric

FOLDER = Path(__file__).parent
NOTE = "<!-- Written by `make docs`; change the code instead. -->\n"


def pages() -> dict[str, str]:
    """Return the text of each page by its file's name."""
    return {"metrics.md": _metrics(), "configuration.md": _configuration()}


def _metrics() -> str:
    sections = "\n".join(
        f"## {scope.title}\n\n{_labels(scope.labels)}\n\n{_metric_table(scope.metrics)}"
        for scope in SCOPES
    )
    return f"""{NOTE}
# Metrics

Sizes are bytes, times are Unix timestamps in seconds. What the exporter does not know has no
sample: nothing unknown is ever shown as 0. Values come from the last good poll; when polls fail
they stay for `--poll.max-age` and then disappear, while the exporter's own series stay.

{sections}
## The exporter itself

{_metric_table([BUILD])}
`process_*` and `python_info` are the standard ones of the Prometheus client library.

## Reasons of failed polls

The values of the label `reason` of `borgbase_poll_failures_total`; all are there from the start.

{_table(("reason", "meaning"), sorted(_reasons(PollError)))}"""


def _reasons(kind: type[PollError]) -> Iterable[tuple[str, str]]:
    for child in kind.__subclasses__():
        if child.__name__.startswith("_"):
            continue  # a module's own affair
        yield f"`{child.reason}`", (child.__doc__ or "").partition("\n")[0]
        yield from _reasons(child)


def _labels(names: Iterable[str]) -> str:
    return f"Every series carries {', '.join(f'`{name}`' for name in names)}."


def _metric_table(metrics: Iterable[Metric[Any]]) -> str:
    rows = (
        (
            f"`{metric.name}`",
            metric.type,
            ", ".join(f"`{name}`" for name in metric.labels),
            metric.help,
        )
        for metric in metrics
    )
    return _table(("metric", "type", "more labels", "meaning"), rows)


def _configuration() -> str:
    rows = []
    for option in options({collector.name: collector.help for collector in COLLECTORS}):
        flag = f"`{option.flag}`" + (f", `{option.negative}`" if option.is_switch else "")
        only = f" ({option.only})" if option.only else ""
        rows.append(
            (
                flag,
                f"`{option.variable}`",
                f"`{option.default}`" if option.default else "",
                option.help + only,
            )
        )
    commands = "\n".join(f"- `borgbase-exporter {name}`: {what}" for name, what in COMMANDS.items())
    return f"""{NOTE}
# Configuration

{commands}

Every setting is a flag and an environment variable; a flag wins over a variable, and an empty
variable is as good as none. Whatever is wrong is told in one message, with exit status 2.
Durations are Prometheus durations (`90s`, `15m`, `6h`), sizes `64MiB` or `10MB`; switches take
`true` or `false` in the environment.

{_table(("flag", "variable", "default", "meaning"), rows)}
## Tokens

A read-only API token per account is all the exporter needs. Give it in exactly one way:

- `{TOKEN_VARIABLE}`: the token itself. There is no flag for it, because other users of the machine
  can see flags.
- `--token.file`: a file that holds it.
- `--token.dir`: a folder with one file per account; a file's name is the account's, names that
  start with a dot are left out. This is what a mounted Kubernetes Secret looks like.

Files are read again before each poll, and the folder is looked at every 15 seconds (or every
`--poll.interval`, if that is shorter), so tokens and accounts change without a restart. `SIGHUP`
reads `--web.config.file` again and has every account polled at once; `SIGTERM` ends the exporter.

## TLS and users

`--web.config.file` takes the format of the Prometheus exporter toolkit. Relative paths start at the
file's folder; certificates are read again when they change.

```yaml
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert   # or VerifyClientCertIfGiven, NoClientCert
  client_ca_file: ca.pem
  min_version: TLS13                             # or TLS12, the default
basic_auth_users:
  prometheus: $2b$12$...                         # htpasswd -nBC 12 prometheus
http_server_config:
  headers:
    Strict-Transport-Security: max-age=31536000
```

Without htpasswd, this makes a hash:

```sh
.venv/bin/python -c 'import bcrypt, getpass
print(bcrypt.hashpw(getpass.getpass().encode(), bcrypt.gensalt(12)).decode())'
```

Prometheus needs the other half in its scrape job:

```yaml
scrape_configs:
  - job_name: borgbase
    scheme: https
    tls_config: {{ca_file: ca.pem}}
    basic_auth: {{username: prometheus, password_file: borgbase-exporter.password}}
    static_configs:
      - targets: [localhost:10133]
```

With users, the container's health check needs `--web.open-probes`.
"""


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
