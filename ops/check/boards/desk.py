"""A real desk for a run: HexChat on a private display, people who write to it, and a person at its keyboard."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

ACCOUNT = "autobot"
PATIENCE_S = 40.0


class Desk:
    """What `rig-actor desk` holds, until it is ended."""

    def __init__(self, rig_actor: Path, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.log = open(directory / "rig.log", "ab")
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", str(rig_actor), "desk", str(directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
        )  # fmt: skip
        self.environment = dict(os.environ)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("# up"):
                break
            if line.startswith("unset "):
                for name in line.split()[1:]:
                    self.environment.pop(name, None)
            elif found := re.fullmatch(r"export (\w+)='?(.*?)'?\n", line):
                self.environment[found[1]] = found[2]
        else:
            raise RuntimeError(f"the desk did not come up; see {directory}/log and {directory}/rig.log")
        self.irc_port = int(self.environment["RIG_IRC_PORT"])

    def xdotool(self, *words: str) -> str:
        """Runs xdotool on the desk's display; what it says, or nothing if it found nothing or could not get through."""
        try:
            done = subprocess.run(["xdotool", *words], env=self.environment, capture_output=True, text=True, timeout=8, check=False)
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout.strip()

    def window_of(self, peer: str) -> str:
        """The window of the dialog with `peer`, waited for."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if found := self.xdotool("search", "--name", f"^Dialog with {peer} @"):
                return found.splitlines()[0]
            time.sleep(0.1)
        raise RuntimeError(f"HexChat opened no window for {peer}; see {self.directory}/log")

    def place(self, peer: str, number: int) -> None:
        """Lays windows side by side: what is covered cannot be read."""
        window = self.window_of(peer)
        left, top = 10 + 790 * (number % 2), 40 + 480 * (number // 2)
        self.xdotool("windowsize", "--sync", window, "760", "430")
        self.xdotool("windowmove", "--sync", window, str(left), str(top))

    def person_types(self, peer: str, text: str, enter: bool) -> None:
        """The person at the desk goes to a window and types; with `enter` they answer by themselves."""
        window = self.window_of(peer)
        self.xdotool("windowactivate", "--sync", window)
        keys = ["space" if letter == " " else letter for letter in text]
        # Keys, not text: for text xdotool changes the keyboard's map, which autoreply does as well while it types.
        self.xdotool("key", "--delay", "30", *keys)
        self.xdotool("key", "--delay", "10", *(["Return"] if enter else ["BackSpace"] * len(keys)))

    def end(self) -> None:
        """Takes everything on the desk down."""
        if self.process.poll() is None and self.process.stdin is not None:
            self.process.stdin.close()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


class Peer:
    """Another process that holds the other end of one conversation."""

    def __init__(self, autoreply: Path, nick: str, desk: Desk) -> None:
        self.nick = nick
        self.out = open(desk.directory / f"peer-{nick}.jsonl", "ab")
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", str(autoreply), "rig", "peer", "--nick", nick, "--port", str(desk.irc_port)],
            stdin=subprocess.PIPE, stdout=self.out, stderr=self.out, text=True,
        )  # fmt: skip

    def say(self, text: str) -> None:
        """Writes a line to the desk."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": "say", "to": ACCOUNT, "text": text}) + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Leaves."""
        self.process.kill()
        self.process.wait()
        self.out.close()
