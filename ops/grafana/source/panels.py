"""What the dashboards are made of: panels with a title, a unit and a word on what bad looks like, laid out in rows.

A dashboard here is a list of rows of panels; `build.py` writes Grafana's JSON from it. Nothing of it is edited by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# The version of Grafana whose schema the JSON is held against, and the format of that time.
GRAFANA = "12.4.11"
SCHEMA_VERSION = 42
WIDTH = 24

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Every query of the program's own metrics has these; recordings are aggregated by job and have JOB alone.
SCOPE = 'job=~"$job",instance=~"$instance"'
JOB = 'job=~"$job"'
# Every process has every metric; where each is drawn by itself, those that can have nothing to say are left out.
WORKERS = SCOPE + ',job!="autoreply-desktop"'
DESKS = SCOPE + ',job!="autoreply-worker"'

GREEN, YELLOW, ORANGE, RED, BLUE = "green", "yellow", "orange", "red", "blue"
# From which value on which colour; the first holds for everything below.
Steps = list[tuple[float | None, str]]
ALWAYS: Steps = [(None, BLUE)]
ZERO_IS_WELL: Steps = [(None, GREEN), (1, RED)]
ZERO_IS_BETTER: Steps = [(None, GREEN), (1, ORANGE)]


@dataclass
class Query:
    """One question to Prometheus, and what its series are called."""

    expr: str
    legend: str = ""


@dataclass
class Panel:
    """A panel without its place."""

    kind: str
    title: str
    unit: str
    description: str
    queries: list[Query]
    steps: Steps
    width: int
    height: int
    defaults: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    overrides: list[dict[str, Any]] = field(default_factory=list)
    transformations: list[dict[str, Any]] = field(default_factory=list)
    instant: bool = False
    more: str | None = None


@dataclass
class Row:
    """Panels below a heading."""

    title: str
    panels: list[Panel]


@dataclass
class Dashboard:
    """A whole dashboard."""

    uid: str
    file: str
    title: str
    description: str
    rows: list[Row]


def told(shows: str, bad: str) -> str:
    """A description: what is shown, and what bad looks like."""
    return f"{shows}\n\n**Bad:** {bad}"


def stat(
    title: str, unit: str, shows: str, bad: str, expr: str, steps: Steps, *, decimals: int | None = None, more: str | None = None,
    width: int = 4, height: int = 4,
) -> Panel:  # fmt: skip
    """One figure, coloured by what it means; `more` is the dashboard that says more about it."""
    defaults: dict[str, Any] = {} if decimals is None else {"decimals": decimals}
    options = {
        "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""},
        "orientation": "auto", "textMode": "auto", "wideLayout": True, "colorMode": "background", "graphMode": "area", "justifyMode": "auto", "showPercentChange": False, "percentChangeColorMode": "standard",
    }  # fmt: skip
    return Panel("stat", title, unit, told(shows, bad), [Query(expr)], steps, width, height, defaults, options, more=more)


def series(
    title: str, unit: str, shows: str, bad: str, queries: list[Query], *, steps: Steps | None = None, stack: bool = False,
    bars: bool = False, width: int = 8, height: int = 8, log: bool = False, low: float | None = 0, high: float | None = None,
    soft: float | None = None, colours: dict[str, str] | None = None,
) -> Panel:  # fmt: skip
    """Curves over time; with `steps` a line where it becomes bad. The axis reaches up to `soft` at least."""
    custom: dict[str, Any] = {
        "drawStyle": "bars" if bars else "line", "lineInterpolation": "linear", "lineWidth": 1 if stack or bars else 2,
        "fillOpacity": 60 if bars else 25 if stack else 8, "gradientMode": "none", "showPoints": "never", "pointSize": 5,
        "spanNulls": False, "axisPlacement": "auto", "axisLabel": "", "axisBorderShow": False, "axisCenteredZero": False,
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        "scaleDistribution": {"type": "log", "log": 10} if log else {"type": "linear"},
        "thresholdsStyle": {"mode": "dashed" if steps else "off"},
        "hideFrom": {"legend": False, "tooltip": False, "viz": False},
    }  # fmt: skip
    if soft is not None:
        custom["axisSoftMax"] = soft
    defaults: dict[str, Any] = {"custom": custom}
    if low is not None and not log:
        defaults["min"] = low
    if high is not None:
        defaults["max"] = high
    overrides = [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]}
        for name, colour in (colours or {}).items()
    ]
    options = {
        "legend": {"displayMode": "table" if width >= 12 else "list", "placement": "right" if width >= 12 else "bottom", "showLegend": True,
                   "calcs": ["lastNotNull", "max"] if width >= 12 else []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }  # fmt: skip
    return Panel("timeseries", title, unit, told(shows, bad), queries, steps or [(None, GREEN)], width, height, defaults, options, overrides)


def bars(title: str, unit: str, shows: str, bad: str, query: Query, steps: Steps, *, width: int = 8, height: int = 8) -> Panel:
    """One bar a series, with its figure."""
    options = {
        "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""},
        "orientation": "horizontal", "displayMode": "basic", "valueMode": "text", "namePlacement": "left", "showUnfilled": True,
        "sizing": "auto", "minVizWidth": 8, "minVizHeight": 16, "maxVizHeight": 40,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
    }  # fmt: skip
    return Panel("bargauge", title, unit, told(shows, bad), [query], steps, width, height, {"min": 0, "decimals": 0} if unit == "none" else {"min": 0}, options, instant=True)


def mapping(texts: dict[int, tuple[str, str]]) -> dict[str, Any]:
    """Words and colours in place of figures."""
    options = {str(value): {"text": text, "color": colour, "index": place} for place, (value, (text, colour)) in enumerate(texts.items())}
    return {"type": "value", "options": options}


def states(
    title: str, shows: str, bad: str, query: Query, texts: dict[int, tuple[str, str]], *, width: int = 12, height: int = 8
) -> Panel:
    """A band a series that shows when it was how."""
    defaults = {
        "mappings": [mapping(texts)],
        "custom": {"lineWidth": 0, "fillOpacity": 75,
                   "hideFrom": {"legend": False, "tooltip": False, "viz": False}},
    }  # fmt: skip
    steps: Steps = [(float(value) if place else None, colour) for place, (value, (_, colour)) in enumerate(sorted(texts.items()))]
    options = {
        "mergeValues": True, "showValue": "never", "alignValue": "left", "rowHeight": 0.8,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    }  # fmt: skip
    return Panel("state-timeline", title, "none", told(shows, bad), [query], steps, width, height, defaults, options)


def table(
    title: str, shows: str, bad: str, expr: str, columns: dict[str, str], *, colours: dict[str, dict[str, str]] | None = None,
    width: int = 12, height: int = 8,
) -> Panel:  # fmt: skip
    """The labels of an instant query's series: `columns` names those that are shown, with their headings."""
    left_out = ["Time", "Value", "__name__", *[name for name in ("alertname", "alertstate", "job", "instance", "severity", "version",
                "provider", "topic", "state", "at", "window", "installation") if name not in columns]]  # fmt: skip
    organize = {
        "excludeByName": {name: True for name in left_out},
        "indexByName": {name: place for place, name in enumerate(columns)},
        "renameByName": columns,
    }
    overrides = [
        {"matcher": {"id": "byName", "options": column}, "properties": [
            {"id": "custom.cellOptions", "value": {"type": "color-text"}},
            {"id": "mappings", "value": [{"type": "value", "options": {
                word: {"color": colour, "index": place} for place, (word, colour) in enumerate(words.items())}}]}]}
        for column, words in (colours or {}).items()
    ]  # fmt: skip
    defaults = {"custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}}
    return Panel(
        "table", title, "none", told(shows, bad), [Query(expr)], [(None, GREEN)], width, height, defaults,
        {"showHeader": True, "cellHeight": "sm", "frameIndex": 0, "sortBy": [{"displayName": next(iter(columns.values())), "desc": False}]}, overrides, [{"id": "organize", "options": organize}], instant=True,
    )  # fmt: skip


def quantiles(metric: str, scope: str = SCOPE, by: str = "", legend: str = "") -> list[Query]:
    """The times within which half, 95 and 99 of 100 observations of a histogram lie."""
    inner = f"sum by (le{', ' + by if by else ''}) (rate({metric}_bucket{{{scope}}}[$__rate_interval]))"
    return [Query(f"histogram_quantile({q}, {inner})", f"{legend}{name}") for q, name in ((0.5, "half"), (0.95, "95 of 100"), (0.99, "99 of 100"))]


def quantile(q: float, metric: str, by: str, scope: str = SCOPE) -> Query:
    """One quantile of a histogram, a curve for each value of the label `by`."""
    return Query(
        f"histogram_quantile({q}, sum by (le, {by}) (rate({metric}_bucket{{{scope}}}[$__rate_interval])))", f"{{{{{by}}}}}"
    )


def rate(metric: str, by: str = "", legend: str | None = None, scope: str = SCOPE, only_moving: bool = False) -> Query:
    """How often a second something is counted; with `only_moving` without what was never counted in the time shown."""
    inner = f"rate({metric}{{{scope}}}[$__rate_interval])"
    expr = f"sum by ({by}) ({inner})" if by else f"sum({inner})"
    if only_moving:
        expr += f" and on ({by}) sum by ({by}) (increase({metric}{{{scope}}}[$__range] @ end())) > 0"
    return Query(expr, legend if legend is not None else f"{{{{{by}}}}}")
