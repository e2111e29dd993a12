"""Runs what the manifests say as a container engine would, as far as Linux alone can: scripts/rehearse-pod calls it.

    rehearsal.py PROGRAM JOBS.yaml WORKERS.yaml

Each container gets a root of its own that is read-only, with the mounts, arguments, variables, user and group of its pod, no
capability, no new privileges, and is process 1 of a process namespace. Not a container: the libraries are this machine's, and
the network is too. The servers are those of AUTOREPLY_TEST_KAFKA, _POSTGRES and _REDIS, spoken to in plain.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import facts
from ruamel.yaml import YAML

Object = dict[str, Any]

# Makes the root of $ROOT, in a mount namespace of its own, and becomes the program in it.
ENTER = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$ROOT"
mkdir -p "$ROOT"/usr "$ROOT"/proc "$ROOT"/dev "$ROOT"/etc/ssl "$ROOT"/opt
mount --rbind -o ro /usr "$ROOT/usr"
for name in bin sbin lib lib64; do ln -s "usr/$name" "$ROOT/$name"; done
mount --bind -o ro /etc/ssl "$ROOT/etc/ssl"
cp /etc/hosts /etc/hostname /etc/nsswitch.conf "$ROOT/etc/"
mount -t proc proc "$ROOT/proc"
for name in null zero urandom random; do : >"$ROOT/dev/$name"; mount --bind "/dev/$name" "$ROOT/dev/$name"; done
cp "$PROGRAM" "$ROOT/opt/autoreply"
eval "$MOUNTS"
mount -o remount,ro "$ROOT"
exec chroot "$ROOT" setpriv --reuid "$USER_ID" --regid "$GROUP_ID" --groups "$GROUP_ID" --no-new-privs \
    --bounding-set=-all --inh-caps=-all --ambient-caps=-all env -i $VARIABLES /opt/autoreply "$@"
"""


def plain() -> dict[str, str]:
    """Settings that lead to this machine's servers, without TLS and passwords of servers that have none."""
    postgres = os.environ["AUTOREPLY_TEST_POSTGRES"]
    return {
        "AUTOREPLY__STREAM__BROKERS": os.environ["AUTOREPLY_TEST_KAFKA"],
        "AUTOREPLY__STREAM__SECURITY_PROTOCOL": "plaintext",
        "AUTOREPLY__STREAM__CA_FILE": "",
        "AUTOREPLY__STREAM__SASL_USERNAME": "",
        "AUTOREPLY__STREAM__SASL_PASSWORD_FILE": "",
        "AUTOREPLY__LEDGER__URL": postgres,
        "AUTOREPLY__LEDGER__TLS": "disable",
        "AUTOREPLY__LIMITS__REDIS_URL": os.environ["AUTOREPLY_TEST_REDIS"],
        "AUTOREPLY__LIMITS__REDIS_PASSWORD_FILE": "",
        "AUTOREPLY__LIMITS__REDIS_CA_FILE": "",
    }


def mounts(pod: Object, maps: dict[str, Object], scratch: Path) -> str:
    """Shell lines that mount the pod's volumes below $ROOT as the kubelet would: who owns them, and what may be written."""
    spec = pod["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    group, lines = spec["securityContext"]["fsGroup"], []
    for mount in spec["containers"][0]["volumeMounts"]:
        volume, place = volumes[mount["name"]], f'"$ROOT"{shlex.quote(mount["mountPath"])}'
        lines.append(f"mkdir -p {place}")
        if "emptyDir" in volume:
            lines.append(f"mount -t tmpfs -o mode=2777,gid={group},size=16m tmpfs {place}")
            continue
        source = scratch / mount["name"]
        source.mkdir(exist_ok=True)
        if "configMap" in volume:
            for name, text in maps[volume["configMap"]["name"]].items():
                (source / name).write_text(text, encoding="utf-8")
        else:
            for item in [item for each in volume["projected"]["sources"] for item in each["secret"]["items"]]:
                secret = source / item["path"]
                secret.write_text("a-secret\n", encoding="utf-8")
                secret.chmod(volume["projected"]["defaultMode"])
                os.chown(secret, 0, group)
        lines.append(f"mount --bind {shlex.quote(str(source))} {place}; mount -o remount,bind,ro {place}")
    return "\n".join(lines)


def start(program: str, pod: Object, maps: dict[str, Object], scratch: Path) -> subprocess.Popen[bytes]:
    """Starts the pod's container."""
    spec = pod["spec"]
    container, context = spec["containers"][0], spec["securityContext"]
    variables = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **facts.image_directories()}
    variables |= {each["name"]: each["value"] for each in container.get("env", [])} | plain()
    (scratch / "root").mkdir(exist_ok=True)
    environment = os.environ | {
        "ROOT": str(scratch / "root"), "PROGRAM": program, "MOUNTS": mounts(pod, maps, scratch),
        "USER_ID": str(context["runAsUser"]), "GROUP_ID": str(context["runAsGroup"]),
        "VARIABLES": " ".join(f"{name}={value}" for name, value in variables.items()),
    }
    enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", ENTER, "pod", *container["args"]]
    return subprocess.Popen(enter, env=environment)


def ask(port: int, path: str) -> int:
    """The status of an answer; 0 if there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def job(program: str, owner: Object, maps: dict[str, Object]) -> str | None:
    """Runs a job to its end; what is wrong, if anything."""
    with tempfile.TemporaryDirectory() as scratch:
        ended = start(program, owner["spec"]["template"], maps, Path(scratch)).wait(timeout=120)
    name = owner["metadata"]["name"]
    print(f"{name}: ended with {ended}.", flush=True)
    return None if ended == 0 else f"{name} ended with {ended}"


def worker(program: str, owner: Object, maps: dict[str, Object]) -> list[str]:
    """Runs a worker: waits until it is ready, asks what probes and the image's health check ask, and ends it."""
    pod, faults = owner["spec"]["template"], []
    container = pod["spec"]["containers"][0]
    port = container["ports"][0]["containerPort"]
    if ask(port, "/healthz"):
        return [f"something serves port {port} already; end it first"]
    with tempfile.TemporaryDirectory() as scratch:
        process = start(program, pod, maps, Path(scratch))
        probe = container["startupProbe"]
        began, patience = time.monotonic(), probe["failureThreshold"] * probe["periodSeconds"]
        while ask(port, probe["httpGet"]["path"]) != 200 and process.poll() is None and time.monotonic() - began < patience:
            time.sleep(0.1)
        print(f"worker: alive after {time.monotonic() - began:.1f} s.", flush=True)
        for name in ("livenessProbe", "readinessProbe"):
            status = ask(port, container[name]["httpGet"]["path"])
            faults += [] if status == 200 else [f"{name} was answered with {status}"]
        health = re.search(r'CMD \["bash", "-c", "(.*)"\]$', facts.text("Dockerfile"), re.MULTILINE)
        command = health.group(1).replace("\\\\", "\\") if health else "false"
        if subprocess.run(["bash", "-c", command], check=False).returncode != 0:
            faults.append("the image's health check fails")
        if process.poll() is None:
            inside = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()[0]
            is_ = dict(re.findall(r"^(\w+):\s+(.*)$", Path(f"/proc/{inside}/status").read_text("ascii"), re.MULTILINE))
            print(f"worker: user {is_['Uid'].split()[0]}, effective capabilities {is_['CapEff']}, no new privileges "
                  f"{is_['NoNewPrivs']}, process {is_['NSpid'].split()[-1]} of its namespace.", flush=True)
            began = time.monotonic()
            os.kill(int(inside), signal.SIGTERM)
            given = pod["spec"]["terminationGracePeriodSeconds"]
            try:
                ended = process.wait(timeout=given)
                print(f"worker: ended with {ended}, {time.monotonic() - began:.1f} s after SIGTERM.", flush=True)
                faults += [] if ended == 0 else [f"the worker ended with {ended}"]
            except subprocess.TimeoutExpired:
                process.kill()
                faults.append(f"the worker did not end within {given} s")
        else:
            faults.append(f"the worker ended by itself with {process.returncode}")
    return faults


def main() -> int:
    """1 if something did not go as the manifests say."""
    program, faults = sys.argv[1], []
    objects = [each for path in sys.argv[2:] for each in YAML(typ="safe").load_all(Path(path).read_text("utf-8")) if each]
    maps = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
    # In the order of docs/deploying.md.
    for name in ("autoreply-topics", "autoreply-migrate"):
        faults += [fault for each in objects if each["metadata"]["name"] == name if (fault := job(program, each, maps))]
    for each in objects:
        if each["kind"] == "Deployment" and not faults:
            faults += worker(program, each, maps)
    for fault in faults:
        print(f"rehearsal: {fault}.", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
