"""Grafana's classic dashboard model, as far as these dashboards need it.

Plain dicts: the SDK for Python is released under version numbers that cannot be pinned sanely,
and would save none of what stands here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from string import ascii_uppercase
from typing import Any

Json = dict[str, Any]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
TAG = "borgbase"
WIDTH = 24
"""Columns of Grafana's grid."""

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "#8e8e8e"
"""Well, good to know, a warning, critical; a mere fact; off or unknown."""


@dataclass(frozen=True)
class Query:
    """A PromQL query; `step` is the least time between two of its points."""

    expr: str
    legend: str = ""
    step: str = ""


def steps(*bounds: float, colours: Sequence[str] = (GREEN, ORANGE, RED)) -> Json:
    """Colour values: the first colour below the first bound, and so on."""
    pairs = zip(colours, (None, *bounds), strict=True)
    return {
        "mode": "absolute",
        "steps": [{"color": colour, "value": bound} for colour, bound in pairs],
    }


FACT = steps(colours=(BLUE,))
ANY_IS_BAD = steps(1, colours=(GREEN, RED))
ANY_IS_NEWS = steps(1, colours=(GREEN, YELLOW))


def names(texts: Mapping[int, tuple[str, str]]) -> list[Json]:
    """Show values as words in colours."""
    options = {
        str(value): {"text": text, "color": colour, "index": index}
        for index, (value, (text, colour)) in enumerate(texts.items())
    }
    return [{"type": "value", "options": options}]


YES_NO = names({0: ("no", GREY), 1: ("yes", GREEN)})


def override(name: str, **properties: Any) -> Json:
    """Set properties of the column or series of this name; `__` stands for a dot in theirs."""
    pairs = [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": pairs}


def override_like(pattern: str, **properties: Any) -> Json:
    """Set properties of all columns or series whose names match."""
    return override(pattern, **properties) | {"matcher": {"id": "byRegexp", "options": pattern}}


def panel(  # noqa: PLR0913  # what a panel is made of
    kind: str,
    title: str,
    description: str,
    queries: Iterable[Query],
    *,
    size: tuple[int, int],
    unit: str,
    empty: str,
    instant: bool = False,
    table: bool = False,
    thresholds: Json = FACT,
    defaults: Json | None = None,
    overrides: Iterable[Json] = (),
    options: Json | None = None,
    more: Json | None = None,
) -> Json:
    """Make a panel without its place; `empty` says why there may be nothing to show."""
    targets = [
        {
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": query.expr,
            "format": "table" if table else "time_series",
            "instant": instant,
            "interval": query.step,
            "legendFormat": query.legend or "__auto",
            "range": not instant,
            "refId": ref,
        }
        for ref, query in zip(ascii_uppercase, queries, strict=False)
    ]
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": targets,
        "gridPos": {"w": size[0], "h": size[1]},
        "fieldConfig": {
            "defaults": {"unit": unit, "noValue": empty, "thresholds": thresholds}
            | (defaults or {}),
            "overrides": list(overrides),
        },
        "options": options or {},
    } | (more or {})


def stat(
    title: str,
    description: str,
    expr: str,
    unit: str,
    empty: str,
    thresholds: Json,
    *,
    size: tuple[int, int] = (3, 4),
    **defaults: Any,
) -> Json:
    """Make a panel that shows one number, coloured."""
    return panel(
        "stat", title, description, [Query(expr)],
        size=size, unit=unit, empty=empty, instant=True, thresholds=thresholds, defaults=defaults,
        options={
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "center",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "value",
        },
    )  # fmt: skip


def gauge(
    title: str, description: str, expr: str, empty: str, thresholds: Json, *, most: float
) -> Json:
    """Make a panel that shows a share on a dial, which ends at `most`."""
    return panel(
        "gauge", title, description, [Query(expr)],
        size=(4, 6), unit="percentunit", empty=empty, instant=True, thresholds=thresholds,
        defaults={"min": 0, "max": most},
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showThresholdLabels": False,
            "showThresholdMarkers": True,
        },
    )  # fmt: skip


def lines(
    title: str,
    description: str,
    queries: Iterable[Query],
    size: tuple[int, int],
    unit: str,
    empty: str,
    **more: Any,
) -> Json:
    """Make a panel of lines over time, stepped: a value holds until the next poll."""
    custom = {
        "drawStyle": "line",
        "fillOpacity": 0,
        "lineInterpolation": "stepAfter",
        "lineWidth": 2,
        "showPoints": "never",
        "spanNulls": False,
    }
    defaults = {"color": {"mode": "palette-classic"}, "custom": custom | more.pop("custom", {})}
    return panel(
        "timeseries", title, description, queries, size=size, unit=unit, empty=empty,
        defaults=defaults | more.pop("defaults", {}),
        options={
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        **more,
    )  # fmt: skip


def fixed(colour: str) -> Json:
    """Give a line a colour of its own."""
    return {"mode": "fixed", "fixedColor": colour}


DASHED = {"dash": [8, 6], "fill": "dash"}
BARS = {"drawStyle": "bars", "fillOpacity": 70, "lineWidth": 0}
STACKED = {"fillOpacity": 40, "lineWidth": 1, "stacking": {"group": "A", "mode": "normal"}}


def bars(
    title: str, description: str, query: Query, size: tuple[int, int], unit: str, empty: str
) -> Json:
    """Make a panel of bars, one for each series of now."""
    return panel(
        "bargauge", title, description, [query],
        size=size, unit=unit, empty=empty, instant=True, defaults={"min": 0},
        options={
            "displayMode": "basic",
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showUnfilled": True,
            "valueMode": "color",
        },
    )  # fmt: skip


def timeline(
    title: str,
    description: str,
    queries: Iterable[Query],
    size: tuple[int, int],
    empty: str,
    states: list[Json],
) -> Json:
    """Make a panel of states over time, one band for each series."""
    return panel(
        "state-timeline", title, description, queries, size=size, unit="none", empty=empty,
        defaults={
            "custom": {"fillOpacity": 80, "lineWidth": 0, "spanNulls": False},
            "mappings": states,
        },
        options={
            "alignValue": "left",
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "mergeValues": True,
            "rowHeight": 0.8,
            "showValue": "never",
            "tooltip": {"mode": "single", "sort": "none"},
        },
    )  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of a table: a label, or the value of a query; how it looks is in `properties`."""

    title: str
    source: str | Query
    properties: Json


def column(title: str, source: str | Query, **properties: Any) -> Column:
    """Describe a column; `source` is a label or a query whose labels are columns, too."""
    return Column(title, source, properties)


COLOURED_TEXT = {"type": "color-text"}


def table(
    title: str,
    description: str,
    columns: Sequence[Column],
    size: tuple[int, int],
    empty: str,
    *,
    sort: str,
    descending: bool = True,
    queries: Sequence[str] = (),
    hidden: Sequence[str] = (),
) -> Json:
    """Make a table of now, a row for each set of labels; `queries` bring labels only."""
    shown = [c.source for c in columns if isinstance(c.source, Query)]
    asked = [*shown, *map(Query, queries)]
    fields = ["Value"] if len(asked) == 1 else [f"Value #{ref}" for ref in ascii_uppercase]
    values = dict(zip((query.expr for query in asked), fields, strict=False))
    order = [values[c.source.expr] if isinstance(c.source, Query) else c.source for c in columns]
    left_out = ["Time", *hidden, *(values[expr] for expr in queries)]
    return panel(
        "table", title, description, asked,
        size=size, unit="none", empty=empty, instant=True, table=True,
        defaults={"custom": {"align": "auto", "filterable": True, "inspect": False}},
        overrides=[override(c.title, **c.properties) for c in columns if c.properties],
        options={
            "cellHeight": "sm",
            "footer": {"enablePagination": True, "show": False},
            "showHeader": True,
            "sortBy": [{"desc": descending, "displayName": sort}],
        },
        more={
            "transformations": [
                {"id": "merge", "options": {}},
                {
                    "id": "organize",
                    "options": {
                        "excludeByName": dict.fromkeys(left_out, True),
                        "indexByName": {name: index for index, name in enumerate(order)},
                        "renameByName": dict(
                            zip(order, (c.title for c in columns), strict=True)
                        ),
                    },
                },
            ]
        },
    )  # fmt: skip


def link(title: str, url: str) -> list[Json]:
    """Make a cell lead somewhere."""
    return [{"title": title, "url": url, "targetBlank": False}]


def variable(name: str, label: str, query: str, *, many: bool, **more: Any) -> Json:
    """Make a variable of what a query finds in the shown time range; `many` may be all."""
    everything = {"text": ["All"], "value": ["$__all"]}
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "allValue": ".+" if many else None,
        "current": everything if many else {},
        "hide": 0,
        "includeAll": many,
        "multi": many,
        "options": [],
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
    } | more


CHOOSE_DATASOURCE: Json = {
    "name": "datasource",
    "label": "Data source",
    "type": "datasource",
    "query": "prometheus",
    "current": {},
    "hide": 0,
    "includeAll": False,
    "multi": False,
    "options": [],
    "refresh": 1,
    "regex": "",
    "skipUrlSync": False,
}


def annotation(name: str, expr: str, colour: str, step: str, **more: Any) -> Json:
    """Mark moments on all the lines of a dashboard."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "expr": expr,
        "hide": False,
        "iconColor": colour,
        "step": step,
    } | more


def dashboard(
    uid: str,
    title: str,
    description: str,
    variables: Iterable[Json],
    rows: Iterable[str | Sequence[Json]],
    annotations: Iterable[Json] = (),
) -> Json:
    """Put panels in rows, from left to right; a row that is a text is a heading."""
    links = {
        "type": "dashboards",
        "title": "",
        "tags": [TAG],
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }
    return {
        "id": None,
        "uid": uid,
        "title": title,
        "description": description,
        "tags": [TAG],
        "annotations": {"list": list(annotations)},
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": [links],
        "panels": _placed(rows),
        "refresh": "5m",
        "schemaVersion": 39,
        "templating": {"list": [CHOOSE_DATASOURCE, *variables]},
        "time": {"from": "now-30d", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "version": 1,
        "weekStart": "",
    }


def _placed(rows: Iterable[str | Sequence[Json]]) -> list[Json]:
    numbers, y = count(1), 0
    placed: list[Json] = []
    for row in rows:
        x, height = 0, 1
        if isinstance(row, str):
            place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
            heading = {"type": "row", "title": row, "collapsed": False, "panels": []}
            placed.append({"id": next(numbers), **heading, "gridPos": place})
        else:
            for each in row:
                place = each["gridPos"] | {"x": x, "y": y}
                placed.append({"id": next(numbers), **each, "gridPos": place})
                x += place["w"]
            height = max(each["gridPos"]["h"] for each in row)
        y += height
    return placed
