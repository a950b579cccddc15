"""Write the dashboards' JSON: `python -m dashboards.generate`. A test fails when it is stale."""

import json
from pathlib import Path

from dashboards.exporter import exporter
from dashboards.model import Json
from dashboards.overview import overview
from dashboards.repository import repository

FOLDER = Path(__file__).parent


def files() -> dict[str, str]:
    """Return the text of each file by its name."""
    return {f"{made['uid']}.json": text(made) for made in (overview(), repository(), exporter())}


def text(dashboard: Json) -> str:
    """Spell a dashboard so that a change of it reads well as a diff."""
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content, "utf-8")
