"""Writes the rules for a Prometheus whose time runs faster: every window, wait and offset is divided.

    faster.py DIVISOR DIRECTORY

With 15, scraped and evaluated every second instead of every 15, ten minutes become 40 s, and an alert that waits five
minutes waits 20 s. Limits stay as they are: 5% are 5%, and a lag of ten seconds is one of ten seconds. For drills and
tries; what is written says so in its first line. Standard library only.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
# A range in brackets (and the resolution of a subquery), an offset, what an alert waits for, what a group waits between
# two rounds. In a name, as in autoreply:slo_missed:ratio_rate1h, no such thing stands before the number.
TIMES = re.compile(r"(\[|(?<=[smhdw]):|\boffset +|^ *for: *|^ *interval: *)((?:\d+(?:ms|[smhdw]))+)\b", re.MULTILINE)


def divided(time: str, divisor: float) -> str:
    """A time of Prometheus, divided: `10m` by 15 is `40s`. Never less than a millisecond."""
    parts = re.findall(r"(\d+)(ms|[smhdw])", time)
    milliseconds = max(1, round(sum(int(number) * UNITS[unit] for number, unit in parts) / divisor))
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def faster(text: str, divisor: float) -> str:
    """A file of rules with all its times divided."""
    head = f"# Written by faster.py: every time is divided by {divisor:g}. Not for what is watched in earnest.\n"
    return head + TIMES.sub(lambda found: found.group(1) + divided(found.group(2), divisor), text)


def main() -> int:
    """Writes each file of rules beside this program into a directory."""
    try:
        divisor, directory = float(sys.argv[1]), Path(sys.argv[2])
        if divisor < 1 or len(sys.argv) != 3:
            raise ValueError
    except (ValueError, IndexError):
        print((__doc__ or "").splitlines()[2].strip(), file=sys.stderr)
        return 2
    directory.mkdir(parents=True, exist_ok=True)
    for path in sorted((Path(__file__).parent / "rules").glob("*.yml")):
        (directory / path.name).write_text(faster(path.read_text(encoding="utf-8"), divisor), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
