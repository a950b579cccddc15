"""Grafana's classic dashboard model, as far as these dashboards need it.

Plain dicts: version numbers of the SDK for Python are unsuitable for pinning, and it would not make
this shorter.
"""

from __future__ import annotations

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
"""Well, notable, warning, critical; neutral; off or unknown."""

UNKNOWN = "unknown"
DAYS = "suffix: d"
"""A unit: Grafana's own days become weeks from seven on."""


@dataclass(frozen=True)
class Query:
    """A PromQL query and the name of its series."""

    expr: str
    legend: str = ""


def steps(*bounds: float, colours: Sequence[str] = (GREEN, ORANGE, RED)) -> Json:
    """Colour values: the first colour below the first bound, and so on."""
    pairs = zip(colours, (None, *bounds), strict=True)
    return {
        "mode": "absolute",
        "steps": [{"color": colour, "value": bound} for colour, bound in pairs],
    }


FACT = steps(colours=(BLUE,))
ANY_IS_BAD = steps(1, colours=(GREEN, RED))
ANY_IS_WARNING = steps(1, colours=(GREEN, ORANGE))
ANY_IS_NEWS = steps(1, colours=(GREEN, YELLOW))

Words = Mapping[int, tuple[str, str]]


def names(texts: Words, missing: str = UNKNOWN) -> list[Json]:
    """Show values as words in colours, and a missing value as a grey word.

    Grafana's `noValue` alone would have the colour of the lowest threshold, which is green.
    """
    special = {
        match: {"text": missing, "color": GREY, "index": len(texts) + index}
        for index, match in enumerate(("null+nan", "empty"))
    }
    made = [
        {"type": "special", "options": {"match": match, "result": result}}
        for match, result in special.items()
    ]
    if not texts:
        return made
    options = {
        str(value): {"text": text, "color": colour, "index": index}
        for index, (value, (text, colour)) in enumerate(texts.items())
    }
    return [{"type": "value", "options": options}, *made]


YES_NO = names({0: ("no", GREY), 1: ("yes", GREEN)})


def override(name: str, **properties: Any) -> Json:
    """Set properties of the column or series of this name; `__` stands for a dot in theirs."""
    pairs = [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": pairs}


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
    thresholds: Json = FACT,
    defaults: Json | None = None,
    overrides: Iterable[Json] = (),
    options: Json | None = None,
    more: Json | None = None,
) -> Json:
    """Make a panel without its place; `empty` says why there may be nothing to show."""
    targets = [
        {
            "datasource": DATASOURCE, "editorMode": "code", "expr": query.expr,
            "format": "table" if kind == "table" else "time_series", "instant": instant,
            "legendFormat": query.legend or "__auto", "range": not instant, "refId": ref,
        }
        for ref, query in zip(ascii_uppercase, queries, strict=False)
    ]  # fmt: skip
    base = {"unit": unit, "noValue": empty, "thresholds": thresholds}
    whole = {"decimals": 0} if unit == "percentunit" else {}
    return {
        "type": kind, "title": title, "description": description,
        "datasource": DATASOURCE, "targets": targets,
        "gridPos": {"w": size[0], "h": size[1]},
        "fieldConfig": {
            "defaults": base | whole | (defaults or {}), "overrides": list(overrides),
        },
        "options": options or {},
    } | (more or {})  # fmt: skip


LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def stat(
    title: str,
    description: str,
    expr: str,
    unit: str,
    thresholds: Json,
    *,
    words: Words | None = None,
    missing: str = UNKNOWN,
    size: tuple[int, int] = (4, 3),
    **defaults: Any,
) -> Json:
    """Make a tile of one number, coloured; `words` replace some values, `missing` none at all."""
    return panel(
        "stat", title, description, [Query(expr)],
        size=size, unit=unit, empty=missing, instant=True, thresholds=thresholds,
        defaults={"mappings": names(words or {}, missing)} | defaults,
        options={
            "colorMode": "value", "graphMode": "none", "justifyMode": "center",
            "reduceOptions": LAST, "textMode": "value",
        },
    )  # fmt: skip


LEGEND = {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True}


def lines(
    title: str,
    description: str,
    queries: Iterable[Query],
    size: tuple[int, int],
    unit: str,
    empty: str,
    **more: Any,
) -> Json:
    """Make a panel of lines over time, stepped (a value holds until the next poll), from zero."""
    custom = {
        "drawStyle": "line", "fillOpacity": 0, "lineInterpolation": "stepAfter", "lineWidth": 2,
        "showPoints": "never", "spanNulls": False,
    }  # fmt: skip
    custom |= more.pop("custom", {})
    defaults = {"color": {"mode": "palette-classic"}, "custom": custom, "min": 0}
    return panel(
        "timeseries", title, description, queries, size=size, unit=unit, empty=empty,
        defaults=defaults | more.pop("defaults", {}),
        options={
            "legend": LEGEND,
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        **more,
    )  # fmt: skip


def fixed(colour: str) -> Json:
    """Give a line a fixed colour."""
    return {"mode": "fixed", "fixedColor": colour}


DASHED = {"dash": [8, 6], "fill": "dash"}
LIMIT = {"color": fixed(RED), "custom__lineStyle": DASHED}
LEVEL = {"color": fixed(BLUE), "custom__fillOpacity": 15}
BARS = {"drawStyle": "bars", "fillOpacity": 70, "lineWidth": 0}
STACKED = {"fillOpacity": 40, "lineWidth": 1, "stacking": {"group": "A", "mode": "normal"}}
LINEAR = {"lineInterpolation": "linear"}


def timeline(
    title: str,
    description: str,
    queries: Iterable[Query],
    size: tuple[int, int],
    empty: str,
    states: list[Json],
) -> Json:
    """Make a panel of states over time, one band for each series, with the states' words in it."""
    return panel(
        "state-timeline", title, description, queries, size=size, unit="none", empty=empty,
        defaults={
            "custom": {"fillOpacity": 80, "lineWidth": 0},
            "mappings": states,
        },
        options={
            "alignValue": "left", "legend": LEGEND, "mergeValues": True, "rowHeight": 0.8,
            "showValue": "auto", "tooltip": {"mode": "single", "sort": "none"},
        },
    )  # fmt: skip


ROW_VALUE = ""
"""The source of a column: the value of the query that makes the rows."""


@dataclass(frozen=True)
class Column:
    """A column of a table; how it looks is in `properties`."""

    title: str
    source: str | Query
    properties: Json


def column(
    title: str,
    source: str | Query,
    width: int = 0,
    *,
    words: Words | None = None,
    hidden: bool = False,
    **properties: Any,
) -> Column:
    """Describe a column; `source` is a row's label, ROW_VALUE, or a query by the rows' keys.

    What a link needs must be a column, maybe a hidden one. Thresholds and words colour the text.
    """
    if width:
        properties["custom__width"] = width
    if words or "thresholds" in properties:
        properties.setdefault("custom__cellOptions", {"type": "color-text"})
    if words:
        properties.setdefault("custom__align", "left")
    if hidden:
        everywhere = dict.fromkeys(("viz", "legend", "tooltip"), True)
        properties |= {"custom__hidden": True, "custom__hideFrom": everywhere}
    if words:
        properties["mappings"] = names(words, "–")
    if properties.get("unit") == "percentunit":
        properties.setdefault("decimals", 0)
    return Column(title, source, properties)


EMPTY_CELL = {
    "matcher": {"id": "byRegexp", "options": "/.*/"},
    "properties": [{"id": "noValue", "value": "–"}, {"id": "mappings", "value": names({}, "–")}],
}
"""A panel's own noValue is for the whole panel, yet Grafana writes it into empty cells as well."""


def table(  # noqa: PLR0913  # what a table is made of
    title: str,
    description: str,
    rows: str,
    keys: Sequence[str],
    columns: Sequence[Column],
    size: tuple[int, int],
    empty: str,
    *,
    sort: str,
    descending: bool = True,
    pages: bool = False,
) -> Json:
    """Make a table of now: a row for each series of `rows`, which the labels `keys` tell apart.

    Grafana's `merge` compares every row with every other as soon as one query is empty: seconds
    for thousands of repos. So the queries are joined on one label made of the keys.
    """
    asked = [c.source.expr for c in columns if isinstance(c.source, Query)]
    row = ", ".join(f'"{label}"' for label in ("row", "/", *keys))
    queries = [f"label_join({rows}, {row})" if asked else rows]
    queries += [f"max by (row) (label_join({expr}, {row}))" for expr in asked]
    refs = [f"Value #{ref}" for ref in ascii_uppercase] if asked else ["Value"]
    values = iter(refs[1:])
    order = [
        next(values) if isinstance(c.source, Query) else (c.source or refs[0]) for c in columns
    ]
    titles = dict(zip(order, (c.title for c in columns), strict=True))
    looks = [override(c.title, **c.properties) for c in columns if c.properties]
    return panel(
        "table", title, description, map(Query, queries),
        size=size, unit="none", empty=empty, instant=True,
        defaults={"custom": {"align": "auto", "filterable": pages, "inspect": False}},
        overrides=[EMPTY_CELL, *looks],
        options={
            "cellHeight": "sm", "showHeader": True, "enablePagination": pages,
            "footer": {"enablePagination": pages, "show": False},  # of Grafana 10 and 11
            "sortBy": [{"desc": descending, "displayName": sort}],
        },
        more={"transformations": _joined(order, titles) if asked else _arranged(order, titles)},
    )  # fmt: skip


def _joined(order: Sequence[str], titles: Mapping[str, str]) -> list[Json]:
    join = {"id": "joinByField", "options": {"byField": "row", "mode": "outer"}}
    return [join, *_arranged(order, titles)]


def _arranged(order: Sequence[str], titles: Mapping[str, str]) -> list[Json]:
    places = {name: index for index, name in enumerate(order)}
    options = {"excludeByName": {}, "indexByName": places, "renameByName": titles}
    return [
        {"id": "filterFieldsByName", "options": {"include": {"names": order}}},
        {"id": "organize", "options": options},
    ]


def link(title: str, url: str) -> list[Json]:
    """Make a cell lead somewhere."""
    return [{"title": title, "url": url, "targetBlank": False}]


def variable(name: str, label: str, query: str, *, many: bool, **more: Any) -> Json:
    """Make a variable of what a query finds in the shown time range; `many` may be all."""
    everything = {"current": {"text": ["All"], "value": ["$__all"]}, "allValue": ".+"}
    made = {
        "name": name, "label": label, "type": "query", "datasource": DATASOURCE,
        "definition": query, "query": {"query": query, "refId": "StandardVariableQuery"},
        "hide": 0, "includeAll": many, "multi": many, "options": [], "refresh": 2, "regex": "",
        "skipUrlSync": False, "sort": 1,
    }  # fmt: skip
    return made | (everything if many else {}) | more


CHOOSE_DATASOURCE: Json = {
    "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
    "hide": 0, "includeAll": False, "multi": False, "options": [], "refresh": 1, "regex": "",
    "skipUrlSync": False,
}  # fmt: skip


def annotation(name: str, expr: str, colour: str, step: str, **more: Any) -> Json:
    """Mark moments on all the lines of a dashboard."""
    made = {"name": name, "datasource": DATASOURCE, "enable": True, "expr": expr, "hide": False}
    return made | {"iconColor": colour, "step": step} | more


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
        "type": "dashboards", "title": "", "tags": [TAG], "asDropdown": False, "tooltip": "",
        "icon": "external link", "includeVars": True, "keepTime": True, "targetBlank": False,
    }  # fmt: skip
    return {
        "id": None,
        "uid": uid,
        "title": title, "description": description, "tags": [TAG],
        "annotations": {"list": list(annotations)},
        "editable": False, "fiscalYearStartMonth": 0, "graphTooltip": 1, "links": [links],
        "panels": _placed(rows),
        "refresh": "5m", "schemaVersion": 39,
        "templating": {"list": [CHOOSE_DATASOURCE, *variables]},
        "time": {"from": "now-30d", "to": "now"}, "timepicker": {}, "timezone": "browser",
        "version": 1, "weekStart": "",
    }  # fmt: skip


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
