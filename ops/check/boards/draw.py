"""Draws every dashboard as a picture, panel by panel, from what Prometheus answers to the dashboards' own queries.

    draw.py RUN PICTURES    the run's directory (see answers.py), and where operate-*.png go

Grafana has no part in it: the pictures show the same panels at the same places, drawn by this program in Chromium.
"""

from __future__ import annotations

import html
import json
import math
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from model import chosen, filled, load, panels
from paint import COLOURS, Curve, Frame, inside, named
from prometheus import Prometheus

WIDTH, COLUMNS, CELL, GAP = 1600, 24, 38, 8
HEAD = 64
STYLE = """
* { box-sizing: border-box; margin: 0; }
body { background: #111217; color: #ccccdc; font: 13px Inter, "DejaVu Sans", sans-serif; width: 1600px; }
h1 { font-size: 21px; font-weight: 600; padding: 12px 14px 0; } p { color: #8e8e98; padding: 3px 14px; font-size: 12px; }
.panel { position: absolute; background: #181b1f; border: 1px solid #2c3036; border-radius: 3px; overflow: hidden; }
.panel h2 { font-size: 13px; font-weight: 600; padding: 7px 9px 5px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.row { position: absolute; font-size: 15px; font-weight: 600; padding: 9px 6px; }
.grid { stroke: #ccccdc; stroke-opacity: .09; } .tick { fill: #a5a6b4; font-size: 11px; }
.mark { stroke-width: 1; stroke-dasharray: 3 4; stroke-opacity: .75; } .threshold { stroke-width: 1.3; stroke-dasharray: 8 5; }
.legend { font-size: 11.5px; padding: 0 10px; } .legend span { margin-right: 14px; line-height: 18px; white-space: nowrap; display: inline-block; }
.legend i { display: inline-block; width: 13px; height: 4px; border-radius: 2px; margin-right: 6px; vertical-align: middle; }
table { border-collapse: collapse; width: 100%; } table.legend td, table.legend th { text-align: right; height: 18px; padding: 0 12px; color: #ccccdc; }
table.legend th { color: #8e8e98; font-weight: 400; } table.legend td:first-child, table.legend th:first-child { text-align: left; padding-left: 0; }
table.list td, table.list th { text-align: left; padding: 5px 10px; border-bottom: 1px solid #2c3036; font-size: 12.5px; }
table.list th { color: #6e9fff; font-weight: 500; }
.big { position: relative; } .big svg { position: absolute; left: 0; top: 0; }
.big b { position: absolute; inset: 0; display: flex; align-items: center; justify-content: center; font-size: 34px; color: #fff; padding-bottom: 8px; }
.bars { padding: 4px 10px; } .bar { display: flex; align-items: center; margin-bottom: 5px; gap: 8px; font-size: 12px; }
.bar span { width: 116px; text-align: right; overflow: hidden; text-overflow: ellipsis; } .bar div { flex: 1; height: 100%; background: #22252b; }
.bar i { display: block; height: 100%; } .bar b { width: 62px; font-weight: 500; }
.beside { display: flex; } .beside table.legend td, .beside table.legend th { padding: 0 6px; }
.nothing { color: #8e8e98; padding: 20px; text-align: center; }
"""


def curves_of(prometheus: Prometheus, panel: dict[str, Any], values: dict[str, str], frame: Frame) -> list[Curve]:
    """What Prometheus answers to a panel's queries."""
    found = []
    for target in panel["targets"]:
        expr = filled(target["expr"], values, frame.end_s - frame.begin_s, 10)
        if target["instant"]:
            answer = [{**one, "values": [one["value"]]} for one in prometheus.instant(expr, frame.end_s)]
        else:
            answer = prometheus.range(expr, frame.begin_s, frame.end_s, frame.step_s)
        for one in answer:
            points = [(float(at_s), float(value)) for at_s, value in one["values"] if math.isfinite(float(value))]
            if points:
                found.append(Curve(named(target["legendFormat"], one["metric"]), one["metric"], points))
    return found


def marks(prometheus: Prometheus, board: dict[str, Any], values: dict[str, str], frame: Frame) -> list[tuple[float, str]]:
    """Where the dashboard's annotations stand: at the times that a query names, or where its series begin."""
    found = []
    for one in board["annotations"]["list"]:
        if "expr" not in one:
            continue
        for series in prometheus.range(filled(one["expr"], values, frame.end_s - frame.begin_s, 10), frame.begin_s, frame.end_s, frame.step_s):
            by_value = one["useValueForTime"] == "on"
            times = {float(value) / 1000 for _, value in series["values"]} if by_value else {float(series["values"][0][0])}
            found += [(at_s, COLOURS[one["iconColor"]]) for at_s in times]
    return found


def page(board: dict[str, Any], prometheus: Prometheus, times: dict[str, float]) -> tuple[str, int]:
    """A dashboard as a page, and its height in pixels."""
    values, frame = chosen(board), Frame(times["begin_s"], times["end_s"], 1.0, [])
    frame.marks = marks(prometheus, board, values, frame)
    parts, bottom = [], 0
    for panel in board["panels"]:
        place = panel["gridPos"]
        left, top = place["x"] * WIDTH / COLUMNS + GAP / 2, HEAD + place["y"] * CELL
        width, height = int(place["w"] * WIDTH / COLUMNS - GAP), place["h"] * CELL - GAP
        bottom = max(bottom, top + height)
        box = f"left:{left:.0f}px;top:{top}px;width:{width}px;height:{height}px"
        title = html.escape(panel["title"])
        if panel["type"] == "row":
            parts.append(f'<div class="row" style="{box}">⌄ {title}</div>')
            continue
        shown = inside(panel, frame, curves_of(prometheus, panel, values, frame), width - 2, height - 32)
        parts.append(f'<div class="panel" style="{box}"><h2>{title}</h2>{shown}</div>')
    day = datetime.fromtimestamp(times["begin_s"], UTC).strftime("%Y-%m-%d, %H:%M UTC")
    told = (f"A real run of {times['end_s'] - times['begin_s']:.0f} s ({day}), watched by Prometheus. Drawn by ops/check/draw from the "
            "dashboard's own queries, not by Grafana. Dashed: a process started (blue), an alert began to fire (red).")  # fmt: skip
    head = f"<h1>{html.escape(board['title'])}</h1><p>{told}</p>"
    return f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style><body>{head}{"".join(parts)}</body>', bottom + 10


def picture(text: str, height: int, path: Path) -> None:
    """Has Chromium draw a page into a PNG."""
    with tempfile.TemporaryDirectory(prefix="autoreply-draw-") as directory:
        file = Path(directory) / "page.html"
        file.write_text(text, encoding="utf-8")
        done = subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={directory}/profile",
             f"--window-size={WIDTH},{height}", f"--screenshot={path}", file.as_uri()],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    if done.returncode != 0 or not path.exists():
        raise RuntimeError(f"Chromium did not draw {path.name}: {done.stderr[-500:]}")


def main() -> int:
    """See above."""
    run, pictures = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    pictures.mkdir(parents=True, exist_ok=True)
    times = json.loads((run / "run.json").read_text(encoding="utf-8"))
    with Prometheus(run, [], {}) as prometheus:
        for name, board in load().items():
            text, height = page(board, prometheus, times)
            path = pictures / f"operate-{name}.png"
            picture(text, height, path)
            print(f"  {path.name}: {sum(1 for _ in panels(board))} panels, {path.stat().st_size // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
