"""A real run for the dashboards: two workers over Kafka, PostgreSQL and Redis, simulated desks with traffic, a real desk
with HexChat, and the faults without which half of the panels would have nothing to show. A real Prometheus watches it.

What went wrong when is in `events.jsonl` of the run's directory; nothing of it is in the metrics but its effects.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
import urllib.request
import uuid
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable

from desk import ACCOUNT, Desk, Peer
from prometheus import Prometheus, free_port

ROOT = Path(__file__).resolve().parents[3]
SEED = 20
# How long the plan lasts; faults are spread over it. The rules' slowest group is calculated once a minute.
SECONDS = 150
MESSAGES_PER_S = 5.0
AUTO_DESKS, DRAFT_DESKS, PEERS_EACH = 6, 1, 9

# How the stub's providers behave, as load-tests/src/model/script.rs wants it.
HEALTHY: dict[str, Any] = {
    "seed": SEED,
    "providers": {
        "large": {
            "latency": {"median_ms": 700, "sigma": 0.5},
            "shares": {"error_500": 0.03, "limited_short": 0.03, "limited_long": 0.01, "malformed": 0.02, "empty": 0.02,
                       "too_long": 0.03, "disconnect": 0.01, "hang": 0.01},
            "retry_after_long_s": 15,
        },
        "small": {"latency": {"median_ms": 300, "sigma": 0.4}, "shares": {"error_503": 0.02, "too_long": 0.05}},
    },
}  # fmt: skip
LARGE_DOWN: dict[str, Any] = {**HEALTHY, "providers": {**HEALTHY["providers"], "large": {"shares": {"error_503": 1.0}}}}
BOTH_DOWN: dict[str, Any] = {"seed": SEED, "default": {"shares": {"error_503": 1.0}}}

WORKER = """
[stream]
brokers = "{kafka}"
topic_prefix = "{prefix}"
worker_group = "{prefix}"
session_timeout_ms = 6000
survey_every_ms = 1000
[saga]
# A worker that is killed is replaced while the run lasts.
reply_deadline_ms = 10000
lease_ms = 15000
approval_lifetime_ms = 60000
account_hold_ms = 30000
[ledger]
url = "{postgres}"
daily_quota = 2000
[limits]
replies_per_minute = 60
burst = 5
redis_url = "{redis}"
redis_prefix = "{prefix}"
[generation]
chain = ["large", "small", "acknowledge"]
breaker_failures = 8
breaker_cool_down_ms = 8000
[generation.providers.large]
kind = "chat_completions"
base_url = "http://{stub}/large/v1"
model = "stub"
timeout_ms = 4000
price_input_per_million = 2.5
price_output_per_million = 10.0
[generation.providers.small]
kind = "chat_completions"
base_url = "http://{stub}/small/v1"
model = "stub"
timeout_ms = 4000
price_input_per_million = 0.15
price_output_per_million = 0.6
[control]
socket = "{directory}/worker-{number}.sock"
listen = "127.0.0.1:{port}"
[telemetry]
log_filter = "warn"
"""

DESKTOP = """
[desktop]
id = "desk-real"
own_names = ["{account}"]
hello_ms = 2000
[journal]
mode = "auto"
trusted_peers = ["*"]
consecutive_cap = 100
hourly_cap = 200
quiet_ms = 600
[execution]
idle_ms = 300
retry_delay_ms = 500
yield_delay_ms = 500
[stream]
brokers = "{kafka}"
topic_prefix = "{prefix}"
[control]
socket = "{directory}/desktop.sock"
listen = "127.0.0.1:{port}"
[telemetry]
log_filter = "warn"
"""


class Failed(Exception):
    """The run could not be made: a sentence."""


def program(name: str) -> Path:
    """A built program: in one of the directories of AUTOREPLY_PROGRAMS, in order, or in target/release."""
    places = os.environ.get("AUTOREPLY_PROGRAMS", str(ROOT / "target/release")).split(":")
    for place in places:
        if (Path(place) / name).exists():
            return Path(place) / name
    raise Failed(f"{name} was not built (looked in {', '.join(places)}). Build it: cargo build --release --workspace")


@dataclass
class Run:
    """Everything that runs, and what is to be ended."""

    directory: Path
    addresses: dict[str, str]
    prefix: str = field(default_factory=lambda: f"seen-{uuid.uuid4().hex[:12]}")
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    stub: str = ""

    def start(self, name: str, command: list[str | Path], environment: dict[str, str] | None = None) -> None:
        """Starts a process under a name, with a log of its own."""
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        own = {**os.environ, "HOME": str(home), "XDG_DATA_HOME": str(self.directory / "data" / name)}
        with open(self.directory / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment or own, cwd=self.directory,
            )  # fmt: skip

    def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends a process and waits for it."""
        process = self.processes.pop(name)
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def note(self, what: str) -> None:
        """Keeps what was done for whoever looks at the pictures."""
        with open(self.directory / "events.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"at_s": time.time(), "what": what}) + "\n")

    def settings(self, name: str, text: str, **more: object) -> Path:
        """Writes a settings file."""
        path = self.directory / f"{name}.toml"
        path.write_text(
            text.format(directory=self.directory, prefix=self.prefix, stub=self.stub, account=ACCOUNT, **self.addresses, **more),
            encoding="utf-8",
        )
        return path

    def command(self, *words: str | Path) -> None:
        """Runs a command of autoreply to its end."""
        done = subprocess.run(
            [program("autoreply"), *words], cwd=self.directory, capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "HOME": str(self.directory)},
        )  # fmt: skip
        if done.returncode != 0:
            raise Failed(f"autoreply {' '.join(map(str, words))}: {done.stderr.strip()}")

    def await_queued(self, desk: str) -> None:
        """Waits until a reply for this desk has been issued: it stands in the desk's queue then, or soon will."""
        for _ in range(20):
            done = subprocess.run(
                [program("autoreply"), "--socket", self.directory / "worker-1.sock", "--json", "sagas", "list"],
                cwd=self.directory, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            open_sagas = json.loads(done.stdout or "[]") if done.returncode == 0 else []
            if any(saga["state"] == "issued" and saga["conversation"].startswith(desk) for saga in open_sagas):
                time.sleep(1)
                return
            time.sleep(0.5)

    def service(self, *words: str) -> None:
        """Runs scripts/services."""
        done = subprocess.run([ROOT / "scripts/services", *words], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise Failed(f"scripts/services {' '.join(words)}: {done.stdout.strip()} {done.stderr.strip()}")

    def start_worker(self, number: int) -> None:
        """A worker; one that is started again keeps its address."""
        name = f"worker-{number}"
        port = self.ports.setdefault(name, free_port())
        config = self.settings(name, WORKER, number=number, port=port)
        self.start(name, [program("autoreply"), "--config", config, "worker"])

    def script(self, script: dict[str, Any]) -> None:
        """The stub behaves like this from now on."""
        request = urllib.request.Request(f"http://{self.stub}/script", data=json.dumps(script).encode(), method="POST")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()

    def poison(self) -> None:
        """Puts a record that nobody can read into the topic of messages, as another program might."""
        jars = Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "autoreply/kafka-4.3.0/libs"
        subprocess.run(
            ["java", "-Xmx96m", "-cp", f"{jars}/*", "org.apache.kafka.tools.ConsoleProducer",
             "--bootstrap-server", self.addresses["kafka"], "--topic", f"{self.prefix}.messages"],
            input=b"this is no record\nnor is this\n", capture_output=True, timeout=60, check=True,
        )  # fmt: skip


def sql(url: str, statement: str) -> None:
    """Says one thing to PostgreSQL."""
    subprocess.run(["psql", "-q", "-X", "-v", "ON_ERROR_STOP=1", "-c", statement, url], check=True, capture_output=True, timeout=60)


def own_database(url: str, name: str) -> str:
    """The URL of a new database of this name on the server of `url`."""
    sql(url, f"create database {name}")
    base, _, _ = url.rpartition("/")
    return f"{base}/{name}"


def start_stub(run: Run) -> None:
    """The model stub, which says where it listens."""
    script = run.directory / "script.json"
    script.write_text(json.dumps(HEALTHY), encoding="utf-8")
    run.start("stub", [program("model-stub"), "--script", script])
    log = run.directory / "stub.log"
    for _ in range(100):
        if found := [line for line in log.read_text().splitlines() if line.startswith("{")]:
            run.stub = json.loads(found[0])["address"]
            return
        time.sleep(0.1)
    raise Failed(f"the model stub does not listen; see {log}")


def desks() -> dict[str, list[str]]:
    """The simulated desks, each with those who write to it."""
    names = [f"desk-{number:03}" for number in range(AUTO_DESKS + DRAFT_DESKS)]
    return {name: [f"peer-{name[5:]}{number:02}" for number in range(PEERS_EACH)] for name in names}


def start_desks(run: Run) -> None:
    """Two processes of simulated desks: most answer by themselves, one asks a person, who never comes."""
    everyone = [{"name": name, "peers": peers} for name, peers in desks().items()]
    for name, part, mode in (("auto", everyone[:AUTO_DESKS], "auto"), ("draft", everyone[AUTO_DESKS:], "draft")):
        config = {
            "name": name, "directory": str(run.directory), "kind": "journal", "brokers": run.addresses["kafka"],
            "topic_prefix": run.prefix, "seed": SEED, "typing_ms": 250, "look_ms": 50, "desks": part,
            "faults": {"late_share": 0.02, "late_ms": 1500, "swallow_share": 0.01, "human_share": 0.04, "human_within_ms": 400,
                       "missing_share": 0.02, "missing_ms": 3000},
            "settings": {"journal": {"mode": mode, "quiet_ms": 200}},
        }  # fmt: skip
        path = run.directory / f"sim-{name}.toml"
        path.write_text(to_toml(config), encoding="utf-8")
        run.start(f"sim-{name}", [program("sim-desks"), "--config", path])
    for _ in range(600):
        if all((run.directory / "ready" / name).exists() for name in ("auto", "draft")):
            return
        time.sleep(0.1)
    raise Failed(f"the simulated desks are not ready; see sim-*.log in {run.directory}")


def to_toml(table: dict[str, Any]) -> str:
    """Enough of TOML for the settings here: inline tables are JSON with `=`."""

    def value(of: Any) -> str:
        if isinstance(of, dict):
            return "{ " + ", ".join(f"{key} = {value(inner)}" for key, inner in of.items()) + " }"
        if isinstance(of, list):
            return "[" + ", ".join(map(value, of)) + "]"
        return json.dumps(of)

    return "".join(f"{key} = {value(inner)}\n" for key, inner in table.items())


def write_plan(run: Run) -> float:
    """Who writes when, at random times; the file appears whole. Returns when it begins."""
    chance = random.Random(SEED)
    everyone = [(desk, peer) for desk, peers in desks().items() for peer in peers]
    begin, at_s = time.time() + 1.0, 0.0
    lines: list[str] = []
    while at_s < SECONDS:
        # A swell, so that curves have a shape.
        at_s += chance.expovariate(MESSAGES_PER_S * (1.6 if 40 < at_s < 75 else 0.8))
        desk, peer = chance.choice(everyone)
        number = len(lines)
        planned = {"number": number, "token": f"tok{number:08x}", "desktop": desk, "peer": peer, "at_ms": int((begin + at_s) * 1000)}
        lines.append(json.dumps(planned))
    beside = run.directory / "plan.new"
    beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    beside.rename(run.directory / "plan.jsonl")
    return begin


QUESTIONS = [
    "what are your opening hours today", "how much is the large one", "where is my parcel please", "can I come by tomorrow",
    "do you have it in blue", "thanks, and until when is that", "could you call me back", "is the shop open on Sunday",
]  # fmt: skip


class RealDesk:
    """The desk with HexChat, `autoreply desktop` on it, and its peers."""

    def __init__(self, run: Run) -> None:
        self.desk = Desk(program("rig-actor"), run.directory / "desk")
        self.peers = [Peer(program("autoreply"), nick, self.desk) for nick in ("alice", "bernd", "chloe")]
        time.sleep(1)
        for number, peer in enumerate(self.peers):
            # An empty pane proves no alignment, and the first line opens the window: both are history.
            peer.say("good morning to you")
            self.desk.place(peer.nick, number)
            peer.say("it rains again")
        port = run.ports["desktop"] = free_port()
        config = run.settings("desktop", DESKTOP, port=port)
        run.start("desktop", [program("autoreply"), "--config", config, "desktop"], self.desk.environment)
        self.asked = 0

    def ask(self) -> None:
        """The next peer writes."""
        self.peers[self.asked % len(self.peers)].say(QUESTIONS[self.asked % len(QUESTIONS)])
        self.asked += 1

    def asked_at(self, at_s: float) -> str:
        """Who is the last to have written at this second of the plan."""
        return self.peers[int((at_s - 4) // 5) % len(self.peers)].nick

    def end(self) -> None:
        """Takes it down."""
        for peer in self.peers:
            peer.end()
        self.desk.end()


def schedule(run: Run, real: RealDesk) -> list[tuple[float, str, Callable[[], None]]]:
    """What happens when, in seconds of the plan."""

    def control(*words: str) -> Callable[[], None]:
        return lambda: run.command("--socket", run.directory / "desktop.sock", "control", *words, "--scope", "desktop:desk-real", "--why", "the run")

    faults: list[tuple[float, str, Callable[[], None]]] = [
        (22, "two records that nobody can read", run.poison),
        (35, "the large model answers 503", lambda: run.script(LARGE_DOWN)),
        (52, "the small model as well", lambda: run.script(BOTH_DOWN)),
        (60, "both models are well again", lambda: run.script(HEALTHY)),
        (70, "Redis is killed", lambda: run.service("kill", "redis")),
        (80, "Redis is back", lambda: run.service("start", "redis")),
        (88, "worker-2 is killed", lambda: run.end("worker-2", signal.SIGKILL)),
        (96, "worker-2 is started again", lambda: run.start_worker(2)),
        (108, "PostgreSQL is stopped", lambda: run.service("stop", "postgres")),
        (116, "PostgreSQL is back", lambda: run.service("start", "postgres")),
        (132.5, "the desk is paused", control("pause")),
        (136, "a reply waits on it", lambda: run.await_queued("desk-real")),
        (136.5, "the desk is stopped", control("stop")),
        (137.5, "the desk goes on", control("resume")),
    ]
    asking = [(float(at), "", real.ask) for at in range(4, SECONDS - 8, 5)]
    # The person is at the keyboard while a reply is on its way: it gives way. Or they answer before it.
    draft, answer = "let me see what they want here", "I will ring you in a minute"
    for at_s in (10.2, 45.2, 100.2):
        faults.append((at_s, "the person types and takes it back", partial(real.desk.person_types, real.asked_at(at_s), draft, False)))
    for at_s in (64.6, 124.6):
        faults.append((at_s, "the person answers first", partial(real.desk.person_types, real.asked_at(at_s), answer, True)))
    return sorted(faults + asking, key=lambda step: step[0])


def play(run: Run, real: RealDesk, begin: float) -> None:
    """Does everything at its time, until the plan's end."""
    for at_s, what, act in schedule(run, real):
        wait = begin + at_s - time.time()
        if wait > 0:
            time.sleep(wait)
        for name, process in run.processes.items():
            if process.poll() is not None:
                raise Failed(f"{name} ended by itself; see {run.directory}/{name}.log")
        if what:
            run.note(what)
            print(f"  {time.time() - begin:5.0f} s  {what}", flush=True)
        act()
    time.sleep(max(0.0, begin + SECONDS + 6 - time.time()))


def live(directory: Path, addresses: dict[str, str], rules: list[Path]) -> None:
    """Makes the run in `directory`, which is emptied; leaves Prometheus' data and `run.json` with its times there."""
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    run = Run(directory, dict(addresses))
    database = run.prefix.replace("-", "_")
    run.addresses["postgres"] = own_database(addresses["postgres"], database)
    real: RealDesk | None = None
    prometheus: Prometheus | None = None
    try:
        start_stub(run)
        first = run.settings("worker-1", WORKER, number=1, port=0)
        run.command("--config", first, "topics", "apply", "--yes")
        run.command("--config", first, "migrate")
        for number in (1, 2):
            run.start_worker(number)
        start_desks(run)
        real = RealDesk(run)
        worker_addresses = [f"127.0.0.1:{run.ports[f'worker-{number}']}" for number in (1, 2)]
        targets = {"autoreply-worker": worker_addresses, "autoreply-desktop": [f"127.0.0.1:{run.ports['desktop']}"]}
        prometheus = Prometheus(directory, rules, targets)
        time.sleep(5)
        begin = write_plan(run)
        play(run, real, begin)
        end = time.time()
        times = {"begin_s": begin, "end_s": end, "scrape_s": 1}
        (directory / "run.json").write_text(json.dumps(times), encoding="utf-8")
    finally:
        if prometheus is not None:
            prometheus.end()
        for name in list(run.processes):
            run.end(name)
        if real is not None:
            real.end()
        sql(addresses["postgres"], f"drop database {database} with (force)")
