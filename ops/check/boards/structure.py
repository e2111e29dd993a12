"""Holds the dashboards to what a person needs of them, and their queries to the metrics that exist.

Every panel has a title, a unit and a description that says what bad looks like; ids and places are sound; links lead
somewhere; each metric in a query is in docs/METRICS.md or recorded by a rule, with the label values that it can have;
a real Prometheus reads each query.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from answers import excused, rules
from model import ROOT, chosen, filled, load, panels, questions
from prometheus import Prometheus, Refused

# Metrics of Prometheus itself and of its client library.
COMMON = {"up", "ALERTS", "process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total"}
NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)(=~|=|!=|!~)"([^"]*)"')
OWN = re.compile(r"\bautoreply[_:][a-z0-9_:]+")


def catalogue() -> dict[str, dict[str, set[str] | None]]:
    """Each metric of docs/METRICS.md with its labels and their values; `None` where the settings name them."""
    metrics: dict[str, dict[str, set[str] | None]] = {}
    for line in (ROOT / "docs/METRICS.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) < 4 or not cells[0].startswith("`autoreply_"):
            continue
        labels: dict[str, set[str] | None] = {}
        for label, values in re.findall(r"`(\w+)`(?:: ([^;]*))?", cells[2]):
            labels[label] = {value.strip() for value in values.split(",")} if values else None
        name = cells[0].strip("`")
        for end in ("_bucket", "_sum", "_count") if cells[1] == "histogram" else ("",):
            metrics[name + end] = labels
    return metrics


def recorded() -> set[str]:
    """The names that recording rules give."""
    found: set[str] = set()
    for path in rules():
        found |= set(re.findall(r"^\s*- record: (\S+)", path.read_text(encoding="utf-8"), re.M))
    return found


def faults_of_query(expr: str, known: dict[str, dict[str, set[str] | None]], recordings: set[str]) -> Iterator[str]:
    """What a query asks that does not exist."""
    for name in set(OWN.findall(expr)):
        if name not in known and name not in recordings:
            yield f"{name} is neither in docs/METRICS.md nor recorded by a rule"
    for name, inside in SELECTOR.findall(expr):
        for label, operator, value in MATCHER.findall(inside):
            values = known.get(name, {}).get(label)
            if label in ("job", "instance", "alertname", "alertstate", "le") or name not in known:
                continue
            if label not in known[name]:
                yield f"{name} has no label {label}"
            elif values is not None and operator in ("=", "!=") and value not in values:
                yield f"{name} never has {label}={value}"


def faults_of_panel(panel: dict[str, Any], uids: set[str]) -> Iterator[str]:
    """What a person, or Grafana, would miss in a panel."""
    if not panel.get("title", "").strip():
        yield "it has no title"
    if "\n\n**Bad:** " not in panel.get("description", ""):
        yield "its description does not say what bad looks like"
    if not panel["fieldConfig"]["defaults"].get("unit"):
        yield "it has no unit"
    if not panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        yield "it has no thresholds"
    references = [target["refId"] for target in panel["targets"]]
    if not references or len(set(references)) != len(references):
        yield "its queries are missing, or two have one letter"
    for part in (panel, *panel["targets"]):
        if part["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
            yield "it asks another data source than the dashboard's"
    for link in panel.get("links", []):
        target = re.match(r"/d/([\w-]+)\?", link["url"])
        if target is None or target[1] not in uids:
            yield f"its link leads nowhere: {link['url']}"


def faults_of_layout(dashboard: dict[str, Any]) -> Iterator[str]:
    """Panels outside the grid, over each other, or with one id or title."""
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            yield f"{panel['title']} is wider than the grid"
        for cell in ((x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])):
            if cell in taken:
                yield f"{panel['title']} lies on {taken[cell]}"
                break
            taken[cell] = panel["title"]
    for what in ("id", "title"):
        values = [panel[what] for panel in dashboard["panels"]]
        yield from (f"two panels have the {what} {value}" for value in sorted(set(map(str, values))) if list(map(str, values)).count(value) > 1)


def check() -> list[str]:
    """Every fault as a sentence."""
    boards, known, recordings = load(), catalogue(), recorded()
    uids = {board["uid"] for board in boards.values()}
    faults = [] if len(uids) == len(boards) else ["two dashboards have one uid"]
    asked, used = set[str](), set[str]()
    with tempfile.TemporaryDirectory(prefix="autoreply-boards-") as directory, Prometheus(Path(directory), [], {}) as prometheus:
        for name, board in boards.items():
            faults += [f"{name}: {fault}" for fault in faults_of_layout(board)]
            for panel in panels(board):
                faults += [f"{name}/{panel.get('title')}: {fault}" for fault in faults_of_panel(panel, uids)]
            for question in questions(name, board):
                asked.add(question.where)
                used |= set(OWN.findall(question.expr))
                faults += [f"{question.where}: {fault}" for fault in faults_of_query(question.expr, known, recordings)]
                try:
                    prometheus.instant(filled(question.expr, chosen(board), 3600, 15), 0)
                except Refused as why:
                    faults.append(f"{question.where}: Prometheus cannot read it: {why}")
    faults += [f"may-be-empty.toml excuses {where}, which no dashboard asks" for where in sorted(set(excused()) - asked)]
    shown = {name for name in known if name in used or any(name in path.read_text(encoding="utf-8") for path in rules())}
    base = {re.sub("_(bucket|sum|count)$", "", name) if name not in used else name for name in set(known) - shown}
    unseen = sorted(name for name in base if not any(one.startswith(name) for one in shown))
    faults += [f"{name} of docs/METRICS.md is on no dashboard and in no rule: nobody would ever see it" for name in unseen]
    if not faults:
        print(f"dashboards: {len(boards)} with {len(asked)} queries are sound, and know no metric that does not exist.")
    return faults


def main() -> int:
    """1 if there is a fault."""
    faults = check()
    for fault in faults:
        print(f"dashboards: {fault}.", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
