"""Asks a real Prometheus every question of every dashboard over a real run: each must be answered with data.

    answers.py DIRECTORY            makes the run in DIRECTORY first
    answers.py DIRECTORY --again    asks about the run that is there
"""

from __future__ import annotations

import json
import math
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from live import Failed, live
from model import ROOT, Question, chosen, filled, load, questions
from prometheus import Prometheus, Refused

RULES = ROOT / "ops/prometheus/rules"
MAY_BE_EMPTY = ROOT / "ops/check/may-be-empty.toml"
STEP_S = 2


def rules() -> list[Path]:
    """The recording and alerting rules that the run's Prometheus evaluates."""
    return sorted(Path(os.environ.get("AUTOREPLY_RULES", RULES)).glob("*.yml"))


def excused() -> dict[str, str]:
    """Questions that may rightly be answered with nothing, each with its reason."""
    listed: list[dict[str, str]] = tomllib.loads(MAY_BE_EMPTY.read_text(encoding="utf-8"))["question"]
    return {one["where"]: one["reason"] for one in listed}


def has_data(series: list[dict[str, Any]]) -> bool:
    """Whether there is a figure in it: a series of nothing but NaN draws nothing."""
    return any(math.isfinite(float(value)) for one in series for _, value in one.get("values", [one.get("value")]))


def answered(prometheus: Prometheus, question: Question, expr: str, begin_s: float, end_s: float) -> bool:
    """Whether a question has an answer with figures."""
    if question.instant:
        return has_data(prometheus.instant(expr, end_s))
    return has_data(prometheus.range(expr, begin_s, end_s, STEP_S))


def ask(directory: Path) -> int:
    """Asks everything; 1 if something stayed without an answer."""
    times = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    begin_s, end_s = times["begin_s"], times["end_s"]
    may_be_empty, known, faults = excused(), set[str](), list[str]()
    with Prometheus(directory, [], {}) as prometheus:
        for name, dashboard in load().items():
            asked, empty = 0, 0
            for question in questions(name, dashboard):
                asked += 1
                known.add(question.where)
                expr = filled(question.expr, chosen(dashboard), end_s - begin_s, 10)
                try:
                    found = answered(prometheus, question, expr, begin_s, end_s)
                except Refused as why:
                    faults.append(f"{question.where}: Prometheus refuses it ({why}): {expr}")
                    continue
                if not found and question.where in may_be_empty:
                    empty += 1
                elif not found:
                    faults.append(f"{question.where}: no data for {expr}")
            told = f", {empty} of them rightly with nothing" if empty else ""
            print(f"  {name}: {asked} questions asked{told}.")
    faults += [f"{where}: {MAY_BE_EMPTY.name} excuses it, and no dashboard asks it" for where in sorted(set(may_be_empty) - known)]
    for fault in faults:
        print(f"dashboards: {fault}.", file=sys.stderr)
    if not faults:
        print(f"dashboards: all {len(known)} questions were answered by a real Prometheus over a real run of {end_s - begin_s:.0f} s.")
    return 1 if faults else 0


def main() -> int:
    """See above."""
    directory = Path(sys.argv[1]).resolve()
    try:
        if "--again" not in sys.argv[2:]:
            addresses = {name: os.environ[f"AUTOREPLY_TEST_{name.upper()}"] for name in ("kafka", "postgres", "redis")}
            live(directory, addresses, rules())
        return ask(directory)
    except (Failed, Refused) as why:
        print(f"dashboards: {why}.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
