"""The installation of a drill: settings, plan and commands of everything that runs, on free ports of loopback."""

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from world import Failed, World, ask, free_port, until

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SERVICES = ROOT / "scripts" / "services"
PROMETHEUS = ROOT / "ops" / "prometheus"
PREFIX = "drill"
# Two machines with a desk each; the second one is the one that dies.
DESKS = {"desk-of-ann": "desks", "desk-of-bob": "autoreply-desktop"}
PEERS = 20
MESSAGES_A_SECOND = 1.0
# Longer than all drills together may take.
PLAN_S = 1500

WORKER = """\
[stream]
brokers = "{brokers}"
topic_prefix = "{prefix}"
worker_group = "{prefix}"
survey_every_ms = 1000
redeliver_max_ms = 2000
[ledger]
url = "{ledger}"
daily_quota = 1000000
[limits]
redis_url = "{redis}"
redis_prefix = "{prefix}"
replies_per_minute = 6000
burst = 1000
[saga]
account_hold_ms = 30000
[generation]
chain = ["main", "spare"]
breaker_failures = 3
breaker_cool_down_ms = 5000
retry_initial_ms = 50
retry_max_ms = 200
{providers}
[control]
socket = "{directory}/worker.sock"
listen = "{worker}"
"""
PROVIDER = """\
[generation.providers.{name}]
kind = "chat_completions"
model = "stub"
base_url = "http://{stub}/{name}/v1"
"""
DESK = """\
name = "{unit}"
directory = "{directory}/run"
brokers = "{brokers}"
topic_prefix = "{prefix}"
[[desks]]
name = "{desk}"
peers = {peers}
"""
# What a runbook calls `autoreply` and `systemctl`.
AUTOREPLY = """\
#!/usr/bin/env bash
exec "{program}" --config "{directory}/worker.toml" "$@"
"""
SYSTEMCTL = """\
#!/usr/bin/env bash
DRILL_DIRECTORY="{directory}" DRILL_SERVICES="{services}" exec python3 "{world}" "$@"
"""


@dataclass
class Place:
    """Where everything of a drill is."""

    world: World
    brokers: str
    ledger: str
    worker: str
    stub: str
    prometheus: str
    alertmanager: str
    receiver: int
    prefix: str = PREFIX
    runbooks: Path = ROOT / "ops" / "runbooks"

    def services(self, verb: str, name: str) -> None:
        """Does something to a server; see docs/services.md."""
        done = subprocess.run([str(SERVICES), verb, name], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"services {verb} {name} failed: {done.stderr.strip()}")

    def answered(self) -> int:
        """How many lines the fake chat applications were sent by autoreply."""
        files = (self.world.directory / "run" / "apps").glob("*.jsonl")
        return sum(file.read_text().count('"side":"own"') for file in files)

    def is_scraped(self) -> bool:
        """Whether Prometheus has figures of the worker."""
        answer = ask(f"{self.prometheus}/api/v1/query?query=autoreply_build_info")
        return bool(answer) and bool(json.loads(answer)["data"]["result"])

    def start(self, say: Callable[[str], None]) -> None:
        """Starts everything, the watchers first; writes the plan when the desks watch."""
        world, directory = self.world, self.world.directory
        for unit in ("model-stub", "alertmanager", "prometheus", "autoreply-worker", *DESKS.values()):
            world.start(unit)
        ready = directory / "run" / "ready"
        until("the desks watch their windows", 60, lambda: all((ready / unit).exists() for unit in DESKS.values()))
        messages = write_plan(directory / "run")
        say(f"Two desks, a worker, a model stub; {messages} messages will be written, {MESSAGES_A_SECOND:.0f} a second on each desk.")


def write_plan(run: Path) -> int:
    """Writes who writes when, in the format of load-tests/src/facts.rs; how many messages."""
    start_ms, lines = int(time.time() * 1000) + 1000, []
    for number in range(int(PLAN_S * MESSAGES_A_SECOND * len(DESKS))):
        desk = list(DESKS)[number % len(DESKS)]
        at_ms = start_ms + int(number / len(DESKS) / MESSAGES_A_SECOND * 1000)
        peer = f"peer-{number // len(DESKS) % PEERS:02}"
        line = {"number": number, "token": f"tok{number:08x}", "desktop": desk, "peer": peer, "at_ms": at_ms}
        lines.append(json.dumps(line))
    (run / "plan.new").write_text("\n".join(lines) + "\n")
    (run / "plan.new").rename(run / "plan.jsonl")
    return len(lines)


def addresses() -> dict[str, str]:
    """The servers' addresses, as `scripts/services env` prints them."""
    said = subprocess.run([str(SERVICES), "env"], capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^export AUTOREPLY_TEST_(\w+)=(.*)$", said, re.MULTILINE))


def script(path: Path, text: str) -> None:
    """Writes a program."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def prepare(world: World, programs: Path, factor: int) -> Place:
    """Writes all settings, makes topics and tables, and says what every unit runs."""
    directory, servers = world.directory, addresses()
    (directory / "run").mkdir(exist_ok=True)
    local = lambda: f"127.0.0.1:{free_port()}"
    place = Place(
        world=world,
        brokers=servers["KAFKA"],
        ledger=servers["POSTGRES"],
        worker=local(),
        stub=local(),
        prometheus=f"http://{local()}",
        alertmanager=f"http://{local()}",
        receiver=free_port(),
    )
    common = {
        "brokers": place.brokers,
        "ledger": place.ledger,
        "redis": servers["REDIS"],
        "prefix": PREFIX,
        "directory": directory,
        "worker": place.worker,
    }
    providers = "".join(PROVIDER.format(name=name, stub=place.stub) for name in ("main", "spare"))
    (directory / "worker.toml").write_text(WORKER.format(providers=providers, **common))
    for desk, unit in DESKS.items():
        peers = json.dumps([f"peer-{number:02}" for number in range(PEERS)])
        (directory / f"{unit}.toml").write_text(DESK.format(unit=unit, desk=desk, peers=peers, **common))
    autoreply = directory / "bin" / "autoreply"
    script(autoreply, AUTOREPLY.format(program=programs / "autoreply", directory=directory))
    world_py = HERE / "world.py"
    script(directory / "bin" / "systemctl", SYSTEMCTL.format(directory=directory, services=SERVICES, world=world_py))
    watchers(place, factor)
    define(place, programs)
    for arguments in (["topics", "apply", "--yes"], ["migrate"]):
        done = subprocess.run([str(autoreply), *arguments], capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise Failed(f"autoreply {' '.join(arguments)} failed: {done.stderr.strip()}")
    return place


def define(place: Place, programs: Path) -> None:
    """Says what every unit runs. The last argument of each occurs in no other process."""
    world, directory = place.world, place.world.directory
    world.define("model-stub", str(programs / "model-stub"), "--latency-ms", "300", "--listen", place.stub)
    listen = place.alertmanager.removeprefix("http://")
    world.define(
        "alertmanager",
        "prometheus-alertmanager",
        f"--config.file={directory}/alertmanager.yml",
        "--cluster.listen-address=",
        f"--web.listen-address={listen}",
        f"--storage.path={directory}/alertmanager",
    )
    listen = place.prometheus.removeprefix("http://")
    world.define(
        "prometheus",
        "prometheus",
        f"--config.file={directory}/prometheus/prometheus.yml",
        f"--web.listen-address={listen}",
        f"--storage.tsdb.path={directory}/prometheus/data",
    )
    program, settings = str(programs / "autoreply"), str(directory / "worker.toml")
    world.define("autoreply-worker", program, "worker", "--config", settings)
    for unit in DESKS.values():
        world.define(unit, str(programs / "sim-desks"), "--config", str(directory / f"{unit}.toml"))
    lock = "begin; lock table sagas in exclusive mode; select pg_sleep(1200) /* lunch */"
    world.define("lunch", "psql", "-q", place.ledger, "-c", lock)


def watchers(place: Place, factor: int) -> None:
    """Prometheus and Alertmanager with this project's own files: a faster time, and the addresses of this drill."""
    directory = place.world.directory
    print(f"The rules are those of {PROMETHEUS.relative_to(ROOT)}, in a time that runs {factor} times faster (faster.py):", flush=True)
    rules = directory / "prometheus" / "rules"
    done = subprocess.run([sys.executable, str(PROMETHEUS / "faster.py"), str(factor), str(rules)])
    if done.returncode != 0:
        raise Failed("the rules could not be copied (above)")
    for path in sorted(rules.glob("*.yml")):
        print(changes((PROMETHEUS / "rules" / path.name).read_text(), path.read_text()), flush=True)
    targets = directory / "prometheus" / "targets"
    targets.mkdir()
    for job, address in (("worker", [place.worker]), ("desktop", []), ("run", [])):
        (targets / f"{job}.yml").write_text(json.dumps([{"targets": address}]) + "\n")
    # As faster.py says; and where the files name ports of this machine, they are those of the drill.
    settings = directory / "prometheus" / "prometheus.yml"
    settings.write_text((PROMETHEUS / "prometheus.yml").read_text())
    replace(
        settings,
        {
            "scrape_interval: 15s": "scrape_interval: 1s",
            "scrape_timeout: 10s": "scrape_timeout: 1s",
            "evaluation_interval: 15s": "evaluation_interval: 1s",
            "127.0.0.1:9093": place.alertmanager.removeprefix("http://"),
            "127.0.0.1:9090": place.prometheus.removeprefix("http://"),
        },
    )
    settings = directory / "alertmanager.yml"
    settings.write_text((PROMETHEUS / "alertmanager.yml").read_text())
    replace(
        settings,
        {
            "group_wait: 30s": "group_wait: 2s",
            "group_wait: 10s": "group_wait: 1s",
            "group_interval: 5m": "group_interval: 10s",
            "127.0.0.1:9465": f"127.0.0.1:{place.receiver}",
        },
    )


def changes(before: str, after: str) -> str:
    """What became of the times in a file of rules, each kind of change once."""
    times = re.compile(r"(?:\[[^]]*\]|\bfor: \S+|\binterval: \S+)")
    pairs = Counter(zip(times.findall(before), times.findall(after.partition("\n")[2])))
    told = (f"{old} is {new}" for (old, new), _ in sorted(pairs.items()) if old != new)
    return "  " + ", ".join(told)


def replace(path: Path, texts: dict[str, str]) -> None:
    """Replaces texts in a file; each must be there."""
    whole = path.read_text()
    for old, new in texts.items():
        if old not in whole:
            raise Failed(f"{path.name} does not hold {old} any more; ops/drills/site_plan.py relies on it")
        whole = whole.replace(old, new)
    path.write_text(whole)
