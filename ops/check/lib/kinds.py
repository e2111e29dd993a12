"""Holds Kubernetes' own objects against the schemas of its releases, unknown fields refused.

    kinds.py FILE.yaml VERSION...
"""

from __future__ import annotations

import sys

import kubernetes_validate
from ruamel.yaml import YAML

# Read by the types of their operators (ops/check/tools/cmd/resources).
OTHERS = ("keda.sh/", "monitoring.coreos.com/")


def faults(path: str, version: str) -> tuple[list[str], int]:
    """The faults as sentences, and how many objects were held against a schema."""
    found, count = [], 0
    with open(path, encoding="utf-8") as file:
        for each in YAML(typ="safe").load_all(file):
            if not each or each["apiVersion"].startswith(OTHERS):
                continue
            count += 1
            name = f"{each['kind']} {each['metadata']['name']}"
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                found.append(f"{name}, Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}")
            except kubernetes_validate.SchemaNotFoundError:
                found.append(f"{name}: Kubernetes {version} knows no {each['apiVersion']} {each['kind']}")
    return found, count


def main() -> int:
    """1 if an object does not fit."""
    path, failed = sys.argv[1], 0
    for version in sys.argv[2:]:
        found, count = faults(path, version)
        failed |= bool(found)
        for fault in found:
            print(f"{path}: {fault}", file=sys.stderr)
        if not found:
            print(f"{path}: {count} objects fit the schemas of Kubernetes {version}, strictly.")
    return failed


if __name__ == "__main__":
    sys.exit(main())
