"""What the repository itself says, for checks that hold files of other tools against it: settings, topics, times, image.

Facts are read where they stand. A fact that is not found where it is expected is an error with the place, never a pass.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]

Table = dict[str, Any]


class Missing(Exception):
    """A fact is not where it was; the check has to be mended."""


def text(path: str) -> str:
    """The text of a file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


def found(pattern: str, path: str) -> str:
    """The first group of the first match in a file."""
    match = re.search(pattern, text(path), re.MULTILINE)
    if match is None:
        raise Missing(f"{path} has nothing like {pattern!r}: look how it is said there now, and mend ops/check/lib/facts.py")
    return match.group(1)


def defaults() -> Table:
    """The default settings."""
    return tomllib.loads(text("config.default.toml"))


def topic(name: str) -> Table:
    """What was decided about a topic, by the last part of its name."""
    return tomllib.loads(text(f"topics/{name}.toml"))


def topics_read_by(reader: str) -> list[str]:
    """The full names of the topics that a role reads."""
    files = sorted((ROOT / "topics").glob("*.toml"))
    tables = (tomllib.loads(path.read_text(encoding="utf-8")) for path in files)
    return [table["name"] for table in tables if reader in table["readers"]]


def merged(settings: Table, environment: dict[str, str]) -> Table:
    """The defaults under `settings` under the variables, as the program lays them over each other."""
    result = defaults()
    for section, table in settings.items():
        result.setdefault(section, {}).update(table)
    for name, value in environment.items():
        if name.startswith("AUTOREPLY__"):
            section, key = name.removeprefix("AUTOREPLY__").lower().split("__", 1)
            kind = type(result.get(section, {}).get(key, ""))
            result.setdefault(section, {})[key] = kind(value) if kind in (int, float, str) else value
    return result


def unknown_settings(settings: Table, environment: dict[str, str]) -> list[str]:
    """Settings that do not exist, as sentences. Providers are named by the user; their keys are those that are documented."""
    known, faults = defaults(), []
    # Some are told in prose only, as api_key_file.
    providers = set(re.findall(r"^(?:#: )?([a-z_]+) = |\b([a-z]+_[a-z_]+)\b", text("config.default.toml"), re.MULTILINE))
    providers = {name for pair in providers for name in pair if name}
    for section, table in settings.items():
        for key in table:
            if key not in known.get(section, {}):
                faults.append(f"there is no setting {section}.{key}")
    for name, provider in settings.get("generation", {}).get("providers", {}).items():
        faults += [f"there is no setting generation.providers.{name}.{key}" for key in provider if key not in providers]
    for variable in environment:
        if variable.startswith("AUTOREPLY__"):
            path = variable.removeprefix("AUTOREPLY__").lower().split("__")
            if len(path) != 2 or path[1] not in known.get(path[0], {}):
                faults.append(f"{variable} names no setting")
    return faults


def seconds_to_stop(settings: Table) -> float:
    """The longest that a worker may have to be given at a stop: the reply deadline, and every step of the stop itself."""
    length = r"Duration = Duration::from_secs\(([\d_]+)\)"
    steps = [found(rf"const GRACE: {length}", "src/roles/process.rs")]
    for path in ("src/roles/process.rs", "src/roles/worker.rs"):
        steps += re.findall(rf"const (?:DRAIN|LAST_[A-Z_]+): {length}", text(path))
    return settings["saga"]["reply_deadline_ms"] / 1000 + sum(int(seconds.replace("_", "")) for seconds in steps)


def image_user() -> int:
    """The user's number in the image."""
    return int(found(r"^USER (\d+)", "Dockerfile"))


def image_directories() -> dict[str, str]:
    """Where the program of the image writes, by the variable that says so."""
    places = re.findall(r"\b(XDG_[A-Z_]+)=(\S+)", text("Dockerfile"))
    if not places:
        raise Missing("the Dockerfile sets no XDG_ variable any more: mend ops/check/lib/facts.py")
    return dict(places)


def routes() -> set[str]:
    """The paths that every role serves without a socket."""
    served = set(re.findall(r'\.route\("(/[a-z]+)"', text("src/control/server.rs")))
    if not served:
        raise Missing("src/control/server.rs has no .route(\"/...\") any more: mend ops/check/lib/facts.py")
    return served
