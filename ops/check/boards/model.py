"""The dashboards as they stand in ops/grafana/dashboards: their questions, as Grafana would ask them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
DASHBOARDS = ROOT / "ops/grafana/dashboards"


@dataclass(frozen=True)
class Question:
    """One expression, and where it stands: `overview/Alerts that fire/A`."""

    where: str
    expr: str
    legend: str = ""
    instant: bool = False


def load() -> dict[str, dict[str, Any]]:
    """Every dashboard by the name of its file."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels that show something: rows are headings."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def chosen(dashboard: dict[str, Any]) -> dict[str, str]:
    """What stands in queries for each variable while everything is chosen."""
    return {one["name"]: one["allValue"] for one in dashboard["templating"]["list"] if one["type"] == "query"}


def filled(expr: str, values: dict[str, str], range_s: float, interval_s: int) -> str:
    """An expression with Grafana's variables replaced, for a time range and the step between two points."""
    # As Grafana does: four scrapes, or a step and a scrape.
    builtin = {"__rate_interval": f"{max(interval_s + 1, 4)}s", "__interval": f"{interval_s}s", "__range": f"{max(1, int(range_s))}s"}
    for name, value in {**builtin, **values}.items():
        expr = expr.replace(f"${{{name}}}", value).replace(f"${name}", value)
    return expr


def questions(name: str, dashboard: dict[str, Any]) -> Iterator[Question]:
    """Every question of a dashboard: those of its panels, its variables and its annotations, not filled in yet."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield Question(f"{name}/{panel['title']}/{target['refId']}", target["expr"], target["legendFormat"], target["instant"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            series, _, label = variable["definition"].removeprefix("label_values(").removesuffix(")").rpartition(", ")
            yield Question(f"{name}/variable {variable['name']}", f"count by ({label}) ({series})", instant=True)
    for annotation in dashboard["annotations"]["list"]:
        if "expr" in annotation:
            yield Question(f"{name}/annotation {annotation['name']}", annotation["expr"])
