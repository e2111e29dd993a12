"""Curves, bars, bands, tables and figures as HTML and SVG, from what Prometheus answered. No question is asked here."""

from __future__ import annotations

import html
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

COLOURS = {
    "green": "#73bf69", "yellow": "#fade2a", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2", "purple": "#b877d9",
    "dark-red": "#c4162a", "dark-orange": "#fa6400", "light-blue": "#8ab8ff", "gray": "#8e8e8e", "transparent": "none",
}  # fmt: skip
PALETTE = ["#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0", "#508642", "#cca300",
           "#447ebc", "#c15c17", "#890f02", "#0a437c", "#6d1f62"]  # fmt: skip
# Of a legend beside its curves, in pixels.
LEGEND_WIDTH = 250
# Behind white text.
BEHIND = {"#73bf69": "#2f7d32", "#ff9830": "#b8620f", "#f2495c": "#b3243a", "#5794f2": "#2b5cb0", "#fade2a": "#8f7a00"}

Points = list[tuple[float, float]]


@dataclass
class Curve:
    """One series with its name, its labels and its figures; those that are no numbers are left out."""

    name: str
    labels: dict[str, str]
    points: Points


@dataclass
class Frame:
    """What all panels of a picture share: the time that is shown, and what happened in it."""

    begin_s: float
    end_s: float
    step_s: float
    marks: list[tuple[float, str]]


def named(legend: str, labels: dict[str, str]) -> str:
    """A series' name, as Grafana fills a legend in."""
    if legend == "__auto":
        return ", ".join(f"{key}={value}" for key, value in labels.items() if key != "__name__")
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), legend)


def short(value: float, decimals: int | None = None) -> str:
    """A figure in few digits."""
    if decimals is not None:
        return f"{value:.{decimals}f}"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def figure(value: float, unit: str, decimals: int | None = None) -> str:
    """A figure with its unit."""
    if unit == "percentunit":
        return f"{short(value * 100, decimals)}%"
    if unit == "s":
        if value and abs(value) < 0.001:
            return f"{short(value * 1e6, decimals)} µs"
        if value and abs(value) < 1:
            return f"{short(value * 1e3, decimals)} ms"
        if abs(value) < 60:
            return f"{short(value, decimals)} s"
        return f"{short(value / 60, 1)} min" if abs(value) < 3600 else f"{short(value / 3600, 1)} hours"
    if unit == "bytes":
        for name in ("B", "KiB", "MiB", "GiB"):
            if abs(value) < 1024 or name == "GiB":
                return f"{short(value, decimals)} {name}"
            value /= 1024
    if unit.startswith("suffix:"):
        return f"{short(value, decimals)}{unit.removeprefix('suffix:')}"
    if unit == "short" and abs(value) >= 1000:
        return f"{short(value / 1000, decimals)} K"
    return short(value, decimals)


def coloured(name: str) -> str:
    """A colour as the browser knows it."""
    return COLOURS.get(name, name)


def step_colour(panel: dict[str, Any], value: float) -> str:
    """The colour of a figure by the panel's thresholds."""
    colour = "green"
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    return coloured(colour)


def overridden(panel: dict[str, Any]) -> dict[str, str]:
    """Colours that are fixed for series by name."""
    fixed = {}
    for override in panel["fieldConfig"]["overrides"]:
        for one in override["properties"]:
            if one["id"] == "color":
                fixed[override["matcher"]["options"]] = coloured(one["value"]["fixedColor"])
    return fixed


def nice_step(span: float, wanted: int) -> float:
    """A round distance between ticks."""
    raw = span / max(1, wanted)
    base = 10 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    return next(base * factor for factor in (1, 2, 2.5, 5, 10) if base * factor >= raw)


class Axes:
    """Where a point of time and a figure lie in a plot."""

    left, right, top, bottom = 58, 10, 8, 22

    def __init__(self, panel: dict[str, Any], frame: Frame, width: int, height: int, curves: list[Curve]) -> None:
        defaults = panel["fieldConfig"]["defaults"]
        self.panel, self.frame, self.width, self.height = panel, frame, width, height
        self.log = defaults.get("custom", {}).get("scaleDistribution", {}).get("type") == "log"
        values = [value for curve in curves for _, value in curve.points]
        if self.log:
            positive = [value for value in values if value > 0] or [0.01, 1.0]
            self.low = 10 ** math.floor(math.log10(min(positive)))
            self.high = max(10 ** math.ceil(math.log10(max(positive))), self.low * 10)
            count = round(math.log10(self.high / self.low))
            self.ticks = [self.low * 10**place for place in range(0, count + 1, max(1, count // 4))]
            return
        low = defaults.get("min", min(values, default=0.0))
        soft = defaults.get("custom", {}).get("axisSoftMax", -math.inf)
        high = defaults.get("max", max(*values, soft) if values else 1.0)
        if high <= low:
            high = low + 1
        step = nice_step(high - low, 4)
        if defaults["unit"] == "bytes":
            step = 2.0 ** math.ceil(math.log2((high - low) / 4))
        self.low = low if "min" in defaults else math.floor(low / step) * step
        self.high = high if "max" in defaults else math.ceil(high / step - 1e-9) * step
        self.ticks = [self.low + step * place for place in range(int((self.high - self.low) / step + 1e-9) + 1)]

    def x(self, at_s: float) -> float:
        """From the left."""
        share = (at_s - self.frame.begin_s) / (self.frame.end_s - self.frame.begin_s)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """From the top."""
        if self.log:
            share = math.log10(max(value, self.low) / self.low) / math.log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.height - self.bottom - min(1.0, max(0.0, share)) * (self.height - self.top - self.bottom)

    def drawn(self) -> str:
        """Grid, ticks and their words."""
        unit, parts = self.panel["fieldConfig"]["defaults"]["unit"], []
        for tick in self.ticks:
            y = self.y(tick)
            parts.append(f'<line x1="{self.left}" x2="{self.width - self.right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
            parts.append(f'<text x="{self.left - 6}" y="{y + 4:.1f}" class="tick" text-anchor="end">{figure(tick, unit)}</text>')
        every = 30 if self.width > 400 else 60
        at_s = math.ceil(self.frame.begin_s / every) * every
        while at_s < self.frame.end_s:
            x, clock = self.x(at_s), datetime.fromtimestamp(at_s, UTC).strftime("%H:%M:%S")
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{self.top}" y2="{self.height - self.bottom}" class="grid"/>')
            if self.left + 10 < x < self.width - 28:
                parts.append(f'<text x="{x:.1f}" y="{self.height - 6}" class="tick" text-anchor="middle">{clock}</text>')
            at_s += every
        return "".join(parts)

    def marked(self) -> str:
        """What happened: starts and alerts, as dashed lines with a flag below."""
        parts = []
        for at_s, colour in self.frame.marks:
            if self.frame.begin_s <= at_s <= self.frame.end_s:
                x, floor = self.x(at_s), self.height - self.bottom
                parts.append(
                    f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{self.top}" y2="{floor}" stroke="{colour}" class="mark"/>'
                    f'<path d="M{x - 4:.1f} {floor + 6} L{x + 4:.1f} {floor + 6} L{x:.1f} {floor} Z" fill="{colour}"/>'
                )
        return "".join(parts)

    def thresholds(self) -> str:
        """The lines above (or below) which it is bad."""
        if self.panel["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"]["mode"] == "off":
            return ""
        parts = []
        for step in self.panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
            if step["value"] is not None and self.low <= step["value"] <= self.high:
                y = self.y(step["value"])
                parts.append(
                    f'<line x1="{self.left}" x2="{self.width - self.right}" y1="{y:.1f}" y2="{y:.1f}" '
                    f'stroke="{coloured(step["color"])}" class="threshold"/>'
                )
        return "".join(parts)


def runs(points: Points, step_s: float) -> list[Points]:
    """A series cut where it has gaps."""
    parts: list[Points] = []
    for point in points:
        if not parts or point[0] - parts[-1][-1][0] > 1.5 * step_s:
            parts.append([])
        parts[-1].append(point)
    return parts


def stacked(curves: list[Curve], frame: Frame) -> list[tuple[Curve, Points]]:
    """Each series on top of the ones before it, with where it begins."""
    floor: dict[float, float] = {}
    made = []
    for curve in curves:
        base = [(at_s, floor.get(at_s, 0.0)) for at_s, _ in curve.points]
        lifted = [(at_s, floor.get(at_s, 0.0) + value) for at_s, value in curve.points]
        floor.update(lifted)
        made.append((Curve(curve.name, curve.labels, lifted), base))
    return made


def plot(panel: dict[str, Any], frame: Frame, curves: list[Curve], width: int, height: int) -> str:
    """A time series panel, without its title."""
    custom, fixed = panel["fieldConfig"]["defaults"]["custom"], overridden(panel)
    colours = [fixed.get(curve.name, PALETTE[place % len(PALETTE)]) for place, curve in enumerate(curves)]
    table = panel["options"]["legend"]["displayMode"] == "table"
    legend = legend_of(panel, curves, colours, table)
    if table:
        width -= LEGEND_WIDTH
    plot_height = height - 4 if table else max(90, height - (18 * legend_lines(curves, width) + 4))
    stack = custom["stacking"]["mode"] == "normal"
    lifted = stacked(curves, frame) if stack else [(curve, [(at_s, 0.0) for at_s, _ in curve.points]) for curve in curves]
    axes = Axes(panel, frame, width, plot_height, [curve for curve, _ in lifted])
    shapes = []
    for (curve, base), colour in reversed(list(zip(lifted, colours, strict=True))):
        below = dict(base)
        for part in runs(curve.points, frame.step_s):
            line = " L".join(f"{axes.x(at_s):.1f} {axes.y(value):.1f}" for at_s, value in part)
            back = " L".join(f"{axes.x(at_s):.1f} {axes.y(max(below[at_s], axes.low)):.1f}" for at_s, _ in reversed(part))
            if not axes.log:
                shapes.append(f'<path d="M{line} L{back} Z" fill="{colour}" fill-opacity="{custom["fillOpacity"] / 100}"/>')
            shapes.append(f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="{custom["lineWidth"]}" stroke-linejoin="round"/>')
    inside = axes.drawn() + "".join(shapes) + axes.thresholds() + axes.marked()
    drawn = f'<svg width="{width}" height="{plot_height}">{inside}</svg>'
    return f'<div class="beside">{drawn}<div style="width:{LEGEND_WIDTH}px">{legend}</div></div>' if table else drawn + legend


def legend_lines(curves: list[Curve], width: int) -> int:
    """How many lines a legend takes that is written one name after the other."""
    lines, used = 1, 0.0
    for curve in curves:
        need = 30 + 6.6 * len(curve.name)
        if used and used + need > width:
            lines, used = lines + 1, 0.0
        used += need
    return lines


def legend_of(panel: dict[str, Any], curves: list[Curve], colours: list[str], table: bool) -> str:
    """Names in their colours; as a table with the last and the greatest figure."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    if not table:
        names = (f'<span><i style="background:{colour}"></i>{html.escape(curve.name)}</span>' for curve, colour in zip(curves, colours, strict=True))
        return f'<div class="legend">{"".join(names)}</div>'
    rows = "".join(
        f'<tr><td><i style="background:{colour}"></i>{html.escape(curve.name)}</td><td>{figure(curve.points[-1][1], unit)}</td>'
        f"<td>{figure(max(value for _, value in curve.points), unit)}</td></tr>"
        for curve, colour in zip(curves, colours, strict=True)
    )
    return f'<table class="legend"><tr><th>Name</th><th>Last</th><th>Max</th></tr>{rows}</table>'


def big(panel: dict[str, Any], frame: Frame, curves: list[Curve], width: int, height: int) -> str:
    """One figure on its colour, with its course below."""
    defaults = panel["fieldConfig"]["defaults"]
    value = curves[0].points[-1][1]
    colour = step_colour(panel, value)
    points = curves[0].points
    low, high = min(0.0, *(v for _, v in points)), max(v for _, v in points)
    span = (high - low) or 1.0
    course = " L".join(
        f"{(at_s - frame.begin_s) / (frame.end_s - frame.begin_s) * width:.1f} {height - 4 - (v - low) / span * height * 0.35:.1f}"
        for at_s, v in points
    )
    last, first = (points[-1][0], points[0][0])
    ends = [(at_s - frame.begin_s) / (frame.end_s - frame.begin_s) * width for at_s in (last, first)]
    area = f'<path d="M{course} L{ends[0]:.1f} {height} L{ends[1]:.1f} {height} Z" fill="#fff" fill-opacity="0.14"/>'
    line = f'<path d="M{course}" fill="none" stroke="#fff" stroke-opacity="0.45"/>'
    text = figure(value, defaults["unit"], defaults.get("decimals"))
    return (
        f'<div class="big" style="background:{BEHIND.get(colour, colour)};height:{height}px"><svg width="{width}" height="{height}">{area}{line}</svg>'
        f"<b>{html.escape(text)}</b></div>"
    )


def bar_gauge(panel: dict[str, Any], curves: list[Curve], height: int) -> str:
    """A bar a series."""
    unit, decimals = panel["fieldConfig"]["defaults"]["unit"], panel["fieldConfig"]["defaults"].get("decimals")
    most = max((curve.points[-1][1] for curve in curves), default=1.0) or 1.0
    each = min(34, max(14, (height - 10) // max(1, len(curves)) - 5))
    rows = "".join(
        f'<div class="bar" style="height:{each}px"><span>{html.escape(curve.name)}</span><div><i style="width:{curve.points[-1][1] / most * 100:.1f}%;'
        f'background:{step_colour(panel, curve.points[-1][1])}"></i></div><b>{figure(curve.points[-1][1], unit, decimals)}</b></div>'
        for curve in curves
    )
    return f'<div class="bars">{rows}</div>'


def held(points: Points, step_s: float) -> list[tuple[float, float, float]]:
    """From when until when a series had which figure."""
    made: list[tuple[float, float, float]] = []
    for at_s, value in points:
        if made and made[-1][2] == value and at_s - made[-1][1] < step_s / 2:
            made[-1] = (made[-1][0], at_s + step_s, value)
        else:
            made.append((at_s, at_s + step_s, value))
    return made


def bands(panel: dict[str, Any], frame: Frame, curves: list[Curve], width: int, height: int) -> str:
    """A band a series, coloured by what its figures mean."""
    mapping = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    axes = Axes(panel, frame, width, height - 22, [])
    axes.left, axes.ticks = 24 + int(7 * max(len(curve.name) for curve in curves)), []
    each = (axes.height - axes.bottom - axes.top) / max(1, len(curves))
    shapes = []
    for place, curve in enumerate(curves):
        top = axes.top + place * each
        shapes.append(f'<text x="{axes.left - 8}" y="{top + each / 2 + 4:.1f}" class="tick" text-anchor="end">{html.escape(curve.name)}</text>')
        for begin_s, end_s, value in held(curve.points, frame.step_s):
            colour, left = coloured(mapping.get(str(int(value)), {"color": "gray"})["color"]), axes.x(begin_s)
            shapes.append(
                f'<rect x="{left:.1f}" y="{top + each * 0.1:.1f}" width="{axes.x(min(end_s, frame.end_s)) - left:.1f}" '
                f'height="{each * 0.8:.1f}" fill="{colour}" fill-opacity="0.75"/>'
            )
    names = "".join(f'<span><i style="background:{coloured(one["color"])}"></i>{html.escape(one["text"])}</span>' for one in mapping.values())
    return f'<svg width="{width}" height="{axes.height}">{axes.drawn()}{"".join(shapes)}</svg><div class="legend">{names}</div>'


def table_of(panel: dict[str, Any], curves: list[Curve]) -> str:
    """Labels as columns."""
    renamed: dict[str, str] = panel["transformations"][0]["options"]["renameByName"]
    words = {
        override["matcher"]["options"]: one["value"][0]["options"]
        for override in panel["fieldConfig"]["overrides"] for one in override["properties"] if one["id"] == "mappings"
    }  # fmt: skip
    sort = panel["options"]["sortBy"][0]["displayName"]
    key = next(label for label, heading in renamed.items() if heading == sort)
    shown = {label: heading for label, heading in renamed.items() if any(label in curve.labels for curve in curves)}
    rows = []
    for curve in sorted(curves, key=lambda curve: curve.labels.get(key, "")):
        cells = []
        for label, heading in shown.items():
            text = curve.labels.get(label, "")
            colour = words.get(heading, {}).get(text, {}).get("color")
            cells.append(f'<td style="color:{coloured(colour)}">{html.escape(text)}</td>' if colour else f"<td>{html.escape(text)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in shown.values())
    return f'<table class="list"><tr>{head}</tr>{"".join(rows)}</table>'


def inside(panel: dict[str, Any], frame: Frame, curves: list[Curve], width: int, height: int) -> str:
    """What a panel shows below its title."""
    if not curves:
        return '<div class="nothing">nothing, and rightly so: see ops/check/may-be-empty.toml</div>'
    match panel["type"]:
        case "stat":
            return big(panel, frame, curves, width, height)
        case "timeseries":
            return plot(panel, frame, curves, width, height)
        case "bargauge":
            return bar_gauge(panel, curves, height)
        case "state-timeline":
            return bands(panel, frame, curves, width, height)
        case "table":
            return table_of(panel, curves)
        case other:
            raise ValueError(f"panels of the kind {other} cannot be drawn")
