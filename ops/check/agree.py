"""Holds rules, their tests, runbooks and dashboards against the catalogue of metrics, and against each other.

A series that nothing emits, a label or a value that a metric cannot have, a recording rule that nobody wrote, an alert
without its runbook or without a test that fires and resolves it: each is a fault, told as a sentence. What is merely
unused is a warning.

    agree.py [--root DIRECTORY] [--catalogue FILE] [--program FILE]

The catalogue is what `autoreply metrics --json` prints, or else docs/METRICS.md. With a program, every call of
autoreply in a runbook is asked for its help, so that none is there that does not exist.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

import yaml

import promql

# Labels that Prometheus, Kubernetes or the settings of Prometheus add to every series.
TARGET_LABELS = {"job", "instance", "namespace", "pod", "container", "service", "endpoint", "node", "installation"}
# Series that do not come from autoreply.
FOREIGN = re.compile(r"up|ALERTS|ALERTS_FOR_STATE|(?:scrape|process|prometheus|kafka|pg|redis)_\w+")
SEVERITIES = {"critical", "warning"}
SECTIONS = [
    "What it means",
    "What people notice",
    "Look first",
    "Do",
    "It is over when",
    "So that it does not come back",
]


@dataclass
class Metric:
    """A row of the catalogue; a label whose values are None can have any."""

    name: str
    kind: str
    labels: dict[str, set[str] | None]


@dataclass
class Query:
    """An expression and where it stands."""

    place: str
    text: str


# --- what is read ------------------------------------------------------------------------------------------------


def catalogue_of_json(text: str) -> dict[str, Metric]:
    """The catalogue from `autoreply metrics --json`."""
    rows = json.loads(text)
    rows = rows.get("metrics", rows) if isinstance(rows, dict) else rows
    found = {}
    for row in rows:
        labels = {
            label["name"]: None if label.get("values") is None else set(label["values"]) for label in row["labels"]
        }
        found[row["name"]] = Metric(row["name"], row["kind"], labels)
    return found


def catalogue_of_document(text: str) -> dict[str, Metric]:
    """The catalogue from docs/METRICS.md: a table whose head says where name, kind and label stand."""
    found: dict[str, Metric] = {}
    head: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if "name" in cells and "kind" in cells:
            head = cells
        elif head and cells[0].startswith("`"):
            row = dict(zip(head, cells))
            labels: dict[str, set[str] | None] = {}
            for part in filter(None, (row.get("label") or row.get("labels") or "").split(";")):
                name, _, values = part.partition(":")
                known = {value.strip(" `") for value in values.split(",") if value.strip()}
                labels[name.strip(" `")] = known or None
            name = row["name"].strip("`")
            found[name] = Metric(name, row["kind"], labels)
    return found


def rules_of(root: Path) -> list[dict[str, Any]]:
    """Every rule of every group, with the file it stands in."""
    found = []
    for path in sorted((root / "ops/prometheus/rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                found.append({**rule, "place": f"{path.name}: {rule.get('alert') or rule['record']}"})
    return found


def dashboard_queries(root: Path) -> Iterator[Query]:
    """Every query of every dashboard: of panels, variables and annotations."""

    def walk(node: Any, title: str, place: str) -> Iterator[Query]:
        if isinstance(node, list):
            for item in node:
                yield from walk(item, title, place)
        elif isinstance(node, dict):
            title = node["title"] if isinstance(node.get("title"), str) else node.get("name", title)
            for key, value in node.items():
                if key in ("expr", "query", "definition") and isinstance(value, str):
                    # label_values(series, label) is Grafana's, not Prometheus'.
                    asked = re.fullmatch(r"\s*(?:label_values|query_result)\((.*?)(?:,\s*\w+\s*)?\)\s*", value, re.S)
                    text = asked.group(1) if asked else value
                    if key == "expr" or "autoreply" in text:
                        yield Query(f"{place}: {title}", text)
                else:
                    yield from walk(value, title, place)

    for path in sorted((root / "ops/grafana/dashboards").glob("*.json")):
        yield from walk(json.loads(path.read_text(encoding="utf-8")), path.name, path.name)


def runbook_queries(root: Path) -> Iterator[Query]:
    """Every word in a runbook that looks like one of our series."""
    for path in sorted((root / "ops/runbooks").glob("*.md")):
        for code in re.findall(r"```sh[^\n]*\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            for quoted in re.findall(r"'([^'\n]*autoreply[_:][^'\n]*)'", code):
                yield Query(f"runbook {path.name}", quoted)


# --- what is held against what -----------------------------------------------------------------------------------


class Series:
    """What may be asked for: metrics and recording rules, with their labels."""

    def __init__(self, metrics: dict[str, Metric], rules: list[dict[str, Any]]) -> None:
        self.metrics = metrics
        self.recorded = {rule["record"]: promql.read(rule["expr"]) for rule in rules if "record" in rule}
        self.used: set[str] = set()

    def labels(self, name: str, seen: frozenset[str] = frozenset()) -> dict[str, set[str] | None] | None:
        """The labels of a series with their values, or None if there is no such series."""
        if name in self.recorded:
            expression = self.recorded[name]
            joined: dict[str, set[str] | None] = {}
            for selector in expression.selectors:
                if selector.name not in seen:
                    joined.update(self.labels(selector.name, seen | {name}) or {})
            if not expression.grouped_by:
                return joined
            return {label: values for label, values in joined.items() if label in expression.grouped_by}
        metric = self.metrics.get(name)
        if metric and metric.kind != "histogram":
            return metric.labels
        for suffix in ("_bucket", "_sum", "_count"):
            metric = self.metrics.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
            if metric and metric.kind == "histogram":
                return metric.labels | ({"le": None} if suffix == "_bucket" else {})
        return None

    def faults(self, query: Query) -> Iterator[str]:
        """What is wrong with the names in an expression."""
        expression = promql.read(query.text)
        known: set[str] = set(TARGET_LABELS)
        foreign = False
        for selector in expression.selectors:
            name = selector.name
            if FOREIGN.fullmatch(name):
                foreign = True
                continue
            labels = self.labels(name)
            if labels is None:
                plain = self.metrics.get(name)
                hint = f"{name} is a histogram: it has only _bucket, _sum and _count" if plain else (
                    f"nothing records {name}" if ":" in name else f"nothing emits {name}"
                )
                yield f"{query.place}: {hint}"
                foreign = True  # Its labels are unknown: one fault, not two.
                continue
            self.used.add(name)
            known |= labels.keys()
            for matcher in selector.matchers:
                yield from self._matcher(query, name, labels, matcher)
        if not foreign:
            for label in sorted(expression.grouped_by - known):
                yield f"{query.place}: no series in it has the label {label}"

    @staticmethod
    def _matcher(
        query: Query, name: str, labels: dict[str, set[str] | None], matcher: promql.Matcher
    ) -> Iterator[str]:
        if matcher.label in TARGET_LABELS:
            return
        if matcher.label not in labels:
            yield f"{query.place}: {name} has no label {matcher.label}"
            return
        values = labels[matcher.label]
        if values is None or "$" in matcher.value or matcher.value == "":
            return
        # Each alternative by itself, so that one misspelt among five is found.
        wanted = matcher.value.split("|") if "~" in matcher.operator else [re.escape(matcher.value)]
        for one in wanted:
            if not any(re.fullmatch(one.strip("()"), value) for value in values):
                yield f'{query.place}: {name} never has {matcher.label}="{one}"'


def alert_faults(rule: dict[str, Any], root: Path) -> Iterator[str]:
    """What an alert lacks for the person who gets it."""
    name, place = rule["alert"], rule["place"]
    if rule.get("labels", {}).get("severity") not in SEVERITIES:
        yield f"{place}: its severity is none of {', '.join(sorted(SEVERITIES))}"
    told = rule.get("annotations", {})
    for key in ("summary", "cause", "action", "runbook_url"):
        if len(told.get(key, "")) < 10:
            yield f"{place}: it says no {key}"
    if "$" not in told.get("summary", ""):
        yield f"{place}: its summary has no value in it"
    if not told.get("runbook_url", "").endswith(f"/{name}.md"):
        yield f"{place}: its runbook_url does not end in /{name}.md"
    path = root / "ops/runbooks" / f"{name}.md"
    if not path.is_file():
        yield f"{place}: it has no runbook ops/runbooks/{name}.md"
        return
    text = path.read_text(encoding="utf-8")
    if not text.startswith(f"# {name}\n"):
        yield f"{path.name}: it does not begin with its alert's name"
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    if headings != SECTIONS:
        yield f"{path.name}: its parts are not {'; '.join(SECTIONS)}"
    if "```sh drill\n" not in text:
        yield f"{path.name}: it has no command that a drill can run (a fence ```sh drill)"
    index = root / "ops/runbooks/README.md"
    if not index.is_file() or f"({name}.md)" not in index.read_text(encoding="utf-8"):
        yield f"{path.name}: ops/runbooks/README.md does not name it"


def runbook_faults(rules: list[dict[str, Any]], root: Path) -> Iterator[str]:
    """Runbooks of alerts that do not exist, and links that lead nowhere."""
    alerts = {rule.get("alert") for rule in rules}
    for path in sorted((root / "ops/runbooks").glob("*.md")):
        if path.stem != "README" and path.stem not in alerts:
            yield f"{path.name}: there is no such alert"
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            if "://" not in link and not (path.parent / link).exists():
                yield f"{path.name}: {link} does not exist"


def commands(root: Path) -> dict[tuple[str, ...], str]:
    """Every subcommand of autoreply with its long options, in runbooks, and where it stands."""
    found: dict[tuple[str, ...], str] = {}
    texts = [(path.name, path.read_text(encoding="utf-8")) for path in sorted((root / "ops/runbooks").glob("*.md"))]
    for place, text in texts:
        fenced = re.findall(r"```sh[^\n]*\n(.*?)```", text, re.DOTALL)
        inline = re.findall(r"`(autoreply [^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        for code in [*fenced, *inline]:
            for line in re.findall(r"(?:^|[|(] *|args -r )autoreply((?: +[^\s|#)]+)+)", code, re.MULTILINE):
                words = []
                for word in re.sub(r" --config \S+", "", line).split():
                    if not re.fullmatch(r"(?:--)?[a-z][a-z-]*", word):
                        break  # A name, an id, a quoted reason: what follows is no subcommand.
                    words.append(word)
                found.setdefault(tuple(words), place)
    return found


def command_faults(root: Path, program: str) -> Iterator[str]:
    """Commands that this program does not know."""
    for words, place in sorted(commands(root).items()):
        globals_gone = list(itertools.dropwhile(lambda word: word.startswith("--"), words))
        plain = list(itertools.takewhile(lambda word: not word.startswith("--"), globals_gone))
        told = subprocess.run([program, *plain, "--help"], capture_output=True, text=True, check=False)
        missing = [word for word in words if word.startswith("--") and word not in told.stdout]
        if told.returncode != 0 or missing:
            yield f"{place}: there is no `autoreply {' '.join(words)}`"


def seconds(text: str) -> float:
    """A time of a test, as 1h30m."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", str(text)))


def test_faults(rules: list[dict[str, Any]], tests: list[dict[str, Any]], series: Series) -> Iterator[str]:
    """Alerts that no test fires, keeps silent before, and resolves after; recording rules that nothing tests."""
    for rule in (rule for rule in rules if "alert" in rule):
        labels = rule.get("labels", {})
        fired = resolved = silent = False
        for test in tests:
            checks = [c for c in test.get("alert_rule_test", []) if c["alertname"] == rule["alert"]]
            at = {True: [], False: []}
            for check in checks:
                hit = any(labels.items() <= e["exp_labels"].items() for e in check.get("exp_alerts") or [])
                at[hit].append(seconds(check["eval_time"]))
            fired |= bool(at[True])
            resolved |= bool(at[True]) and any(time > max(at[True]) for time in at[False])
            silent |= bool(at[False]) and (not at[True] or min(at[False]) < min(at[True]))
        for what, so in (("fires", fired), ("resolves", resolved), ("keeps silent before its limit", silent)):
            if not so:
                yield f"{rule['place']} ({', '.join(labels.values())}): no test in ops/prometheus/tests {what} it"

    asked = [rule["expr"] for rule in rules if "alert" in rule]
    asked += [check["expr"] for test in tests for check in test.get("promql_expr_test", [])]
    reached: set[str] = set()
    while asked:
        for selector in promql.read(asked.pop()).selectors:
            if selector.name in series.recorded and selector.name not in reached:
                reached.add(selector.name)
                asked += [rule["expr"] for rule in rules if rule.get("record") == selector.name]
    for name in sorted(series.recorded.keys() - reached):
        yield f"{name}: no alert uses it and no test asks for it"


def examine(root: Path, metrics: dict[str, Metric]) -> tuple[list[str], list[str]]:
    """All faults and all warnings, as sentences without their full stop."""
    rules = rules_of(root)
    series = Series(metrics, rules)
    queries = [Query(rule["place"], rule["expr"]) for rule in rules]
    dashboards = list(dashboard_queries(root))
    tests = [
        test
        for path in sorted((root / "ops/prometheus/tests").glob("*.yml"))
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
    ]
    faults = [] if metrics else ["the catalogue is empty"]
    faults += [] if any("alert" in rule for rule in rules) else ["there are no alerts in ops/prometheus/rules"]
    for query in [*queries, *dashboards, *runbook_queries(root)]:
        faults += series.faults(query)
    for test in tests:
        for given in test["input_series"]:
            faults += series.faults(Query(f"test '{test.get('name', '?')}'", given["series"]))
    for rule in rules:
        if "alert" in rule:
            faults += alert_faults(rule, root)
        elif not rule["record"].startswith("autoreply:"):
            faults.append(f"{rule['place']}: its name does not begin with autoreply:")
    faults += runbook_faults(rules, root)
    faults += test_faults(rules, tests, series)

    shown = Series(metrics, rules)
    for query in [*queries, *dashboards]:
        list(shown.faults(query))
    looked_at = shown.used | {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown.used}
    warnings = [f"no dashboard and no rule uses {name}" for name in sorted(metrics.keys() - looked_at)]
    return list(dict.fromkeys(faults)), warnings


def main() -> int:
    """Prints warnings and faults; 1 if there are faults."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--catalogue", type=Path, help="what `autoreply metrics --json` printed")
    parser.add_argument("--program", help="the program whose commands the runbooks may name")
    arguments = parser.parse_args()
    document = catalogue_of_document((arguments.root / "docs/METRICS.md").read_text(encoding="utf-8"))
    faults = []
    metrics = document
    if arguments.catalogue:
        metrics = catalogue_of_json(arguments.catalogue.read_text(encoding="utf-8"))
        faults += [f"docs/METRICS.md and the program differ in {n}" for n in sorted(metrics.keys() ^ document.keys())]
    found, warnings = examine(arguments.root, metrics)
    if arguments.program:
        found += command_faults(arguments.root, arguments.program)
    for warning in warnings:
        print(f"warning: {warning}.")
    for fault in faults + found:
        print(f"{fault}.", file=sys.stderr)
    dashboards = len(list((arguments.root / "ops/grafana/dashboards").glob("*.json")))
    if not faults + found:
        print(f"{len(metrics)} metrics, {dashboards} dashboards, rules, tests and runbooks agree.")
    return 1 if faults + found else 0


if __name__ == "__main__":
    sys.exit(main())
