"""Becomes a command under what a systemd unit forbids, as far as one process can without systemd.

    confined.py UNIT COMMAND...

Taken from the unit: SystemCallFilter (one named set), RestrictAddressFamilies, SystemCallErrorNumber=EPERM,
NoNewPrivileges, UMask, LimitCORE, Environment. What else it says is told and left out.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys

import seccomp

ALLOWED_HERE = ("SystemCallFilter", "RestrictAddressFamilies", "SystemCallErrorNumber", "NoNewPrivileges", "UMask", "LimitCORE",
                "Environment")
RESTRICTING = ("Restrict", "SystemCall", "Lock", "Protect", "Private", "NoNew", "UMask", "Limit", "Memory", "Capability")


def service(unit: str) -> dict[str, str]:
    """The keys of the unit's [Service]."""
    section, keys = "", {}
    with open(unit, encoding="utf-8") as file:
        for line in map(str.strip, file):
            if line.startswith("["):
                section = line
            elif section == "[Service]" and "=" in line and not line.startswith("#"):
                key, value = line.split("=", 1)
                keys[key] = value
    return keys


def calls(name: str) -> set[str]:
    """The system calls of a named set, sets within it included."""
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True).stdout
    found: set[str] = set()
    for line in map(str.strip, listed.splitlines()[1:]):
        if line.startswith("@"):
            found |= calls(line)
        elif line and not line.startswith("#"):
            found.add(line)
    return found


def allow(wanted: seccomp.SyscallFilter, names: set[str], families: list[str]) -> int:
    """Allows these calls, sockets of these families alone; how many of them this machine has."""
    count = 0
    for name in sorted(names - {"socket"}):
        try:
            wanted.add_rule(seccomp.ALLOW, name)
            count += 1
        except (RuntimeError, ValueError):
            # A call of another architecture.
            pass
    for family in families:
        wanted.add_rule(seccomp.ALLOW, "socket", seccomp.Arg(0, seccomp.EQ, int(getattr(socket, family))))
    return count


def main() -> None:
    """Confines this process and becomes the command."""
    keys = service(sys.argv[1])
    families = keys["RestrictAddressFamilies"].split()
    if keys["SystemCallErrorNumber"] != "EPERM" or keys["NoNewPrivileges"] != "yes" or keys["LimitCORE"] != "0":
        raise SystemExit(f"{sys.argv[1]} says otherwise than confined.py can; mend it.")
    wanted = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    count = allow(wanted, calls(keys["SystemCallFilter"]), families)
    left = [key for key in keys if key.startswith(RESTRICTING) and key not in ALLOWED_HERE]
    print(f"confined: {count} system calls of {keys['SystemCallFilter']}, sockets of {', '.join(families)}, no new privileges, "
          f"no core dumps, mode {keys['UMask']}. Not tried: {', '.join(left)}.", flush=True)
    os.umask(int(keys["UMask"], 8))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    name, value = keys["Environment"].split("=", 1)
    os.environ[name] = value
    wanted.set_attr(seccomp.Attr.CTL_NNP, 1)
    wanted.load()
    os.execvp(sys.argv[2], sys.argv[2:])


main()
