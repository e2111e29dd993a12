"""Checks that the build of the image gets what it reads, and that the image is what the rest relies on.

The build context is what .dockerignore lets through. Every file that the sources include at compile time has to be in it, and
every member of the workspace. The worker's image must hold nothing of the desktop.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import facts

INCLUDED = re.compile(r"\binclude_(?:str|bytes)!\(\s*\"([^\"]+)\"")
# What only a desktop needs; none of it may come into the image of the worker.
DESKTOP = re.compile(
    r"\b(?:libx11|libxcb|libxkb|libwayland|libpipewire|libgbm|libegl|libdbus|libtesseract|tesseract|xvfb|at-spi)\S*"
)


def let_through() -> list[str]:
    """The entries that .dockerignore lets through; it begins by keeping out everything."""
    lines = [line.strip() for line in facts.text(".dockerignore").splitlines()]
    rules = [line for line in lines if line and not line.startswith("#")]
    if not rules or rules[0] != "*" or not all(rule.startswith("!") for rule in rules[1:]):
        raise facts.Missing(".dockerignore is no longer \"nothing but what is named\": mend ops/check/lib/image.py")
    return [rule[1:] for rule in rules[1:]]


def in_context(path: Path, entries: list[str]) -> bool:
    """Whether a path of the repository is in the build context."""
    relative = path.relative_to(facts.ROOT)
    return any(relative == Path(entry) or Path(entry) in relative.parents for entry in entries)


def context_faults() -> list[str]:
    """What the build reads and does not get."""
    entries, found = let_through(), []
    found += [f".dockerignore lets {entry} through, which is not there" for entry in entries if not (facts.ROOT / entry).exists()]
    for member in tomllib.loads(facts.text("Cargo.toml"))["workspace"]["members"]:
        manifest = (facts.ROOT / member / "Cargo.toml").resolve()
        if not in_context(manifest, entries):
            found.append(f"the workspace has the member {member}, which is not in the build context")
    read = 0
    for source in sorted((facts.ROOT / "src").rglob("*.rs")):
        if source.stem == "tests" or source.stem.endswith("_tests") or "tests" in source.parent.parts:
            continue
        # What only tests include is not built.
        body = re.split(r"^(?:#\[cfg\(test\)\]\n)mod tests \{", source.read_text(encoding="utf-8"), flags=re.MULTILINE)[0]
        for name in INCLUDED.findall(body):
            read += 1
            path = (source.parent / name).resolve()
            if not path.is_relative_to(facts.ROOT) or not in_context(path, entries):
                found.append(f"{source.relative_to(facts.ROOT)} includes {name}, which is not in the build context")
    if read == 0:
        found.append("no source includes a file, which cannot be: mend ops/check/lib/image.py")
    return found


def image_faults(text: str) -> list[str]:
    """What the Dockerfile does not say, or should not."""
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    found = []
    if len(stages) < 2:
        return ["it has one stage: compilers and sources would be in the image"]
    last = stages[-1]
    user = re.findall(r"^USER (\S+)", last, re.MULTILINE)
    if not user or user[-1].split(":")[0] in ("0", "root"):
        found.append("its program runs as root")
    if not re.search(r"--no-default-features +--features +worker\b", text):
        found.append("it does not build the worker alone")
    found += [f"the image gets {name}, which only a desktop needs" for name in DESKTOP.findall(last)]
    needed = ("HEALTHCHECK", "ENTRYPOINT [", "org.opencontainers.image.")
    found += [f"the image has no {what}" for what in needed if what not in last]
    for stage in stages:
        base = stage.split()[0]
        if ":" not in base or base.endswith(":latest"):
            found.append(f"{base} has no tag of its own")
    wanted = tomllib.loads(facts.text("Cargo.toml"))["workspace"]["package"]["rust-version"]
    if not stages[0].startswith(f"rust:{wanted}-"):
        found.append(f"it is built with {stages[0].split()[0]}, and Cargo.toml wants Rust {wanted}")
    return found


def main() -> int:
    """Prints the faults of the Dockerfile in the first argument; 1 if there are any."""
    path = sys.argv[1]
    try:
        found = image_faults(Path(path).read_text(encoding="utf-8")) + context_faults()
    except facts.Missing as missing:
        found = [str(missing)]
    for fault in found:
        print(f"{path}: {fault}.", file=sys.stderr)
    if not found:
        print(f"{path}: the build gets what it reads, and the image is the worker alone, not root.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
