"""Holds the dashboards to what a person needs of them.

Every panel has a title, a unit and a description that says what bad looks like; ids and places are sound; links lead
somewhere; a real Prometheus reads each query. That the metrics in them exist is held by agree.py, for rules as well.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from answers import excused
from model import chosen, filled, load, panels, questions
from prometheus import Prometheus, Refused


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
    boards = load()
    uids = {board["uid"] for board in boards.values()}
    faults = [] if len(uids) == len(boards) else ["two dashboards have one uid"]
    asked = set[str]()
    with tempfile.TemporaryDirectory(prefix="autoreply-boards-") as directory, Prometheus(Path(directory), [], {}) as prometheus:
        for name, board in boards.items():
            faults += [f"{name}: {fault}" for fault in faults_of_layout(board)]
            for panel in panels(board):
                faults += [f"{name}/{panel.get('title')}: {fault}" for fault in faults_of_panel(panel, uids)]
            for question in questions(name, board):
                asked.add(question.where)
                try:
                    prometheus.instant(filled(question.expr, chosen(board), 3600, 15), 0)
                except Refused as why:
                    faults.append(f"{question.where}: Prometheus cannot read it: {why}")
    faults += [f"may-be-empty.toml excuses {where}, which no dashboard asks" for where in sorted(set(excused()) - asked)]
    if not faults:
        print(f"dashboards: {len(boards)} with {len(asked)} queries are sound; Prometheus reads each query.")
    return faults


def main() -> int:
    """1 if there is a fault."""
    faults = check()
    for fault in faults:
        print(f"dashboards: {fault}.", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
