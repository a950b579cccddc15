"""What Grafana does with a dashboard, as far as tests and previews need it.

It fills in variables and intervals, and asks Prometheus by its HTTP API.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from dashboards.model import Json

Api = Callable[[str], Any]
"""Asks for a path below /api/v1/ and gives the answer's data."""

POINTS = 1000
"""How wide a panel is, in points at most."""
SCRAPES = 60.0
"""Seconds between scrapes, as the provisioned data source says."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$([a-z_]\w*)")


@dataclass(frozen=True)
class Series:
    """What a query gives: labels, and the values by their times."""

    labels: dict[str, str]
    points: list[tuple[float, float]]

    @property
    def last(self) -> float:
        """The newest value."""
        return self.points[-1][1]


@dataclass
class Opened:
    """A dashboard that somebody looks at: some variables chosen, a time range, a Prometheus."""

    dashboard: Json
    api: Api
    start: float
    end: float
    chosen: Mapping[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    """What each variable becomes in a query."""

    def __post_init__(self) -> None:
        for variable in self.dashboard["templating"]["list"]:
            if variable["type"] == "query":
                self.values[variable["name"]] = self._value(variable)

    @property
    def panels(self) -> list[Json]:
        """The panels that show data."""
        return [panel for panel in self.dashboard["panels"] if panel["type"] != "row"]

    def ask(self, target: Json) -> list[Series]:
        """Run a panel's query."""
        step = max((self.end - self.start) / POINTS, seconds(target["interval"] or "15s"))
        if target["instant"]:
            return self._instant(self.filled(target["expr"], step))
        return self._range(self.filled(target["expr"], step), step)

    def annotate(self, annotation: Json) -> list[Series]:
        """Run an annotation's query."""
        step = seconds(annotation["step"])
        return self._range(self.filled(annotation["expr"], step), step)

    def options(self, variable: Json) -> list[str]:
        """Run a variable's query and give what may be chosen."""
        query = self.filled(variable["query"]["query"])
        call = re.fullmatch(r"(label_values|query_result)\((.*)\)", query)
        assert call, query  # noqa: S101  # the only two that are used here
        if call[1] == "label_values":
            selector, _, label = call[2].rpartition(", ")
            found = self.api(
                f"label/{label}/values?match[]={quote(selector)}&start={self.start}&end={self.end}"
            )
        else:
            found = [_spelt(series) for series in self._instant(call[2])]
        if variable["regex"]:
            pattern = self._filled_regex(variable["regex"].strip("/"))
            found = [match[1] for match in map(pattern.search, found) if match]
        return sorted(set(found))

    def filled(self, text: str, step: float = SCRAPES) -> str:
        """Put values and intervals in the place of variables."""
        builtin = {
            "__rate_interval": f"{max(step + SCRAPES, 4 * SCRAPES):.0f}s",
            "__range": f"{self.end - self.start:.0f}s",
        }
        return _VARIABLE.sub(lambda m: (builtin | self.values)[m[1] or m[2]], text)

    def _filled_regex(self, pattern: str) -> re.Pattern[str]:
        return re.compile(_VARIABLE.sub(lambda m: re.escape(self.chosen[m[1] or m[2]]), pattern))

    def _value(self, variable: Json) -> str:
        options, name = self.options(variable), variable["name"]
        if name in self.chosen:
            # What may be one of many is taken for a literal within a regex, and nothing else is.
            quoted = re.escape(self.chosen[name]).replace("\\", "\\\\")
            return quoted if variable["includeAll"] else self.chosen[name].replace("\\", "\\\\")
        if variable["includeAll"]:
            return variable["allValue"] or f"({'|'.join(options)})"
        return options[0] if options else ""

    def _instant(self, expr: str) -> list[Series]:
        data = self.api(f"query?query={quote(expr)}&time={self.end}")
        return [
            Series(one["metric"], [(float(one["value"][0]), float(one["value"][1]))])
            for one in data["result"]
        ]

    def _range(self, expr: str, step: float) -> list[Series]:
        # Points lie at multiples of the step.
        start, end = self.start // step * step, self.end // step * step
        data = self.api(f"query_range?query={quote(expr)}&start={start}&end={end}&step={step}")
        return [
            Series(one["metric"], [(float(at), float(value)) for at, value in one["values"]])
            for one in data["result"]
        ]


def _spelt(series: Series) -> str:
    """Spell a series like Grafana's query_result() does: without escapes."""
    labels = ",".join(f'{name}="{value}"' for name, value in series.labels.items())
    return f"{{{labels}}} {series.last} {series.points[-1][0] * 1000:.0f}"


def tabled(
    panel: Json, found: list[tuple[Json, list[Series]]]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Merge and organize like the panel's transformations, and sort."""
    labels = [set().union(*(one.labels for one in series)) for _, series in found if series]
    keys = sorted(set.intersection(*labels))
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for target, series in found:
        name = "Value" if len(found) == 1 else f"Value #{target['refId']}"
        for one in series:
            # Only what tells rows apart merges them.
            key = tuple(one.labels.get(key, "") for key in keys)
            rows.setdefault(key, {}).update(one.labels | {name: one.last})
    organize = panel["transformations"][1]["options"]
    titles = organize["renameByName"]
    made = [{titles[k]: v for k, v in row.items() if k in titles} for row in rows.values()]
    sort = panel["options"]["sortBy"][0]
    place: Callable[[dict[str, Any]], Any] = lambda row: row[sort["displayName"]]  # noqa: E731
    known = [row for row in made if sort["displayName"] in row]
    unknown = [row for row in made if sort["displayName"] not in row]
    return list(titles.values()), sorted(known, key=place, reverse=sort["desc"]) + unknown


def seconds(duration: str) -> float:
    """Read `1h`, `30s`."""
    return float(duration[:-1]) * _SECONDS[duration[-1]]


def queries(dashboard: Json) -> Iterator[tuple[str, str]]:
    """Yield every query of a dashboard, and where it is."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"${variable['name']}", variable["query"]["query"]


def load(text: str) -> Json:
    """Read a dashboard."""
    loaded: Json = json.loads(text)
    return loaded
