"""Plants one fault after the other into a small set of rules, tests, runbooks and dashboards; each has to be told."""

from __future__ import annotations

import json
import sys
import tempfile
import unittest
from pathlib import Path

import agree
import promql

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "prometheus"))
import faster  # noqa: E402

CATALOGUE = """
| name | kind | label | meaning |
|---|---|---|---|
| `autoreply_replies_total` | counter | `effect`: confirmed, failed, refused | Ended turns. |
| `autoreply_wait_seconds` | histogram |  | Waits. |
| `autoreply_calls_total` | counter | `provider`; `kind`: timeout, declined | Calls. |
| `autoreply_spare_total` | counter |  | Nobody asks for it. |
| `autoreply_build_info` | gauge | `version` | Which runs. |
"""
RULES = """
groups:
  - name: r
    rules:
      - record: autoreply:failed:share
        expr: |
          # A comment (with autoreply_words) is no query.
          sum by (job) (rate(autoreply_replies_total{effect=~"failed|refused"}[5m] offset 1m))
            / on (job) group_left () (sum by (job) (rate(autoreply_replies_total[5m])) > 0)
      - alert: Bad
        expr: autoreply:failed:share{job="w"} > 0.05 and on (job) up == 1
        labels: {severity: critical}
        annotations:
          summary: "It is {{ $value }}."
          cause: Something is broken.
          action: "Look at it now."
          runbook_url: ops/runbooks/Bad.md
"""
TESTS = """
tests:
  - name: bad, then good
    input_series: [{series: 'autoreply_replies_total{job="w", effect="failed"}', values: 0+1x9}]
    alert_rule_test:
      - {eval_time: 1m, alertname: Bad}
      - eval_time: 5m
        alertname: Bad
        exp_alerts: [{exp_labels: {severity: critical}}]
      - {eval_time: 1h, alertname: Bad}
"""
RUNBOOK = "# Bad\n" + "".join(f"## {part}\n\ntext\n" for part in agree.SECTIONS) + (
    "```sh drill\npromtool query instant x 'autoreply_wait_seconds_sum'\n```\n[Good](README.md)\n"
)
DASHBOARD = {
    "title": "Overview",
    "panels": [
        {
            "title": "Waits",
            "targets": [
                {
                    "expr": "histogram_quantile(0.95, sum by (le, job) "
                    '(rate(autoreply_wait_seconds_bucket{job=~"$job"}[$__rate_interval])))'
                },
                {"expr": 'sum by (provider) (rate(autoreply_calls_total{kind="timeout", provider="$one"}[1h]))'},
            ],
        }
    ],
    "templating": {"list": [{"name": "job", "query": {"query": "label_values(autoreply_build_info, job)"}}]},
}
FILES = {
    "docs/METRICS.md": CATALOGUE,
    "ops/prometheus/rules/r.yml": RULES,
    "ops/prometheus/tests/t.yml": TESTS,
    "ops/runbooks/Bad.md": RUNBOOK,
    "ops/runbooks/README.md": "[Bad](Bad.md)\n",
    "ops/grafana/dashboards/overview.json": json.dumps(DASHBOARD),
}
RULE, TEST, BOOK = "ops/prometheus/rules/r.yml", "ops/prometheus/tests/t.yml", "ops/runbooks/Bad.md"
INDEX, BOARD = "ops/runbooks/README.md", "ops/grafana/dashboards/overview.json"

TOTAL = "sum by (job) (rate(autoreply_replies_total[5m]))"

# Where, what is replaced by what, and words of the sentence that must be told.
PLANTED = [
    (RULE, TOTAL, "rate(autoreply_reply_total[5m])", "nothing emits autoreply_reply_total"),
    (RULE, "failed|refused", "failed|refuse", 'never has effect="refuse"'),
    (RULE, "{effect=~", "{outcome=~", "has no label outcome"),
    (RULE, '{job="w"}', '{effect="failed"}', "autoreply:failed:share has no label effect"),
    (RULE, "expr: autoreply:failed:share", "expr: autoreply:failed:ratio", "nothing records autoreply:failed:ratio"),
    (RULE, "record: autoreply:failed:share", "record: failed:share", "does not begin with autoreply:"),
    (RULE, TOTAL, TOTAL.replace("job", "jab"), "no series in it has the label jab"),
    (RULE, "severity: critical", "severity: loud", "its severity is none of"),
    (RULE, "cause: Something is broken.", "", "it says no cause"),
    (RULE, 'action: "Look at it now."', "", "it says no action"),
    (RULE, 'summary: "It is {{ $value }}."', "", "it says no summary"),
    (RULE, "It is {{ $value }}.", "It is so bad now.", "its summary has no value"),
    (RULE, "runbook_url: ops/runbooks/Bad.md", "", "it says no runbook_url"),
    (RULE, "runbook_url: ops/runbooks/Bad.md", "runbook_url: ops/runbooks/Good.md", "does not end in /Bad.md"),
    (RULE, "alert: Bad", "alert: Worse", "no runbook ops/runbooks/Worse.md"),
    (RULE, "alert: Bad", "alert: Worse", "Bad.md: there is no such alert"),
    (RULE, "alert: Bad", "record: autoreply:other", "there are no alerts"),
    (TEST, "exp_alerts: [{exp_labels: {severity: critical}}]", "", "tests fires it"),
    (TEST, "severity: critical", "severity: warning", "tests fires it"),
    (TEST, "eval_time: 1h", "eval_time: 2m", "tests resolves it"),
    (TEST, "- {eval_time: 1m, alertname: Bad}", "", "keeps silent before its limit it"),
    (TEST, "autoreply_replies_total", "autoreply_answers_total", "nothing emits autoreply_answers_total"),
    (BOOK, "# Bad\n", "# Good\n", "does not begin with its alert's name"),
    (BOOK, "## Look first", "## Look last", "its parts are not"),
    (BOOK, "```sh drill", "```sh", "no command that a drill can run"),
    (BOOK, "wait_seconds_sum", "waits_sum", "nothing emits autoreply_waits_sum"),
    (BOOK, "(README.md)", "(Gone.md)", "Gone.md does not exist"),
    (INDEX, "(Bad.md)", "(../runbooks/Bad.md)", "does not name it"),
    (BOARD, "autoreply_wait_seconds_bucket", "autoreply_wait_seconds", "only _bucket, _sum and _count"),
    (BOARD, "autoreply_wait_seconds_bucket", "autoreply_waiting_seconds_bucket", "Waits: nothing emits"),
    (BOARD, 'kind=\\"timeout\\"', 'kind=\\"time_out\\"', 'never has kind="time_out"'),
    (BOARD, "(autoreply_build_info", "(autoreply_built_info", "nothing emits autoreply_built_info"),
]


class Planted(unittest.TestCase):
    """Each fault in a tree of its own."""

    def told(self, files: dict[str, str]) -> tuple[list[str], list[str]]:
        """What is told of these files."""
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            for path, text in files.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text, encoding="utf-8")
            return agree.examine(root, agree.catalogue_of_document(files["docs/METRICS.md"]))

    def test_nothing_is_told_where_all_agree_but_what_nobody_uses(self) -> None:
        faults, warnings = self.told(FILES)
        self.assertEqual(faults, [])
        self.assertEqual(warnings, ["no dashboard and no rule uses autoreply_spare_total"])

    def test_each_planted_fault_is_told(self) -> None:
        for place, old, new, words in PLANTED:
            with self.subTest(words):
                self.assertIn(old, FILES[place], "the fault must change something")
                faults, _ = self.told({**FILES, place: FILES[place].replace(old, new)})
                self.assertTrue(any(words in fault for fault in faults), faults)

    def test_a_recording_rule_that_nothing_reaches_is_told(self) -> None:
        more = "      - record: autoreply:lonely\n        expr: autoreply_spare_total\n"
        faults, _ = self.told({**FILES, RULE: RULES + more})
        self.assertEqual(faults, ["autoreply:lonely: no alert uses it and no test asks for it"])

    def test_an_empty_catalogue_is_a_fault(self) -> None:
        faults, _ = self.told({**FILES, "docs/METRICS.md": "# Metrics\n"})
        self.assertIn("the catalogue is empty", faults)


class Read(unittest.TestCase):
    """What the catalogue and expressions say."""

    def test_both_forms_of_the_catalogue_are_the_same(self) -> None:
        document = agree.catalogue_of_document(CATALOGUE)
        rows = [
            {
                "name": metric.name,
                "kind": metric.kind,
                "labels": [{"name": n, "values": None if v is None else sorted(v)} for n, v in metric.labels.items()],
            }
            for metric in document.values()
        ]
        self.assertEqual(agree.catalogue_of_json(json.dumps(rows)), document)
        self.assertEqual(document["autoreply_calls_total"].labels, {"provider": None, "kind": {"timeout", "declined"}})

    def test_names_are_told_from_functions_labels_words_and_times(self) -> None:
        read = promql.read(
            'topk(3, max without (instance) (a{x="b{c",y!~"d|e"} offset 5m)) unless on (x) group_left (z) '
            "(b:c:d == bool 1e3 or rate(c_total[${__interval}:1m])) # or e"
        )
        self.assertEqual([selector.name for selector in read.selectors], ["a", "b:c:d", "c_total"])
        matchers = [(m.label, m.operator, m.value) for m in read.selectors[0].matchers]
        self.assertEqual(matchers, [("x", "=", "b{c"), ("y", "!~", "d|e")])
        self.assertEqual(read.grouped_by, {"instance", "x", "z"})

    def test_the_calls_in_a_runbook_are_found(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            books = Path(name) / "ops/runbooks"
            books.mkdir(parents=True)
            text = "See `autoreply doctor --cluster`, `autoreply_replies_total`.\n```sh\n"
            text += "autoreply --json sagas show TURN | jq .\nx | xargs -r autoreply topics plan\n```\n"
            (books / "A.md").write_text(text, encoding="utf-8")
            found = agree.commands(Path(name))
        self.assertEqual(set(found), {("doctor", "--cluster"), ("--json", "sagas", "show"), ("topics", "plan")})

    def test_times_of_tests_are_seconds(self) -> None:
        self.assertEqual([agree.seconds(t) for t in ("15s", "1h30m", "4d7h")], [15, 5400, 370800])


class Faster(unittest.TestCase):
    """Rules for a faster time."""

    def test_times_are_divided_and_names_and_limits_are_not(self) -> None:
        rule = (
            "  - expr: rate(a:b:rate10m[10m] offset 1h30m) > 5 and x[1h:5m]\n    for: 5m\n    interval: 1m\n"
            "    # for: ever\n"
        )
        told = faster.faster(rule, 15)
        self.assertEqual(
            told.split("\n", 1)[1],
            "  - expr: rate(a:b:rate10m[40s] offset 360s) > 5 and x[240s:20s]\n    for: 20s\n    interval: 4s\n"
            "    # for: ever\n",
        )
        self.assertEqual(faster.divided("1s", 15), "67ms")


if __name__ == "__main__":
    unittest.main()
