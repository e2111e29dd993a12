#!/usr/bin/env python3
"""Copies Prometheus' and Alertmanager's files with every time in them made shorter by one factor.

    shorten.py FACTOR DESTINATION FILE...

A drill cannot wait ten minutes for an alert. Where a rule says `for: 5m` or `[10m]`, the copy says a fifteenth of it
(FACTOR 15: a minute becomes four seconds), and so do the intervals at which Prometheus asks and calculates and at which
Alertmanager tells. Thresholds are not touched: what is too late, too many or too full stays what it is. Each file keeps
its name; what was changed is printed, each kind of change once.
"""

import re
import sys
from collections import Counter
from pathlib import Path

UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
LENGTH = r"(?:\d+(?:ms|[smhdw]))+"
# A key whose value is a length of time, and a range in an expression, with its resolution if it has one.
KEYED = re.compile(
    r"^(\s*(?:- )?(?:for|keep_firing_for|interval|scrape_interval|scrape_timeout|evaluation_interval|group_wait"
    rf"|group_interval|repeat_interval):\s*)({LENGTH})(\s*(?:#.*)?)$"
)
RANGE = re.compile(rf"\[({LENGTH})(?::({LENGTH})?)?\]")


def milliseconds(length: str) -> int:
    """The length of time that Prometheus means by this text."""
    return sum(int(number) * UNITS_MS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdw])", length))


def shorter(length: str, factor: int) -> str:
    """The text of a length of time that is `factor` times shorter, at least a millisecond unless it was nothing."""
    whole = milliseconds(length)
    scaled = max(round(whole / factor), min(whole, 1))
    return f"{scaled // 1000}s" if scaled % 1000 == 0 else f"{scaled}ms"


def shorten_line(line: str, factor: int, changes: Counter[str]) -> str:
    """The line with its times made shorter; each change is counted. Comments stay as they are."""
    if line.lstrip().startswith("#"):
        return line
    keyed = KEYED.match(line)
    if keyed:
        head, length, rest = keyed.groups()
        new = shorter(length, factor)
        changes[f"{head.strip(' -')} {length} -> {new}"] += 1
        return f"{head}{new}{rest}"

    def in_brackets(found: re.Match[str]) -> str:
        length, step = found.groups()
        new = shorter(length, factor)
        changes[f"[{length}] -> [{new}]"] += 1
        if ":" not in found.group(0):
            return f"[{new}]"
        return f"[{new}:{shorter(step, factor) if step else ''}]"

    return RANGE.sub(in_brackets, line)


def main(arguments: list[str]) -> int:
    """Copies the files that are named; the exit code."""
    if len(arguments) < 3 or not arguments[0].isdigit() or int(arguments[0]) < 1:
        print("shorten: say FACTOR DESTINATION FILE..., with a whole factor of 1 or more", file=sys.stderr)
        return 2
    factor, destination = int(arguments[0]), Path(arguments[1])
    destination.mkdir(parents=True, exist_ok=True)
    changes: Counter[str] = Counter()
    for name in arguments[2:]:
        source = Path(name)
        lines = [shorten_line(line, factor, changes) for line in source.read_text().splitlines()]
        (destination / source.name).write_text("\n".join(lines) + "\n")
    for change, count in sorted(changes.items()):
        print(f"  {change}" + (f"  ({count} times)" if count > 1 else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
