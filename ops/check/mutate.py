"""Asks the tests of the rules whether they would notice: changes one limit, wait or condition of an alert at a time.

    mutate.py [ALERT...]

Each change is made in a copy, and those tests that name the alert must then fail. Takes some minutes, so it is no part
of ops/check/rules; run it after you have changed alerts or their tests. Prints what no test noticed; 1 if there is any.
"""

from __future__ import annotations

import copy
import re
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
        # Never, sooner, later; for 0 and for equality the other side instead.
        changes = [f"{operator} {1e12:.0f}" if operator in (">", ">=", "==") else f"{operator} -1"]
        number, _, rest = limit.partition(" ")
        if operator == "==" or float(number) == 0:
            changes.append(f"{swapped} {limit}")
        else:
            changes += [f"{operator} {float(number) * factor:g} {rest}" for factor in (0.8, 1.25)]
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


def tests_of(alert: str) -> Iterator[dict[str, Any]]:
    """The files of tests, of each only what looks at the alert."""
    for path in sorted((ROOT / "tests").glob("*.yml")):
        file = yaml.safe_load(path.read_text(encoding="utf-8"))
        file["rule_files"] = [str(ROOT / "rules/recording.yml"), "alerts.yml"]
        file["tests"] = [test for test in file["tests"] if looks_at(test, alert)]
        if file["tests"]:
            yield file


def looks_at(test: dict[str, Any], alert: str) -> bool:
    """Whether a test asks for the alert, and leaves it nothing but that to ask for."""
    test["promql_expr_test"] = [c for c in test.get("promql_expr_test", []) if f'"{alert}"' in c["expr"]]
    test["alert_rule_test"] = [c for c in test.get("alert_rule_test", []) if c["alertname"] == alert]
    return bool(test["promql_expr_test"] or test["alert_rule_test"])


def noticed(rules: list[dict[str, Any]], alert: str) -> bool:
    """Whether the tests that name an alert fail with these groups of rules."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "alerts.yml").write_text(yaml.safe_dump({"groups": rules}), encoding="utf-8")
        for file in tests_of(alert):
            (directory / "test.yml").write_text(yaml.safe_dump(file), encoding="utf-8")
            asked = subprocess.run(
                ["promtool", "test", "rules", str(directory / "test.yml")], capture_output=True, check=False
            )
            if asked.returncode != 0:
                return True
    return False


def main() -> int:
    """Prints each change that no test noticed."""
    groups = yaml.safe_load((ROOT / "rules/alerts.yml").read_text(encoding="utf-8"))["groups"]
    wanted, missed, asked = sys.argv[1:], 0, 0
    for g, group in enumerate(groups):
        for r, rule in enumerate(group["rules"]):
            if wanted and rule["alert"] not in wanted:
                continue
            # Without any change the tests must hold, or all that follows says nothing.
            if noticed(groups, rule["alert"]):
                print(f"{rule['alert']}: its tests fail as it is.")
                return 1
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
