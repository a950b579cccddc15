"""The page about remote Prometheus: Prometheus accepts its configuration."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from dashboards.generate import FOLDER
from tests.programs import require

PAGE = (FOLDER.parent / "docs" / "remote.md").read_text("utf-8")


def test_the_agents_configuration(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    password = tmp_path / "remote-password"
    password.write_text("secret")
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("/etc/prometheus/remote-password", str(password)))
    command = (require("promtool"), "check", "config", "--agent", config)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
