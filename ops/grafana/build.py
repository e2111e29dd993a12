#!/usr/bin/env python3
"""Writes ops/grafana/dashboards/*.json from ops/grafana/source/. With --check it writes nothing and says what differs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "source"))

import desks  # noqa: E402
import kafka_ledger  # noqa: E402
import overview  # noqa: E402
import providers  # noqa: E402
import replies  # noqa: E402
from json_of import json_of  # noqa: E402

ALL = [overview.DASHBOARD, replies.DASHBOARD, providers.DASHBOARD, kafka_ledger.DASHBOARD, desks.DASHBOARD]


def main() -> int:
    """1 if a file is not what the source says, with --check."""
    check, stale = "--check" in sys.argv[1:], []
    files = {HERE / "dashboards" / f"{dashboard.file}.json": json_of(dashboard) for dashboard in ALL}
    for path, made in files.items():
        text = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path)
    stray = [path for path in (HERE / "dashboards").glob("*.json") if path not in files]
    for path in stale:
        print(f"{path}: it is not what ops/grafana/source says. Run ops/grafana/build.py.", file=sys.stderr)
    for path in stray:
        print(f"{path}: nothing in ops/grafana/source makes it. Remove it, or add its source.", file=sys.stderr)
    if not stale and not stray:
        print(f"dashboards: {len(files)} files {'are what their source says' if check else 'written'}.")
    return 1 if stale or stray else 0


sys.exit(main())
