"""Prometheus and Alertmanager on loopback, until they are ready and while they are used."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from tests.end_to_end.processes import ANYWHERE, Prometheus, Running, environment, started, until
from tests.programs import require, root


@contextmanager
def serving(name: str, data: Path, config: Path, *flags: str) -> Iterator[Running]:
    """Run a program that keeps its data in a folder, and its log beside that."""
    path = require(name)
    command: list[str | Path] = [path, f"--web.listen-address={ANYWHERE}", *flags]
    if name == "alertmanager":
        command += [f"--storage.path={data}", "--cluster.listen-address="]
    else:
        command += [f"--storage.tsdb.path={data}"]
    command.append(f"--config.file={config}")
    log = data.with_name(f"{data.name}.log")
    with started(command, environment(), log, 'msg="Listening on"', root(path)) as running:
        until(lambda: running.get("/-/ready").status == HTTPStatus.OK, f"{name} is ready")
        yield running


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, str]) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes each target, known by its job, every second."""
    jobs = [
        {"job_name": job, "static_configs": [{"targets": [address]}]}
        for job, address in targets.items()
    ]
    config = folder / "prometheus.yml"  # JSON is YAML
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    with serving("prometheus", folder / "data", config, "--log.level=debug") as running:
        scraping = Prometheus(**vars(running))
        yield scraping
        assert scraping.complaints == []
