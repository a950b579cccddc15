"""Draw the dashboards without a Grafana: `python -m dashboards.preview`.

From their JSON and real answers of Prometheus; for looking at a change, and for docs/dashboards.md.
It knows as much of Grafana as these dashboards use. The data are those of dashboards/simulated.py.
Needs matplotlib.
"""

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Wedge
from PIL import Image

from dashboards.generate import files
from dashboards.grafana import Opened, Series, load, tabled
from dashboards.model import WIDTH, Json
from dashboards.simulated import END, simulated

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
DAY = 86_400.0

CELL = 58, 36
"""A cell of the grid in pixels."""
GAP, TOP, DPI = 8, 64, 100
PAGE, PANEL, TEXT, DIM, GRID = "#111217", "#181b1f", "#d5d6dd", "#8e8e9c", "#2c2f36"
COLOURS = {
    "green": "#73bf69", "yellow": "#fade2a", "orange": "#ff9830", "red": "#f2495c",
    "blue": "#5794f2",
}  # fmt: skip
PALETTE = (
    *("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1"),
    *("#ba43a9", "#705da0", "#508642", "#cca300", "#447ebc", "#c15c17"),
)
SPANS = {"year": 365 * DAY, "week": 7 * DAY, "day": DAY, "hour": 3600.0, "min": 60.0, "s": 1.0}


def words(value: float, field: Json) -> str:
    """Spell a value like Grafana does."""
    for mapping in field.get("mappings", ()):
        if (known := mapping["options"].get(f"{value:g}")) is not None:
            return str(known["text"])
    decimals = field.get("decimals")
    number = f"{value:.4g}" if decimals is None else f"{value:.{decimals}f}"
    spellings: dict[str, Callable[[], str]] = {
        "none": lambda: number,
        "s": lambda: _span(value, decimals),
        "decbytes": lambda: _bytes(value, 1000),
        "bytes": lambda: _bytes(value, 1024),
        "percentunit": lambda: f"{value * 100:.{1 if decimals is None else decimals}f}%",
        "currencyUSD": lambda: f"${value:.2f}",
        "dateTimeAsLocal": lambda: f"{datetime.fromtimestamp(value / 1000, UTC):%Y-%m-%d %H:%M}",
        "dateTimeFromNow": lambda: f"{_span(END - value / 1000, 0)} ago",
    }
    return spellings[field.get("unit", "none")]()


def _span(seconds: float, decimals: int | None) -> str:
    if seconds < 0:
        return f"-{_span(-seconds, decimals)}"
    for name, length in SPANS.items():
        if seconds >= length:
            number = seconds / length
            text = f"{number:.{1 if decimals is None else decimals}f}".removesuffix(".0")
            return f"{text} {name}{'s' if text != '1' and len(name) > 1 else ''}"
    return f"{seconds:.2f} s" if seconds else "0 s"


def _bytes(value: float, base: int) -> str:
    power = 0
    while abs(value) >= base and power < len("kMGTP"):
        value, power = value / base, power + 1
    prefix = ("", *(f"{p}i" if base == 1024 else p for p in "kMGTP"))[power]  # noqa: PLR2004
    return f"{value:.3g} {prefix}B"


def colour(value: float | None, field: Json) -> str:
    """Give the colour of a value by mapping or threshold."""
    if value is None:
        return DIM
    for mapping in field.get("mappings", ()):
        if (known := mapping["options"].get(f"{value:g}")) is not None:
            return str(COLOURS.get(known["color"], known["color"]))
    found = TEXT
    for step in field["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            found = step["color"]
    return str(COLOURS.get(found, found))


def _field(panel: Json, name: str) -> Json:
    """Give the settings of a series or column."""
    settings: Json = {**panel["fieldConfig"]["defaults"]}
    settings["custom"] = {**settings.get("custom", {})}
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == name:
            for item in override["properties"]:
                if item["id"].startswith("custom."):
                    settings["custom"][item["id"].removeprefix("custom.")] = item["value"]
                else:
                    settings[item["id"]] = item["value"]
    return settings


def _legend(target: Json, series: Series) -> str:
    text: str = target["legendFormat"]
    for name, value in series.labels.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def _shown(text: str) -> str:
    """Leave out pictographs, which the drawing's font does not have."""
    return "".join(letter for letter in text if ord(letter) < 0x1F000).strip()  # noqa: PLR2004


class Picture:
    """A dashboard on one page, in pixels from the top left."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        bottom = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in opened.dashboard["panels"])
        self.width, self.height = WIDTH * CELL[0] + GAP, TOP + bottom * CELL[1] + GAP
        self.figure = Figure((self.width / DPI, self.height / DPI), DPI, facecolor=PAGE)
        self.canvas = self._axes(0, 0, self.width, self.height)
        self._write(GAP * 2, 22, opened.dashboard["title"], 15, weight="bold")
        chosen = "   ".join(
            f"{v['label']}: {opened.chosen.get(v['name'], 'All')}"
            for v in opened.dashboard["templating"]["list"]
            if v["hide"] == 0 and v["type"] == "query"
        )
        self._write(GAP * 2, 46, f"{chosen}   Last 30 days", 9, DIM)
        note = "Preview, not Grafana: drawn from the dashboard's JSON; data of a simulated account"
        self._write(self.width - GAP * 2, 46, note, 9, COLOURS["yellow"], ha="right")
        for panel in opened.dashboard["panels"]:
            self._panel(panel)

    def save(self, file: Path) -> None:
        """Write the picture in few colours, which makes it small."""
        self.figure.savefig(file, facecolor=PAGE)
        with Image.open(file) as image:
            image.convert("RGB").quantize(128).save(file, optimize=True)

    def _axes(self, x: float, y: float, w: float, h: float) -> Axes:
        place = (x / self.width, 1 - (y + h) / self.height, w / self.width, h / self.height)
        axes = self.figure.add_axes(place)
        axes.set_xlim(0, w)
        axes.set_ylim(h, 0)
        axes.axis("off")
        return axes

    def _write(
        self, x: float, y: float, text: str, size: float, colour: str = TEXT, **how: Any
    ) -> None:
        self.canvas.text(x, y, _shown(text), size=size, color=colour, va="center", **how)

    def _panel(self, panel: Json) -> None:
        place = panel["gridPos"]
        x, y = place["x"] * CELL[0] + GAP, TOP + place["y"] * CELL[1]
        w, h = place["w"] * CELL[0] - GAP, place["h"] * CELL[1] - GAP
        if panel["type"] == "row":
            self._write(x + 4, y + 14, f"∨  {panel['title']}", 11, weight="bold")
            return
        box = FancyBboxPatch((x, y), w, h, boxstyle="round,pad=0,rounding_size=3")
        box.set(facecolor=PANEL, edgecolor=GRID, linewidth=0.8)
        self.canvas.add_patch(box)
        self._write(x + 10, y + 15, panel["title"], 9, weight="bold")
        found = [(target, self.opened.ask(target)) for target in panel["targets"]]
        inner = (x + 10, y + 30, w - 20, h - 38)
        if any(series for _, series in found):
            getattr(self, f"_{panel['type'].replace('-', '_')}")(panel, found, *inner)
        else:
            text = panel["fieldConfig"]["defaults"]["noValue"]
            self._write(x + w / 2, y + h / 2 + 8, text, 10, DIM, ha="center")

    def _stat(self, panel: Json, found: Any, x: float, y: float, w: float, h: float) -> None:
        field, value = panel["fieldConfig"]["defaults"], found[0][1][0].last
        text = words(value, field)
        size = min(24, 1.2 * w / len(text))
        self._write(
            x + w / 2, y + h / 2 - 2, text, size, colour(value, field), ha="center", weight="bold"
        )

    def _gauge(self, panel: Json, found: Any, x: float, y: float, w: float, h: float) -> None:
        field, value = panel["fieldConfig"]["defaults"], found[0][1][0].last
        centre, radius = (x + w / 2, y + h * 0.72), min(w / 2, h * 0.68)
        full = min(value / field["max"], 1)
        for share, paint in ((1, GRID), (full, colour(value, field))):
            # The page's y grows downwards, so angles do, too.
            arc = Wedge(centre, radius, 180, 180 + 180 * share, width=radius * 0.28, color=paint)
            self.canvas.add_patch(arc)
        text = words(value, field)
        self._write(*centre, text, 20, colour(value, field), ha="center", weight="bold")

    def _bargauge(self, panel: Json, found: Any, x: float, y: float, w: float, h: float) -> None:
        field = panel["fieldConfig"]["defaults"]
        bars = [(_legend(target, series), series.last) for target, all_ in found for series in all_]
        most, height = max(value for _, value in bars), h / max(len(bars), 6)
        for number, (name, value) in enumerate(bars):
            middle = y + (number + 0.5) * height
            self._write(x, middle, name[:30], 8.5)
            for share, paint in ((1.0, GRID), (value / most, colour(value, field))):
                self.canvas.barh(
                    middle, share * w * 0.42, height * 0.6, left=x + w * 0.42, color=paint
                )
            self._write(x + w, middle, words(value, field), 9, colour(value, field), ha="right")

    def _timeseries(self, panel: Json, found: Any, x: float, y: float, w: float, h: float) -> None:
        axes = self._plot(x + 56, y + 4, w - 62, h - 50)
        field, lines = panel["fieldConfig"]["defaults"], list(_named(found))
        stacked = "stacking" in field["custom"]
        base: dict[float, float] = {}
        legend = []
        for number, (name, series) in enumerate(lines):
            own = _field(panel, name)
            fixed = own["color"].get("fixedColor")
            paint = COLOURS.get(fixed, fixed) or PALETTE[number % len(PALETTE)]
            legend.append((name, paint))
            times = [at for at, _ in series.points]
            floor = [base.get(at, 0.0) if stacked else 0.0 for at in times]
            values = [low + value for low, (_, value) in zip(floor, series.points, strict=True)]
            base.update(zip(times, values, strict=True))
            custom = own["custom"]
            if custom["drawStyle"] == "bars":
                width = min(np.diff(times), default=3600) * 0.8
                heights = [value for _, value in series.points]
                axes.bar(times, heights, width, floor, color=paint, linewidth=0)
                continue
            gaps = _with_gaps(times, values, floor)
            step = custom["lineInterpolation"] == "stepAfter"
            dashes = (0, (5, 4)) if "lineStyle" in custom else "solid"
            axes.plot(
                gaps[0], gaps[1], color=paint, linewidth=1.3, linestyle=dashes,
                drawstyle="steps-post" if step else "default",
            )  # fmt: skip
            if custom["fillOpacity"]:
                axes.fill_between(
                    gaps[0], gaps[2], gaps[1], color=paint, alpha=custom["fillOpacity"] / 100,
                    linewidth=0, step="post" if step else None,
                )  # fmt: skip
        if "min" in field:
            axes.set_ylim(field["min"], axes.get_ylim()[1] * 1.04)
        axes.locator_params(axis="y", nbins=5)
        axes.yaxis.set_major_formatter(lambda value, _: words(value, field))
        self._legend_line(legend, x, y + h - 6, w)

    def _state_timeline(
        self, panel: Json, found: Any, x: float, y: float, w: float, h: float
    ) -> None:
        axes = self._plot(x + 170, y, w - 176, h - 46)
        field, lines = panel["fieldConfig"]["defaults"], list(_named(found))
        for row, (_, series) in enumerate(lines):
            step = min(np.diff([at for at, _ in series.points]), default=3600)
            for at, value in series.points:
                axes.barh(row, step * 1.02, 0.8, left=at, color=colour(value, field))
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_yticks(range(len(lines)), [_shown(name)[:28] for name, _ in lines])
        states = [state for mapping in field["mappings"] for state in mapping["options"].values()]
        legend = [(state["text"], COLOURS.get(state["color"], state["color"])) for state in states]
        self._legend_line(legend, x, y + h - 6, w)

    def _plot(self, x: float, y: float, w: float, h: float) -> Axes:
        axes = self._axes(x, y, w, h)
        axes.set_ylim(0, 1)
        axes.set_autoscaley_on(True)
        axes.axis("on")
        axes.set_facecolor(PANEL)
        axes.set_xlim(self.opened.start, self.opened.end)
        midnight = self.opened.start // DAY * DAY
        axes.set_xticks([midnight + day * DAY for day in range(2, 31, 4)])
        axes.xaxis.set_major_formatter(lambda at, _: f"{datetime.fromtimestamp(at, UTC):%m/%d}")
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(colors=DIM, labelsize=8, length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def _legend_line(self, entries: list[tuple[str, str]], x: float, y: float, w: float) -> None:
        at = x
        for name, paint in entries:
            text = _shown(name)[:26]
            length = 26 + 6.1 * len(text)
            if at + length > x + w:
                self._write(at, y, "…", 9, DIM)
                return
            self.canvas.plot([at, at + 10], [y, y], color=paint, linewidth=3)
            self._write(at + 15, y, text, 8, DIM)
            at += length

    def _table(self, panel: Json, found: Any, x: float, y: float, w: float, h: float) -> None:
        titles, rows = tabled(panel, found)
        fields = {title: _field(panel, title) for title in titles}
        given = {title: field["custom"].get("width", 0) for title, field in fields.items()}
        rest = (w - sum(given.values())) / max(1, sum(not width for width in given.values()))
        lefts, at = [], x
        for title in titles:
            lefts.append((title, at, given[title] or rest))
            at += given[title] or rest
        height = 25
        fit = int((h - height) // height)
        for title, left, _ in lefts:
            self._write(left, y + 8, title, 8.5, COLOURS["blue"], weight="bold")
        for number, row in enumerate(rows[:fit]):
            middle = y + 8 + (number + 1) * height
            self.canvas.plot([x, x + w], [middle - height / 2] * 2, color=GRID, linewidth=0.6)
            for title, left, width in lefts:
                self._cell(row.get(title), fields[title], left, middle, width)
        if len(rows) > fit:
            self._write(x + w, y - 15, f"1–{fit} of {len(rows)}", 8, DIM, ha="right")

    def _cell(self, value: Any, field: Json, left: float, middle: float, width: float) -> None:
        if value is None or value == "":
            return
        paint, kind = TEXT, field["custom"].get("cellOptions", {}).get("type")
        text = value if isinstance(value, str) else words(value, field)
        if isinstance(value, float) and kind:
            paint = colour(value, field)
        if kind == "gauge":
            room = width - 58
            share = min(value / field["max"], 1)
            self.canvas.barh(middle, room, 12, left=left, color=GRID)
            self.canvas.barh(middle, share * room, 12, left=left, color=paint)
            self._write(left + width - 12, middle, text, 8.5, paint, ha="right")
            return
        if "links" in field:
            paint = "#6e9fff"
        room = int(width / 6.6)
        self._write(left, middle, text if len(text) <= room else f"{text[: room - 1]}…", 8.5, paint)


def _named(found: Any) -> Iterator[tuple[str, Series]]:
    for target, all_ in found:
        for series in all_:
            yield _legend(target, series), series


def _with_gaps(
    times: list[float], values: list[float], floor: list[float]
) -> tuple[list[float], list[float], list[float]]:
    """Break lines where there were no samples."""
    step = min(np.diff(times), default=0)
    out: tuple[list[float], list[float], list[float]] = ([], [], [])
    for at, value, low in zip(times, values, floor, strict=True):
        if out[0] and at - out[0][-1] > 1.5 * step:
            for column in out:
                column.append(float("nan"))
            out[0][-1] = at - step
        for column, number in zip(out, (at, value, low), strict=True):
            column.append(number)
    return out


def main() -> None:
    """Draw all three."""
    mpl.rcParams["font.family"] = ["DejaVu Sans"]
    chosen = {"borgbase-repository": {"account": "home", "repo": "mail.example.org"}}
    with tempfile.TemporaryDirectory() as folder, simulated(Path(folder)) as shown:
        for name, text in files().items():
            uid = name.removesuffix(".json")
            opened = Opened(
                load(text), shown.prometheus.api, END - 30 * DAY, END, chosen.get(uid, {})
            )
            file = IMAGES / f"dashboard-{uid.removeprefix('borgbase-')}.png"
            Picture(opened).save(file)


if __name__ == "__main__":
    main()
