"""A real Prometheus of our own: started on a directory, asked, ended by its pid."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fetch(url: str, timeout_s: float = 30.0) -> bytes:
    """What a server on loopback answers; proxies of the environment are not asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=timeout_s) as answer:
        body: bytes = answer.read()
        return body


class Refused(Exception):
    """Prometheus did not accept a query, or did not start."""


class Prometheus:
    """A server over `directory/prometheus`; with `targets` it scrapes, without it only answers about what it has."""

    def __init__(self, directory: Path, rules: list[Path], targets: dict[str, list[str]], scrape_s: int = 1) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "prometheus.yml"
        # JSON is YAML.
        config.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": f"{scrape_s}s", "scrape_timeout": f"{scrape_s}s", "evaluation_interval": "1s"},
                    "rule_files": [str(rule.resolve()) for rule in rules] if targets else [],
                    "scrape_configs": [
                        {"job_name": job, "static_configs": [{"targets": addresses}]} for job, addresses in targets.items()
                    ],
                }
            ),
            encoding="utf-8",
        )
        self.log = open(directory / "prometheus.log", "ab")
        self.process = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "KILL", "--", "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={(directory / 'tsdb').resolve()}",
                "--storage.tsdb.retention.time=10y",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.level=warn",
            ],
            stdout=self.log,
            stderr=self.log,
            env={**os.environ, "GOMAXPROCS": "1"},
        )  # fmt: skip
        self._await_ready()

    def _await_ready(self) -> None:
        for _ in range(300):
            if self.process.poll() is not None:
                break
            try:
                fetch(f"{self.url}/-/ready", 2)
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        self.end()
        raise Refused(f"Prometheus did not start; see {self.directory / 'prometheus.log'}")

    def ask(self, path: str, **parameters: str | float) -> Any:
        """The `data` of an answer of the HTTP API."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            return json.loads(fetch(url))["data"]
        except urllib.error.HTTPError as error:
            told = json.loads(error.read() or b"{}")
            raise Refused(told.get("error", str(error))) from None

    def instant(self, query: str, at_s: float) -> list[dict[str, Any]]:
        """The series of an instant query."""
        found: list[dict[str, Any]] = self.ask("query", query=query, time=at_s)["result"]
        return found

    def range(self, query: str, from_s: float, to_s: float, step_s: float) -> list[dict[str, Any]]:
        """The series of a range query."""
        found: list[dict[str, Any]] = self.ask("query_range", query=query, start=from_s, end=to_s, step=step_s)["result"]
        return found

    def end(self) -> None:
        """Ends it in order: what it has is on disk then."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def __enter__(self) -> "Prometheus":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.end()
