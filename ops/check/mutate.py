"""Asks the tests of the rules whether they would notice: changes one limit, wait or condition of an alert at a time.

    mutate.py [ALERT...]

Each change is made in a copy, and those tests that name the alert must then fail. Takes a quarter of an hour, so it is no
part of ops/check/rules; run it after you have changed alerts or their tests. Prints what no test noticed; 1 if there is
any.
"""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Iterator

import yaml

ROOT = Path(__file__).resolve().parents[2] / "ops/prometheus"
COMPARISON = re.compile(r"(?<![=!~<>])(>=|<=|==|>|<)\s*([0-9.]+(?: \* [0-9.]+)?)")


def mutants(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every change to a rule, with its name."""
    expression = rule["expr"]
    for found in COMPARISON.finditer(expression):
        operator, limit = found.groups()
        swapped = {">": ">=", ">=": ">", "<": "<=", "<=": "<", "==": "!="}[operator]
        # A limit's other side; not asked where it is 0 of something that is never negative, nor of what is never exact.
        changes = [f"{operator} {1e12:.0f}" if operator in (">", ">=", "==") else f"{operator} -1"]
        changes += [f"{operator} {float(limit) * 0.8:g}", f"{operator} {float(limit) * 1.25:g}"] if (
            "*" not in limit and float(limit) > 0 and operator != "=="
        ) else [f"{swapped} {limit}"]
        for change in changes:
            yield f"{found.group()} becomes {change}", {
                **rule,
                "expr": expression[: found.start()] + change + expression[found.end() :],
            }
    if "for" in rule:
        seconds = sum(int(n) * {"s": 1, "m": 60, "h": 3600}[u] for n, u in re.findall(r"(\d+)([smh])", rule["for"]))
        yield "it does not wait", {**rule, "for": "0s"}
        yield "it waits ten times as long", {**rule, "for": f"{seconds * 10}s"}
    for found in re.finditer(r'\{[a-z]+!?=~?"[^"]*"\}', expression):
        yield f"without {found.group()}", {**rule, "expr": expression.replace(found.group(), "", 1)}


def noticed(rules: list[dict[str, Any]], alert: str) -> bool:
    """Whether the tests that name an alert fail with these groups of rules."""
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(ROOT, Path(name) / "p")
        directory = Path(name) / "p"
        (directory / "rules/alerts.yml").write_text(yaml.safe_dump({"groups": rules}), encoding="utf-8")
        tests = [str(p) for p in sorted((directory / "tests").glob("*.yml")) if alert in p.read_text(encoding="utf-8")]
        return any(
            subprocess.run(["promtool", "test", "rules", test], capture_output=True, check=False).returncode != 0
            for test in tests
        )


def main() -> int:
    """Prints each change that no test noticed."""
    groups = yaml.safe_load((ROOT / "rules/alerts.yml").read_text(encoding="utf-8"))["groups"]
    wanted, missed, asked = sys.argv[1:], 0, 0
    for g, group in enumerate(groups):
        for r, rule in enumerate(group["rules"]):
            if wanted and rule["alert"] not in wanted:
                continue
            for what, mutant in mutants(rule):
                changed = copy.deepcopy(groups)
                changed[g]["rules"][r] = mutant
                asked += 1
                if not noticed(changed, rule["alert"]):
                    missed += 1
                    place = f"{rule['alert']} ({', '.join(rule['labels'].values())})"
                    print(f"{place}: {what}: no test notices.", flush=True)
    print(f"{asked} changes, {missed} of them not noticed.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
