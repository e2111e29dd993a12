"""What a drill happens in: processes with a pid file each, and the small things that are asked of them.

Everything lies in one directory. A process is called a unit here, as in systemd: its command stands in `units.json`, its
pid in `pids/NAME`, what it says in `logs/NAME.log`. So the stand-in for `systemctl` that runbooks call (see `main`) can
start and stop the same processes, and whoever comes after a crash can end them.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Failed(Exception):
    """A drill cannot go on; a sentence that says why."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ask(url: str, body: object = None, within_s: float = 5.0) -> str:
    """What a server on loopback answers to GET, or to POST where there is a body; empty where it does not answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"} if data else {})
    try:
        with urllib.request.urlopen(request, timeout=within_s) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError, ValueError):
        return ""


def until(what: str, within_s: float, is_so: Callable[[], Any], alive: Callable[[], None] = lambda: None) -> float:
    """Waits until `is_so`, and returns how many seconds that took; fails when it takes longer than `within_s`."""
    began = time.monotonic()
    while not is_so():
        alive()
        if time.monotonic() - began > within_s:
            raise Failed(f"waited {within_s:.0f} s in vain until {what}")
        time.sleep(0.2)
    return time.monotonic() - began


class World:
    """The processes of a drill, by name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("pids", "logs"):
            (directory / name).mkdir(exist_ok=True)

    @property
    def units(self) -> dict[str, list[str]]:
        """The commands by the units' names."""
        path = self.directory / "units.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def define(self, name: str, *command: str) -> None:
        """Says what the unit of this name runs."""
        units = self.units | {name: list(command)}
        (self.directory / "units.json").write_text(json.dumps(units, indent=1) + "\n")

    def pid(self, name: str) -> int | None:
        """The process of a unit, if it runs: a pid may have passed to another process since."""
        try:
            pid = int((self.directory / "pids" / name).read_text())
            said = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            return None
        return pid if state != "Z" and self.units.get(name, [""])[-1] in said else None

    def start(self, name: str) -> None:
        """Starts a unit, if it does not run."""
        if self.pid(name) is not None:
            return
        if name not in self.units:
            raise Failed(f'there is no unit "{name}"; there are: {", ".join(sorted(self.units))}')
        with (self.directory / "logs" / f"{name}.log").open("ab") as log:
            command = self.units[name]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, start_new_session=True
            )
        (self.directory / "pids" / name).write_text(f"{process.pid}\n")

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM, within_s: float = 45.0) -> None:
        """Ends a unit, by force if it takes longer than it may."""
        pid = self.pid(name)
        if pid is None:
            return
        os.kill(pid, how)
        try:
            until(f"{name} has ended", within_s, lambda: self.reaped(name))
        except Failed:
            os.kill(pid, signal.SIGKILL)
            until(f"{name} was killed", 10, lambda: self.reaped(name))

    def reaped(self, name: str) -> bool:
        """Whether a unit has ended; if it was our own child, it is buried."""
        try:
            while os.waitpid(-1, os.WNOHANG)[0] != 0:
                pass
        except ChildProcessError:
            pass
        return self.pid(name) is None

    def end(self) -> None:
        """Ends everything that runs: the newest first, and the patient ones not for long."""
        for name in reversed(list(self.units)):
            self.stop(name, within_s=8)

    def log_end(self, name: str, lines: int = 5) -> str:
        """The last lines of what a unit said."""
        path = self.directory / "logs" / f"{name}.log"
        said = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n".join(f"    | {line[:240]}" for line in said[-lines:])


def main(arguments: list[str]) -> int:
    """`systemctl` as far as runbooks need it, over the units of the directory in DRILL_DIRECTORY: start, stop, restart,
    status and is-active of unit names, with or without `.service`. Postgres is a unit of `scripts/services`."""
    words = [word for word in arguments if not word.startswith("-")]
    if len(words) < 2 or words[0] not in ("start", "stop", "restart", "status", "is-active"):
        print("systemctl (of the drill): start|stop|restart|status|is-active UNIT...", file=sys.stderr)
        return 2
    world = World(Path(os.environ["DRILL_DIRECTORY"]))
    verb, good = words[0], True
    for word in words[1:]:
        name = word.removesuffix(".service")
        if name == "postgresql":
            services = os.environ["DRILL_SERVICES"]
            done = subprocess.run([services, "status" if verb in ("status", "is-active") else verb, "postgres"])
            good = good and done.returncode == 0
            continue
        if verb in ("stop", "restart"):
            world.stop(name)
        if verb in ("start", "restart"):
            world.start(name)
        if verb in ("status", "is-active"):
            print(f"{name}: {'active' if world.pid(name) else 'inactive'}")
            good = good and world.pid(name) is not None
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Failed as why:
        print(f"systemctl (of the drill): {why}", file=sys.stderr)
        sys.exit(1)
