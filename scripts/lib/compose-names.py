"""Checks what the schema of compose files cannot: that the names in a compose file mean something in it.

Services that others depend on exist (and have a healthcheck where health is waited for), named volumes are declared, and
every published port is bound to an address.
"""

import sys

from ruamel.yaml import YAML


def faults(compose: dict) -> list[str]:
    """Every fault as a sentence."""
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
            if not source.startswith((".", "/", "~")) and source not in volumes:
                found.append(f"{name} uses the volume {source}, which is not declared")
        for port in service.get("ports") or []:
            # address:published:target, where the first two may be ${NAME:-default}
            if not port.startswith(("127.0.0.1:", "${AUTOREPLY_LISTEN:-127.0.0.1}:")):
                found.append(f"{name} publishes {port} on every address of the machine")
    return found


def main() -> int:
    """Prints the faults of the file in the first argument; 1 if there are any."""
    path = sys.argv[1]
    with open(path, encoding="utf-8") as file:
        found = faults(YAML(typ="safe").load(file))
    for fault in found:
        print(f"{path}: {fault}.", file=sys.stderr)
    if not found:
        print(f"{path}: its names are right, and it publishes on loopback only.")
    return 1 if found else 0


sys.exit(main())
