#!/usr/bin/env python3
"""Five alerts, each from its cause to its end: break something, see the alert fire, follow its runbook, see it resolve.

Called by `run`, which has brought up the servers. A real worker, simulated desks, a model stub, a real Prometheus with
this project's rules (in a time that runs faster, see ops/prometheus/faster.py) and a real Alertmanager, which tells a receiver
here. What is done against an alert are the commands of its own runbook: the blocks that begin with ```sh drill.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from site_plan import ROOT, Place, prepare
from world import Failed, World, ask, until

FIRES_WITHIN_S = 120.0
RESOLVES_WITHIN_S = 150.0
# So many lines of what a block of commands says are shown.
SHOWN = 24
FENCE = re.compile(r"^ *```sh drill$\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# What stands below this heading is done when the alert is over.
AFTERWARDS = "\n## It is over when\n"
# What a shell answers when there is no such command, and what `autoreply` says of one that it does not know.
NO_SUCH_COMMAND = ("command not found", "unrecognized subcommand", "unexpected argument")


def say(text: str) -> None:
    """A sentence for whoever watches."""
    print(text, flush=True)


@dataclass
class Pager:
    """Who is told by Alertmanager, in place of a person with a telephone: alert by alert, what and when."""

    told: list[tuple[float, str, str]] = field(default_factory=list)

    def listen(self, port: int) -> None:
        """Takes what Alertmanager posts, on a thread that ends with this process."""
        pager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))))
                for alert in body.get("alerts", []):
                    pager.told.append((time.monotonic(), alert["labels"]["alertname"], alert["status"]))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def when(self, alert: str, status: str, since: float) -> float | None:
        """How long after `since` it was first told of this alert in this status."""
        times = [at - since for at, name, what in self.told if name == alert and what == status and at >= since]
        return times[0] if times else None


@dataclass
class Drill:
    """An alert, what brings it about, and what others do about it besides the runbook's commands."""

    alert: str
    story: str
    breaks: Callable[[], None]
    others: str = ""
    others_do: Callable[[], None] = lambda: None


@dataclass
class Result:
    """What came of a drill, in seconds."""

    alert: str
    fired: float = 0.0
    told: float | None = None
    runbook: float = 0.0
    resolved: float = 0.0
    told_resolved: float | None = None
    besides: set[str] = field(default_factory=set)


class Site:
    """The running installation, and what can be asked of it."""

    def __init__(self, place: Place, pager: Pager) -> None:
        self.place, self.world, self.pager = place, place.world, pager

    def alerts(self) -> list[dict[str, Any]]:
        """What Prometheus holds for pending or firing."""
        answer = ask(f"{self.place.prometheus}/api/v1/alerts")
        return list(json.loads(answer)["data"]["alerts"]) if answer else []

    def states(self, alert: str) -> set[str]:
        """The states of the alerts of this name."""
        return {found["state"] for found in self.alerts() if found["labels"]["alertname"] == alert}

    def firing(self) -> set[str]:
        """The names of everything that fires."""
        return {found["labels"]["alertname"] for found in self.alerts() if found["state"] == "firing"}

    def paged(self, alert: str) -> bool:
        """Whether Alertmanager holds it for active."""
        answer = ask(f"{self.place.alertmanager}/api/v2/alerts?active=true")
        found = json.loads(answer) if answer else []
        return any(one["labels"]["alertname"] == alert and one["status"]["state"] == "active" for one in found)

    def alive(self) -> None:
        """Fails when one of the watchers has ended: nothing could fire then."""
        for name in ("prometheus", "alertmanager", "model-stub"):
            if self.world.pid(name) is None:
                raise Failed(f"{name} has ended:\n{self.world.log_end(name)}")

    def environment(self) -> dict[str, str]:
        """What the runbooks' commands find: `autoreply` and `systemctl` of this drill first on the path, and the names
        that the runbooks use for addresses."""
        place = self.place
        return os.environ | {
            "PATH": f"{place.world.directory / 'bin'}:{os.environ['PATH']}",
            "LEDGER_URL": place.ledger,
            "PROMETHEUS": place.prometheus,
            "DRILL_DIRECTORY": str(place.world.directory),
        }

    def follow(self, alert: str, afterwards: bool = False) -> None:
        """Runs the commands of the alert's runbook line by line, as a person would, and shows what they say. A command
        that looks may well say that something is wrong; one that does not exist is a fault of the runbook."""
        path = self.place.runbooks / f"{alert}.md"
        before, _, after = path.read_text().partition(AFTERWARDS)
        blocks = FENCE.findall(after if afterwards else before)
        if not blocks and not afterwards:
            raise Failed(f"{path} has no block that begins with ```sh drill: nobody could follow it")
        for block in map(textwrap.dedent, blocks):
            say(textwrap.indent(block.rstrip(), "    $ "))
            done = subprocess.run(
                ["bash", "-c", block], env=self.environment(), cwd=ROOT, capture_output=True, text=True, timeout=120
            )
            said = done.stdout + done.stderr
            say(textwrap.indent("\n".join(line[:150] for line in said.splitlines()[:SHOWN]), "    | "))
            if any(sign in said for sign in NO_SUCH_COMMAND):
                raise Failed(f"{path} names a command that does not exist (above)")


def drills(site: Site) -> list[Drill]:
    """The five, in an order in which one does not hide the next."""
    place, world = site.place, site.world

    def provider(share: float) -> None:
        script = {"providers": {"main": {"shares": {"error_500": share}}}}
        if not ask(f"http://{place.stub}/script", script):
            raise Failed("the model stub does not take its script")

    def garbage() -> None:
        # kcat sends what it reads; a record that no release ever wrote.
        command = ["kcat", "-P", "-b", place.brokers, "-t", f"{place.prefix}.messages", "-k", "nobody"]
        done = subprocess.run(command, input="this is no record\n", text=True, capture_output=True, timeout=30)
        if done.returncode != 0:
            raise Failed(f"the record could not be written: {done.stderr.strip()}")

    return [
        Drill(
            "AutoreplyBreakerOpen",
            'The provider "main" answers every request with 500. (The chain goes on to "spare".)',
            lambda: provider(1.0),
            'Those who run the provider mend it.',
            lambda: provider(0.0),
        ),
        Drill("AutoreplyDeadLetters", "Something writes a record to the messages that nobody can read.", garbage),
        Drill(
            "AutoreplyLagGrowing",
            "Somebody has opened a transaction by hand, locked the ledger's table in it, and gone to lunch.",
            lambda: world.start("lunch"),
        ),
        Drill(
            "AutoreplyUnhealthy",
            "PostgreSQL is gone (SIGKILL): the ledger does not answer.",
            lambda: place.services("kill", "postgres"),
        ),
        Drill(
            "AutoreplyDeskSilent",
            "A desk dies without a goodbye (SIGKILL to its process).",
            lambda: world.stop("autoreply-desktop", signal.SIGKILL),
        ),
    ]


def perform(site: Site, drill: Drill) -> Result:
    """One drill from its cause to its end."""
    alert, result = drill.alert, Result(drill.alert)
    say(f"\n== {alert}")
    until(f"no {alert} is left from before", RESOLVES_WITHIN_S, lambda: not site.states(alert), site.alive)
    say(f"  The fault: {drill.story}")
    began = time.monotonic()
    drill.breaks()
    result.fired = until(f"{alert} fires", FIRES_WITHIN_S, lambda: "firing" in site.states(alert), site.alive)
    say(f"  {alert} fires in Prometheus after {result.fired:.0f} s.")
    until(f"Alertmanager has {alert}", 30, lambda: site.paged(alert), site.alive)
    until("somebody is told", 60, lambda: site.pager.when(alert, "firing", began) is not None, site.alive)
    result.told = site.pager.when(alert, "firing", began)
    result.besides = site.firing() - {alert}
    say(f"  Alertmanager has told the receiver after {result.told:.0f} s. The runbook says, and we do:")
    start = time.monotonic()
    site.follow(alert)
    if drill.others:
        say(f"  {drill.others}")
        drill.others_do()
    mended = time.monotonic()
    result.runbook = mended - start
    result.resolved = until(f"{alert} resolves", RESOLVES_WITHIN_S, lambda: not site.states(alert), site.alive)
    say(f"  {alert} is over {result.resolved:.0f} s after the repair.")
    site.follow(alert, afterwards=True)
    until("that is told", 90, lambda: site.pager.when(alert, "resolved", mended) is not None, site.alive)
    result.told_resolved = site.pager.when(alert, "resolved", mended)
    return result


def table(results: list[Result], factor: int) -> str:
    """All drills, a row each."""
    head = ("alert", "fired", "told", "runbook", "resolved", "told of it", "fired besides")
    seconds = lambda value: "" if value is None else f"{value:.0f} s"
    rows = [
        (
            one.alert,
            seconds(one.fired),
            seconds(one.told),
            seconds(one.runbook),
            seconds(one.resolved),
            seconds(one.told_resolved),
            ", ".join(sorted(one.besides)) or "nothing",
        )
        for one in results
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [head, *rows]]
    lines.append(f"fired and told: after the fault; resolved and told of it: after the repair. Windows are 1/{factor} of the real ones.")
    return "\n".join(lines)


def run(site: Site, only: list[str], factor: int) -> None:
    """Every drill, or those whose alerts are named."""
    all_drills = drills(site)
    unknown = set(only) - {drill.alert for drill in all_drills}
    if unknown:
        raise Failed(f"there is no drill for {', '.join(sorted(unknown))}; there are: {', '.join(d.alert for d in all_drills)}")
    site.place.start(say)
    until("the worker is ready", 60, lambda: ask(f"http://{site.place.worker}/readyz"), site.alive)
    until("replies are sent", 60, site.place.answered, site.alive)
    until("Prometheus asks the worker", 30, site.place.is_scraped, site.alive)
    until("nothing fires", 60, lambda: not site.firing(), site.alive)
    say(f"The worker is ready, {site.place.answered()} messages are answered, nothing fires.")
    results = [perform(site, drill) for drill in all_drills if not only or drill.alert in only]
    say("\n" + table(results, factor))


def main() -> int:
    """The exit code: 0 when every alert fired and resolved."""
    parser = argparse.ArgumentParser(description="Drills of alerts; called by ops/drills/run.")
    parser.add_argument("--directory", type=Path, required=True, help="where everything lies")
    parser.add_argument("--programs", type=Path, required=True, help="where autoreply, sim-desks and model-stub are")
    parser.add_argument("--factor", type=int, default=15, help="by how much times are shortened")
    parser.add_argument("alerts", nargs="*", help="only these alerts")
    arguments = parser.parse_args()
    # Whoever ends this script ends what it has started too.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    began = time.monotonic()
    place = prepare(World(arguments.directory), arguments.programs, arguments.factor)
    pager = Pager()
    pager.listen(place.receiver)
    site = Site(place, pager)
    try:
        run(site, arguments.alerts, arguments.factor)
        say(f"Every alert fired, was told, and resolved; {time.monotonic() - began:.0f} s in all.")
        return 0
    except Failed as why:
        say(f"\nThe drill failed: {why}")
        say(f"Firing now: {', '.join(sorted(site.firing())) or 'nothing'}. The worker's last words:")
        say(place.world.log_end("autoreply-worker", 12))
        return 1
    finally:
        place.world.end()


if __name__ == "__main__":
    sys.exit(main())
