"""Write the dashboards' JSON: `python -m dashboards.generate`. A test fails if it is stale.

`python -m dashboards.generate FOLDER` writes the form that grafana.com takes, for a release.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dashboards.exporter import exporter
from dashboards.model import Json
from dashboards.overview import overview
from dashboards.repository import repository

FOLDER = Path(__file__).parent
GRAFANA = "10.0.0"
"""The oldest that the dashboards are meant for."""
INPUT = "DS_PROMETHEUS"


def files() -> dict[str, str]:
    """Return the text of each file by its name."""
    return {f"{made['uid']}.json": text(made) for made in (overview(), repository(), exporter())}


def text(dashboard: Json) -> str:
    """Format a dashboard so that its changes make readable diffs."""
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def shared(content: str) -> Json:
    """Convert a file for grafana.com: the import asks for the data source."""
    content = content.replace("${datasource:queryparam}&", "")
    dashboard: Json = json.loads(content.replace("${datasource}", f"${{{INPUT}}}"))
    variables = dashboard["templating"]["list"]
    dashboard["templating"]["list"] = [each for each in variables if each["type"] != "datasource"]
    asked = {
        "name": INPUT, "label": "Prometheus", "type": "datasource",
        "description": "The Prometheus that scrapes borgbase-exporter",
        "pluginId": "prometheus", "pluginName": "Prometheus",
    }  # fmt: skip
    kinds = sorted({panel["type"] for panel in dashboard["panels"]} - {"row"})
    needed = [
        {"type": "grafana", "id": "grafana", "name": "Grafana", "version": GRAFANA},
        {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"},
        *({"type": "panel", "id": kind, "name": kind, "version": ""} for kind in kinds),
    ]
    return {"__inputs": [asked], "__elements": {}, "__requires": needed} | dashboard


if __name__ == "__main__":
    for name, content in files().items():
        if sys.argv[1:]:
            folder = Path(sys.argv[1])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text(shared(content)), "utf-8")
        else:
            (FOLDER / name).write_text(content, "utf-8")
