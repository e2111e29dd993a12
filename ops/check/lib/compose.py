"""Checks what the schema of compose files cannot: that a compose file fits itself and the program that it runs.

Services that others depend on exist (and have a healthcheck where health is waited for), named volumes are declared, what is
mounted from the repository is there and finds the variables that it asks for, every published port is bound to an address, the settings exist and hold no password,
and workers have the time to stop that they need.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import facts
from ruamel.yaml import YAML

Table = dict[str, Any]


def names(compose: Table) -> list[str]:
    """Names and places that mean nothing."""
    services, volumes = compose["services"], compose.get("volumes") or {}
    found = []
    for name, service in services.items():
        for other, how in (service.get("depends_on") or {}).items():
            if other not in services:
                found.append(f"{name} depends on {other}, which is not a service")
            elif how["condition"] == "service_healthy" and "healthcheck" not in services[other]:
                found.append(f"{name} waits for the health of {other}, which has no healthcheck")
        for volume in service.get("volumes") or []:
            source = volume.split(":")[0]
            if source.startswith("."):
                if not (facts.ROOT / source).exists():
                    found.append(f"{name} mounts {source}, which is not there")
            elif not source.startswith(("/", "~")) and source not in volumes:
                found.append(f"{name} uses the volume {source}, which is not declared")
        found += [f"{name}: {fault}" for fault in unset(service)]
        for port in service.get("ports") or []:
            # address:published:target, where the first two may be ${NAME:-default}
            if not port.startswith(("127.0.0.1:", "${AUTOREPLY_LISTEN:-127.0.0.1}:")):
                found.append(f"{name} publishes {port} on every address of the machine")
    return found


def unset(service: Table) -> list[str]:
    """Variables of Grafana's provisioning that the service is not given; it would read them as nothing."""
    environment, found = service.get("environment") or {}, []
    for volume in service.get("volumes") or []:
        source, target = volume.split(":")[:2]
        place = facts.ROOT / source
        if "/provisioning/" not in target or not place.exists():
            continue
        for file in sorted(place.rglob("*.yml")) if place.is_dir() else [place]:
            asked = re.findall(r"\$\{([A-Z_]+)\}", file.read_text(encoding="utf-8"))
            found += [f"{file.name} asks for {key}, which it is not given" for key in asked if key not in environment]
    return found


def defaulted(value: object) -> str:
    """A value with the defaults of its variables."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", str(value))


def program(compose: Table) -> list[str]:
    """What does not fit the program, of the services that run its image."""
    found, workers = [], 0
    for name, service in compose["services"].items():
        if service.get("image") != "autoreply-worker":
            continue
        environment = {key: defaulted(value) for key, value in (service.get("environment") or {}).items()}
        found += [f"{name}: {fault}" for fault in facts.unknown_settings({}, environment)]
        for key, value in environment.items():
            if re.search(r"//[^/@]*:[^/@]*@", value):
                found.append(f"{name}: {key} is an address that holds a password")
            if key.endswith("_ENV") and value not in environment:
                found.append(f"{name}: {key} names the variable {value}, which it is not given")
        if service.get("command") == ["worker"]:
            workers += 1
            needed = facts.seconds_to_stop(facts.merged({}, environment))
            given = float(str(service.get("stop_grace_period", "10s")).removesuffix("s"))
            if given <= needed:
                found.append(f"{name} is ended after {given:.0f} s, and a stop may take {needed:.0f} s")
    if workers == 0:
        found.append("no service runs the worker")
    return found


def main() -> int:
    """Prints the faults of the file in the first argument; 1 if there are any."""
    path = sys.argv[1]
    with open(path, encoding="utf-8") as file:
        compose = YAML(typ="safe").load(file)
    try:
        found = names(compose) + program(compose)
    except facts.Missing as missing:
        found = [str(missing)]
    for fault in found:
        print(f"{path}: {fault}.", file=sys.stderr)
    if not found:
        print(f"{path}: its names are right, it publishes on loopback only, and its settings and times are the program's.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
