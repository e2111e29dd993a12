"""Checks what no schema knows: that manifests fit each other, and that they fit the program that they run.

    manifests.py WORKERS.yaml [JOBS.yaml]      as kustomize has built them
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import facts
from ruamel.yaml import YAML

Object = dict[str, Any]
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|API_?KEY", re.IGNORECASE)


@dataclass
class Manifests:
    """All objects of one build."""

    objects: list[Object]
    faults: list[str] = field(default_factory=list)

    def of(self, *kinds: str) -> Iterator[Object]:
        """The objects of these kinds."""
        return (each for each in self.objects if each["kind"] in kinds)

    def pods(self) -> Iterator[tuple[Object, Object]]:
        """Each workload with its pod."""
        return ((each, each["spec"]["template"]) for each in self.of("Deployment", "Job"))

    def expect(self, holds: bool, whose: Object, sentence: str) -> None:
        """Keeps the sentence if it does not hold."""
        if not holds:
            self.faults.append(f"{whose['kind']} {whose['metadata']['name']}: {sentence}")


def selects(selector: Object, labels: Object) -> bool:
    """Whether a selector by labels takes what has these."""
    wanted = selector.get("matchLabels", {})
    return bool(wanted) and wanted.items() <= labels.items()


def selectors(all_of: Manifests) -> None:
    """Every selector takes something."""
    pods = [pod["metadata"]["labels"] for _, pod in all_of.pods()]
    for each in all_of.of("Deployment"):
        labels = each["spec"]["template"]["metadata"]["labels"]
        all_of.expect(selects(each["spec"]["selector"], labels), each, "its selector does not take its own pods")
        for spread in each["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
            all_of.expect(selects(spread["labelSelector"], labels), each, "it spreads other pods than its own")
    for each in all_of.of("PodDisruptionBudget"):
        all_of.expect(any(selects(each["spec"]["selector"], pod) for pod in pods), each, "it protects no pod")
    for each in all_of.of("NetworkPolicy"):
        taken = [selects(each["spec"]["podSelector"], pod) for pod in pods]
        all_of.expect(bool(taken) and all(taken), each, "a pod is left out of it")
    services = list(all_of.of("Service"))
    for each in services:
        all_of.expect(any(selects({"matchLabels": each["spec"]["selector"]}, pod) for pod in pods), each, "it names no pod")
    for each in all_of.of("ServiceMonitor"):
        names = {port["name"] for service in services if selects(each["spec"]["selector"], service["metadata"]["labels"])
                 for port in service["spec"]["ports"]}
        for endpoint in each["spec"]["endpoints"]:
            all_of.expect(endpoint["port"] in names, each, f"no service that it takes has a port {endpoint['port']}")
            all_of.expect(endpoint["path"] in facts.routes(), each, f"the program serves no {endpoint['path']}")
            jobs = [rule.get("replacement") for rule in endpoint["relabelings"] if rule.get("targetLabel") == "job"]
            all_of.expect(jobs == ["autoreply-worker"], each, "rules and dashboards want the job autoreply-worker")


def hardened(all_of: Manifests) -> None:
    """Pods have no rights that they do not need, and limits."""
    for owner, pod in all_of.pods():
        spec, context = pod["spec"], pod["spec"].get("securityContext", {})
        expect = all_of.expect
        expect(context.get("runAsNonRoot") is True, owner, "it may run as root")
        expect(context.get("runAsUser") == facts.image_user(), owner, f"its user is not the image's, {facts.image_user()}")
        expect(context.get("fsGroup") == context.get("runAsGroup"), owner, "its group does not own its volumes")
        expect(context.get("seccompProfile", {}).get("type") == "RuntimeDefault", owner, "it has no seccomp profile")
        expect(spec.get("automountServiceAccountToken") is False, owner, "it gets a token of Kubernetes")
        expect(spec.get("enableServiceLinks") is False, owner, "it gets variables made of services' names")
        for container in spec["containers"]:
            own = container.get("securityContext", {})
            expect(own.get("allowPrivilegeEscalation") is False, owner, "it may gain rights")
            expect(own.get("readOnlyRootFilesystem") is True, owner, "its file system can be written")
            expect(own.get("capabilities", {}).get("drop") == ["ALL"], owner, "it keeps capabilities")
            resources = container.get("resources", {})
            expect("memory" in resources.get("limits", {}), owner, "nothing limits its memory")
            expect({"cpu", "memory"} <= resources.get("requests", {}).keys(), owner, "it asks for no cores or no memory")
            tag = container["image"].rpartition("/")[2].partition(":")[2]
            expect(tag not in ("", "latest"), owner, f"its image {container['image']} has no tag of its own")


def settings_of(all_of: Manifests, owner: Object, pod: Object) -> facts.Table:
    """The settings file that a pod's --config names, and what its environment says."""
    container = pod["spec"]["containers"][0]
    arguments = container.get("args", [])
    path = arguments[arguments.index("--config") + 1] if "--config" in arguments else ""
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    maps = {each["metadata"]["name"]: each["data"] for each in all_of.of("ConfigMap")}
    for mount in container["volumeMounts"]:
        volume = volumes.get(mount["name"])
        all_of.expect(volume is not None, owner, f"it mounts {mount['name']}, which is no volume")
        data = maps.get((volume or {}).get("configMap", {}).get("name", ""))
        if volume and "configMap" in volume:
            all_of.expect(data is not None, owner, f"there is no ConfigMap {volume['configMap']['name']}")
        directory, _, name = path.rpartition("/")
        if data and mount["mountPath"] == directory:
            all_of.expect(name in data, owner, f"the ConfigMap has no {name}")
            return tomllib.loads(data.get(name, ""))
    all_of.expect(False, owner, "no ConfigMap holds the file that its --config names")
    return {}


def secrets(all_of: Manifests, owner: Object, pod: Object, settings: facts.Table) -> None:
    """Secrets are references: the files that the settings name are those that are mounted."""
    container = pod["spec"]["containers"][0]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    there = {
        f"{mounts[volume['name']]}/{item['path']}"
        for volume in pod["spec"]["volumes"] if "projected" in volume
        for source in volume["projected"]["sources"] for item in source["secret"]["items"]
    }
    flat = [value for table in settings.values() for value in table.values()]
    flat += [value for provider in settings.get("generation", {}).get("providers", {}).values() for value in provider.values()]
    named = {value for value in flat if isinstance(value, str) and value.startswith("/run/secrets/")}
    for path in sorted(named - there):
        all_of.expect(False, owner, f"its settings name {path}, which no secret is mounted as")
    for path in sorted(there - named):
        all_of.expect(False, owner, f"a secret is mounted as {path}, which no setting names")
    for variable in container.get("env", []):
        plain = "value" in variable and SECRET_NAME.search(variable["name"]) and not variable["name"].endswith(("_ENV", "_FILE"))
        all_of.expect(not plain, owner, f"{variable['name']} holds a secret in plain text")


def programs(all_of: Manifests) -> None:
    """What is run exists, with settings that exist, and has the time and the places that it needs."""
    for owner, pod in all_of.pods():
        settings, container = settings_of(all_of, owner, pod), pod["spec"]["containers"][0]
        environment = {each["name"]: each.get("value", "") for each in container.get("env", [])}
        for fault in facts.unknown_settings(settings, environment):
            all_of.expect(False, owner, fault)
        secrets(all_of, owner, pod, settings)
        if owner["kind"] == "Deployment":
            worker(all_of, owner, pod, facts.merged(settings, environment))


def worker(all_of: Manifests, owner: Object, pod: Object, settings: facts.Table) -> None:
    """What is true of workers only."""
    container, spec = pod["spec"]["containers"][0], pod["spec"]
    needed, given = facts.seconds_to_stop(settings), spec.get("terminationGracePeriodSeconds", 30)
    all_of.expect(given > needed, owner, f"it is ended after {given} s, and a stop may take {needed:.0f} s")
    port = int(settings["control"]["listen"].rpartition(":")[2] or 0)
    ports = {each["name"]: each["containerPort"] for each in container.get("ports", [])}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container.get(probe, {}).get("httpGet", {})
        all_of.expect(asked.get("path") in facts.routes(), owner, f"{probe} asks for {asked.get('path')}, which is not served")
        all_of.expect(ports.get(asked.get("port")) == port, owner, f"{probe} asks another port than control.listen, {port}")
    alive = container.get("livenessProbe", {}).get("httpGet", {}).get("path")
    all_of.expect(alive == "/healthz", owner, "a ledger that is away would restart it: liveness is /healthz")
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    for variable, path in facts.image_directories().items():
        all_of.expect(path in writable, owner, f"it writes to {path} ({variable} of the image), where nothing is mounted")
    strategy = owner["spec"].get("strategy", {}).get("rollingUpdate", {})
    all_of.expect(strategy.get("maxUnavailable") in (0, "0%"), owner, "an update takes workers away before new ones are ready")
    for each in all_of.of("ScaledObject"):
        if each["spec"]["scaleTargetRef"]["name"] == owner["metadata"]["name"]:
            all_of.expect("replicas" not in owner["spec"], owner, "KEDA decides how many, and every apply would set it back")
            scaled(all_of, each, settings)


def scaled(all_of: Manifests, scaler: Object, settings: facts.Table) -> None:
    """The autoscaler's bounds are the partitions', and it looks at what the workers read."""
    spec, stream = scaler["spec"], settings["stream"]
    read, seen = facts.topics_read_by("worker"), []
    secured = stream["security_protocol"]
    for trigger in spec["triggers"]:
        metadata = trigger["metadata"]
        prefix, _, name = metadata["topic"].rpartition(".")
        all_of.expect(prefix == stream["topic_prefix"], scaler, f"{metadata['topic']} lacks the stream.topic_prefix")
        all_of.expect(f"autoreply.{name}" in read, scaler, f"workers do not read {metadata['topic']}")
        all_of.expect(metadata["consumerGroup"] == stream["worker_group"], scaler, "its group is not stream.worker_group")
        all_of.expect(metadata["bootstrapServers"] == stream["brokers"], scaler, "its brokers are not stream.brokers")
        all_of.expect((metadata.get("tls") == "enable") == secured.endswith("ssl"), scaler, f"its TLS is not that of {secured}")
        known = {each["metadata"]["name"] for each in all_of.of("TriggerAuthentication")}
        reference = trigger.get("authenticationRef", {}).get("name")
        all_of.expect(reference is None or reference in known, scaler, f"there is no TriggerAuthentication {reference}")
        if f"autoreply.{name}" in read:
            seen.append(facts.topic(name)["partitions"])
    all_of.expect({"messages", "outcomes"} <= {each["metadata"]["topic"].rpartition(".")[2] for each in spec["triggers"]},
                  scaler, "it does not look at messages and outcomes")
    most = spec.get("maxReplicaCount")
    all_of.expect(bool(seen) and most == min(seen), scaler, f"maxReplicaCount is {most}; the partitions are {seen}")
    all_of.expect(spec.get("minReplicaCount", 0) >= 2, scaler, "fewer than two workers: nobody takes over from one that dies")


def check(path: str) -> list[str]:
    """The faults of one build, as sentences."""
    with open(path, encoding="utf-8") as file:
        objects = [each for each in YAML(typ="safe").load_all(file) if each]
    all_of = Manifests(objects)
    for each in all_of.of("Secret"):
        all_of.expect(False, each, "secrets are made elsewhere and only named here")
    all_of.expect(bool(list(all_of.pods())), {"kind": "the build", "metadata": {"name": path}}, "it has no workload")
    selectors(all_of)
    hardened(all_of)
    programs(all_of)
    return all_of.faults


def main() -> int:
    """1 if a file has faults."""
    failed = 0
    for path in sys.argv[1:]:
        try:
            faults = check(path)
        except facts.Missing as missing:
            faults = [str(missing)]
        for fault in faults:
            print(f"{path}: {fault}.", file=sys.stderr)
        failed |= bool(faults)
        if not faults:
            print(f"{path}: its parts fit each other, the settings, the topics and the times of the program.")
    return failed


if __name__ == "__main__":
    sys.exit(main())
