"""Every key that the table says is honoured is shown to arrive: in the container of a running task of a real engine.

One project uses all of them. What is honoured before anything runs (merging, routes, the order of a deploy) has its
tests elsewhere and is named here, so that no key of the table is without one.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import socket
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import pytest

from hunqi.apps.compose.check import KEYS
from hunqi.apps.compose.keys import Honour
from hunqi.apps.compose.project import Project
from hunqi.apps.model import Compiled
from hunqi.apps.swarm import Target, Targets, network_body, payload_body, payload_name, swarm_service, volume_name
from support_compose import compile_folder
from testbed.images import busybox_layer
from testbed.swarm import ONE_NODE, Bed

pytestmark = [pytest.mark.real, ONE_NODE]

IMAGE = "127.0.0.1:5000/shop/busybox:1"
S = 10**9
COMPOSE = """
services:
  full:
    image: IMAGE
    container_name: fullname
    entrypoint: [/bin/sh, -c]
    command: ["sleep 600"]
    cap_add: [NET_ADMIN]
    cap_drop: [CHOWN]
    configs:
      - {source: conf, target: /etc/conf.txt, uid: "7", gid: "8", mode: 0440}
      - {source: expanded, target: /etc/expanded.txt}
    secrets: [{source: key, target: key.txt, uid: "9", gid: "10", mode: 0400}]
    cpus: 0.5
    dns: [10.255.255.1]
    dns_opt: ["ndots:3"]
    dns_search: [example.com]
    env_file: [{path: env.env, format: raw}]
    environment: {PLAIN: "a b", SLOT: "{{.Task.Slot}}", GO: "{{.Name}} {{env `PATH`}} {{", INHERITED: }
    extra_hosts: ["somehost:10.1.2.3"]
    group_add: ["1234"]
    healthcheck: {test: [CMD, "true"], interval: 2s, timeout: 3s, retries: 4, start_period: 5s, start_interval: 1s}
    hostname: host-{{.Task.Slot}}
    init: false
    label_file: labels.env
    labels: {team: shop}
    logging: {driver: json-file, options: {max-size: 1m}}
    mem_limit: 64m
    mem_reservation: 32m
    mem_swappiness: 10
    memswap_limit: 96m
    oom_score_adj: 100
    pids_limit: 50
    platform: linux/amd64
    read_only: true
    security_opt: ["label:type:some_t", "no-new-privileges:true"]
    shm_size: 8m
    stdin_open: true
    stop_grace_period: 7s
    stop_signal: SIGUSR1
    sysctls: {net.core.somaxconn: 321}
    tmpfs: ["/scratch:size=1m,mode=0700,noexec"]
    tty: true
    ulimits: {nofile: {soft: 111, hard: 222}, nproc: 333}
    user: "1000:1001"
    working_dir: /tmp
    networks: {default: {aliases: [fullalias], driver_opts: {com.example.a: b}}}
    volumes:
      - {type: volume, source: data, target: /data, volume: {nocopy: true, labels: {own: "1"}}}
      - type: bind
        source: /usr
        target: /hostusr
        read_only: true
        bind: {propagation: rprivate, recursive: disabled}
      - {type: tmpfs, target: /memory, tmpfs: {size: 2m, mode: 0711}}
    restart: on-failure:3
    deploy:
      replicas: 2
      labels: {service: label}
      placement:
        constraints: [node.role==manager]
        preferences: [{spread: node.labels.zone}]
        max_replicas_per_node: 5
  quota:
    image: IMAGE
    command: sleep 600
    cpu_period: 100000
    cpu_quota: 25000
    scale: 1
    links: ["full:linked"]
    volumes_from: ["full:ro"]
    healthcheck: {disable: true}
    deploy:
      resources: {limits: {memory: 48m, pids: 40}, reservations: {cpus: "0.01", memory: 8m}}
      restart_policy: {condition: any, delay: 2s, max_attempts: 5, window: 9s}
  limited:
    image: IMAGE
    command: sleep 600
    networks: [back]
    deploy: {mode: global, resources: {limits: {cpus: "0.2"}}}
    ports: ["20000:80"]
  host:
    image: IMAGE
    command: sleep 600
    network_mode: host
  reserved:
    image: IMAGE
    command: sleep 600
    gpus: [{count: 2, driver: acme, capabilities: [gpu]}]
    deploy:
      resources:
        reservations:
          generic_resources: [{discrete_resource_spec: {kind: FPGA, value: 3}}]
          devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]
configs:
  conf: {content: "config $$X"}
  expanded: {content: "of {{.Service.Name}}", template_driver: golang}
secrets: {key: {environment: KEY, template_driver: golang}}
volumes: {data: {driver: local, labels: {vol: "1"}, driver_opts: {type: tmpfs, device: tmpfs, o: size=3m}}}
networks:
  back: {internal: true, labels: {net: "1"}, ipam: {config: [{subnet: 10.213.7.0/24}]},
    driver_opts: {com.example.n: v, encrypted: "true"}}
""".replace("IMAGE", IMAGE)


@dataclass
class Seen:
    """What the engine has of the project."""

    api: tuple[int, ...]
    containers: dict[str, dict[str, Any]]
    services: dict[str, dict[str, Any]]
    networks: dict[str, dict[str, Any]]
    volume: dict[str, Any]
    files: dict[str, str]


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60.0)
        self.sock.connect(self.host)


class Engine:
    """The engine's API of a machine, by hand: the bodies are what is under test."""

    def __init__(self, bed: Bed) -> None:
        self.socket = bed.first.docker_url.removeprefix("unix://")

    def call(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Content-Type": "application/json", "Host": "docker"}
        with contextlib.closing(_Connection(self.socket)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read()
        assert answer.status < 400, f"{method} {path}: {answer.status} {data.decode()}"
        return json.loads(data) if data else None


@pytest.fixture(scope="module")
def seen(one_node: Bed, tmp_path_factory: pytest.TempPathFactory) -> Generator[Seen]:
    folder = tmp_path_factory.mktemp("project")
    (folder / "compose.yaml").write_text(COMPOSE)
    (folder / "env.env").write_text("FROM_FILE='raw'\n")
    (folder / "labels.env").write_text("from.file=yes\n")
    archive = folder / "rootfs.tar.gz"
    archive.write_bytes(busybox_layer().data)
    one_node.give_image(archive, IMAGE, "CMD sleep 600")
    compiled = compile_folder(
        Project(name="arrives", files={}, entry=("compose.yaml",)),
        folder,
        {"KEY": "key of {{.Service.Name}}", "INHERITED": "yes"},
    )
    engine = Engine(one_node)
    deploy(engine, compiled)
    try:
        yield look(engine, one_node, compiled)
    finally:
        one_node.clear()


def deploy(engine: Engine, compiled: Compiled) -> None:
    spec = compiled.spec
    targets = Targets(networks={}, secrets={}, configs={})
    networks, secrets, configs = {}, {}, {}
    for key, network in spec.networks.items():
        created = network.external is None
        networks[key] = (
            engine.call("POST", "/networks/create", network_body("arrives", network, cluster="c"))["Id"]
            if created
            else network.external
        )
    for kind, payloads, found in (("secret", spec.secrets, secrets), ("config", spec.configs, configs)):
        for key, payload in payloads.items():
            assert payload.digest is not None
            data = base64.b64encode(compiled.payloads[payload.digest]).decode()
            body = payload_body("arrives", payload, data, cluster="c", kind=kind)
            made = engine.call("POST", f"/{kind}s/create", body)
            found[key] = Target(id=made["ID"], name=payload_name("arrives", payload))
    targets = Targets(networks=networks, secrets=secrets, configs=configs)
    for service in spec.services.values():
        body = swarm_service(spec, service, revision=1, cluster="c", targets=targets)
        engine.call("POST", "/services/create", body)


def look(engine: Engine, bed: Bed, compiled: Compiled) -> Seen:
    wanted = {name: 1 for name in compiled.spec.services if name != "reserved"} | {"full": 2}
    deadline = time.monotonic() + 90.0
    while True:
        # A plain container on an overlay has a task too, of no service.
        tasks = [task for task in engine.call("GET", "/tasks") if task.get("ServiceID")]
        running = [task for task in tasks if task["Status"]["State"] == "running"]
        count = {name: sum(labels(task)["io.hunqi.service"] == name for task in running) for name in wanted}
        if count == wanted:
            break
        states = [
            (labels(task)["io.hunqi.service"], task["Status"]["State"], task["Status"].get("Err")) for task in tasks
        ]
        assert time.monotonic() < deadline, states
        time.sleep(0.2)
    running.sort(key=lambda task: -task.get("Slot", 0))
    ids = {labels(task)["io.hunqi.service"]: task["Status"]["ContainerStatus"]["ContainerID"] for task in running}
    volume = volume_name("arrives", compiled.spec.volumes["data"])
    cat = (
        "exec",
        "-u",
        "0",
        ids["full"],
        "cat",
        "/etc/conf.txt",
        "/run/secrets/key.txt",
        "/etc/resolv.conf",
        "/proc/mounts",
    )
    stat = (
        "exec",
        "-u",
        "0",
        ids["full"],
        "busybox",
        "stat",
        "-c",
        "%n %a %u %g",
        "/etc/conf.txt",
        "/run/secrets/key.txt",
    )
    lookup = ("exec", ids["quota"], "busybox", "nslookup")
    return Seen(
        api=tuple(int(part) for part in engine.call("GET", "/version")["ApiVersion"].split(".")),
        containers={name: engine.call("GET", f"/containers/{each}/json") for name, each in ids.items()},
        services={each["Spec"]["Labels"]["io.hunqi.service"]: each for each in engine.call("GET", "/services")},
        networks={each["Name"]: each for each in engine.call("GET", "/networks")},
        volume=engine.call("GET", f"/volumes/{volume}"),
        files={
            "cat": bed.first.docker(*cat).stdout,
            "stat": bed.first.docker(*stat).stdout,
            **{name: bed.first.docker(*lookup, name).stdout for name in ("fullname", "linked", "fullalias")},
        },
    )


def labels(task: dict[str, Any]) -> dict[str, str]:
    return task["Spec"]["ContainerSpec"]["Labels"]


Check = Callable[[Seen], bool]


def config(key: str, value: object, name: str = "full") -> Check:
    return lambda seen: seen.containers[name]["Config"][key] == value


def host(key: str, value: object, name: str = "full") -> Check:
    return lambda seen: seen.containers[name]["HostConfig"][key] == value


def env(*lines: str) -> Check:
    return lambda seen: set(lines) <= set(seen.containers["full"]["Config"]["Env"])


def label(key: str, value: str) -> Check:
    return lambda seen: seen.containers["full"]["Config"]["Labels"][key] == value


def mounted(target: str, name: str = "full", **fields: object) -> Check:
    def check(seen: Seen) -> bool:
        mount = next(each for each in seen.containers[name]["Mounts"] if each["Destination"] == target)
        return {key: mount[key] for key in fields} == fields

    return check


def options(target: str, kind: str, **fields: object) -> Check:
    def check(seen: Seen) -> bool:
        mounts = seen.containers["full"]["HostConfig"]["Mounts"]
        mount = next(each for each in mounts if each["Target"] == target)
        return {key: mount[kind].get(key) for key in fields} == fields

    return check


def file(which: str, *parts: str) -> Check:
    return lambda seen: all(part in seen.files[which] for part in parts)


def task(name: str, value: object, *path: str) -> Check:
    def check(seen: Seen) -> bool:
        found = seen.services[name]["Spec"]["TaskTemplate"]
        for key in path:
            found = found[key]
        return found == value

    return check


def resolves(name: str) -> Check:
    """A name leads to both tasks of ``full``, as another container of the app finds it."""
    return lambda seen: len(set(re.findall(r"Address(?: \d+)?: (10[\d.]+)", seen.files[name]))) == 2


def kinds(seen: Seen) -> dict[str, int]:
    found = seen.services["reserved"]["Spec"]["TaskTemplate"]["Resources"]["Reservations"]["GenericResources"]
    return {each["DiscreteResourceSpec"]["Kind"]: each["DiscreteResourceSpec"]["Value"] for each in found}


A = "services.*."
D = A + "deploy."
HEALTH: dict[str, object] = {
    "Test": ["CMD", "true"],
    "Interval": 2 * S,
    "Timeout": 3 * S,
    "Retries": 4,
    "StartPeriod": 5 * S,
}


def health(key: str) -> Check:
    return lambda seen: seen.containers["full"]["Config"]["Healthcheck"][key] == HEALTH[key]


ARRIVES: dict[str, Check] = {
    A + "cap_add": host("CapAdd", ["CAP_NET_ADMIN"]),
    A + "cap_drop": host("CapDrop", ["CAP_CHOWN"]),
    A + "command": config("Cmd", ["sleep 600"]),
    A + "entrypoint": config("Entrypoint", ["/bin/sh", "-c"]),
    A + "configs": file("cat", "config $X"),
    A + "configs.source": file("cat", "config $X"),
    A + "configs.target": file("stat", "/etc/conf.txt"),
    A + "configs.uid": file("stat", "/etc/conf.txt 440 7 8"),
    A + "configs.gid": file("stat", "/etc/conf.txt 440 7 8"),
    A + "configs.mode": file("stat", "/etc/conf.txt 440 7 8"),
    A + "secrets": file("stat", "/run/secrets/key.txt"),
    A + "secrets.source": file("stat", "/run/secrets/key.txt"),
    A + "secrets.target": file("stat", "/run/secrets/key.txt"),
    A + "secrets.uid": file("stat", "/run/secrets/key.txt 400 9 10"),
    A + "secrets.gid": file("stat", "/run/secrets/key.txt 400 9 10"),
    A + "secrets.mode": file("stat", "/run/secrets/key.txt 400 9 10"),
    A + "container_name": resolves("fullname"),
    A + "links": resolves("linked"),
    A + "cpu_period": host("NanoCpus", S // 4, "quota"),
    A + "cpu_quota": host("NanoCpus", S // 4, "quota"),
    A + "cpus": host("NanoCpus", S // 2),
    A + "dns": host("Dns", ["10.255.255.1"]),
    A + "dns_opt": host("DnsOptions", ["ndots:3"]),
    A + "dns_search": host("DnsSearch", ["example.com"]),
    A + "env_file": env("FROM_FILE='raw'"),
    A + "env_file.path": env("FROM_FILE='raw'"),
    A + "env_file.format": env("FROM_FILE='raw'"),
    A + "environment": env("PLAIN=a b", "GO={{.Name}} {{env `PATH`}} {{", "SLOT=1", "INHERITED=yes"),
    A + "extra_hosts": host("ExtraHosts", ["somehost:10.1.2.3"]),
    A + "group_add": host("GroupAdd", ["1234"]),
    A + "healthcheck": health("Test"),
    A + "healthcheck.test": health("Test"),
    A + "healthcheck.interval": health("Interval"),
    A + "healthcheck.timeout": health("Timeout"),
    A + "healthcheck.retries": health("Retries"),
    A + "healthcheck.start_period": health("StartPeriod"),
    A + "healthcheck.disable": lambda seen: seen.containers["quota"]["Config"]["Healthcheck"]["Test"] == ["NONE"],
    A + "hostname": config("Hostname", "host-1"),
    A + "image": config("Image", IMAGE),
    A + "init": host("Init", value=False),
    A + "label_file": label("from.file", "yes"),
    A + "labels": label("team", "shop"),
    A + "logging": host("LogConfig", {"Type": "json-file", "Config": {"max-size": "1m"}}),
    A + "logging.driver": host("LogConfig", {"Type": "json-file", "Config": {"max-size": "1m"}}),
    A + "logging.options": host("LogConfig", {"Type": "json-file", "Config": {"max-size": "1m"}}),
    A + "mem_limit": host("Memory", 64 * 2**20),
    A + "mem_reservation": task("full", 32 * 2**20, "Resources", "Reservations", "MemoryBytes"),
    A + "network_mode": lambda seen: list(seen.containers["host"]["NetworkSettings"]["Networks"]) == ["host"],
    A + "networks": lambda seen: list(seen.containers["limited"]["NetworkSettings"]["Networks"]) == ["arrives_back"],
    A + "networks.*.aliases": resolves("fullalias"),
    A + "networks.*.driver_opts": lambda seen: (
        seen.containers["full"]["NetworkSettings"]["Networks"]["arrives_default"]["DriverOpts"]
        == {"com.example.a": "b"}
    ),
    A + "pids_limit": host("PidsLimit", 50),
    A + "platform": task("full", [{"Architecture": "amd64", "OS": "linux"}], "Placement", "Platforms"),
    A + "read_only": host("ReadonlyRootfs", value=True),
    A + "restart": task("full", {"Condition": "on-failure", "MaxAttempts": 3}, "RestartPolicy"),
    A + "scale": lambda seen: seen.services["quota"]["Spec"]["Mode"] == {"Replicated": {"Replicas": 1}},
    A + "security_opt": lambda seen: "label=type:some_t" in seen.containers["full"]["HostConfig"]["SecurityOpt"],
    A + "shm_size": file("cat", "tmpfs /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=8192k"),
    A + "stdin_open": config("OpenStdin", value=True),
    A + "stop_grace_period": task("full", 7 * S, "ContainerSpec", "StopGracePeriod"),
    A + "stop_signal": config("StopSignal", "SIGUSR1"),
    A + "sysctls": host("Sysctls", {"net.core.somaxconn": "321"}),
    A + "tmpfs": file("cat", "/scratch tmpfs rw", "size=1024k,mode=700"),
    A + "tty": config("Tty", value=True),
    A + "ulimits": lambda seen: (
        {(each["Name"], each["Soft"], each["Hard"]) for each in seen.containers["full"]["HostConfig"]["Ulimits"]}
        == {("nofile", 111, 222), ("nproc", 333, 333)}
    ),
    A + "user": config("User", "1000:1001"),
    A + "volumes": mounted("/data", Type="volume", Name="arrives_data"),
    A + "volumes.type": mounted("/memory", Type="tmpfs"),
    A + "volumes.source": mounted("/hostusr", Type="bind", Source="/usr"),
    A + "volumes.target": mounted("/hostusr", Type="bind", Source="/usr"),
    A + "volumes.read_only": mounted("/hostusr", RW=False),
    A + "volumes.bind.propagation": mounted("/hostusr", Propagation="rprivate"),
    A + "volumes.bind.recursive": options("/hostusr", "BindOptions", NonRecursive=True),
    A + "volumes.volume.nocopy": options("/data", "VolumeOptions", NoCopy=True),
    A + "volumes.volume.labels": lambda seen: seen.volume["Labels"]["own"] == "1",
    A + "volumes.tmpfs.size": options("/memory", "TmpfsOptions", SizeBytes=2 * 2**20),
    A + "volumes.tmpfs.mode": options("/memory", "TmpfsOptions", Mode=0o711),
    A + "volumes_from": mounted("/data", "quota", Type="volume", Name="arrives_data", RW=False),
    A + "working_dir": config("WorkingDir", "/tmp"),
    A + "gpus": lambda seen: kinds(seen)["ACME-GPU"] == 2,
    A + "gpus.count": lambda seen: kinds(seen)["ACME-GPU"] == 2,
    A + "gpus.driver": lambda seen: kinds(seen)["ACME-GPU"] == 2,
    D + "mode": lambda seen: seen.services["limited"]["Spec"]["Mode"] == {"Global": {}},
    D + "endpoint_mode": lambda seen: all(
        each["Spec"]["EndpointSpec"] == {"Mode": "dnsrr"} for each in seen.services.values()
    ),
    D + "replicas": lambda seen: seen.services["full"]["Spec"]["Mode"] == {"Replicated": {"Replicas": 2}},
    D + "labels": lambda seen: seen.services["full"]["Spec"]["Labels"]["service"] == "label",
    D + "resources.limits.cpus": host("NanoCpus", S // 5, "limited"),
    D + "resources.limits.memory": host("Memory", 48 * 2**20, "quota"),
    D + "resources.limits.pids": host("PidsLimit", 40, "quota"),
    D + "resources.reservations.cpus": task("quota", S // 100, "Resources", "Reservations", "NanoCPUs"),
    D + "resources.reservations.memory": task("quota", 8 * 2**20, "Resources", "Reservations", "MemoryBytes"),
    D + "resources.reservations.generic_resources.discrete_resource_spec.kind": lambda seen: kinds(seen)["FPGA"] == 3,
    D + "resources.reservations.generic_resources.discrete_resource_spec.value": lambda seen: kinds(seen)["FPGA"] == 3,
    D + "resources.reservations.devices": lambda seen: kinds(seen)["NVIDIA-GPU"] == 1,
    D + "resources.reservations.devices.count": lambda seen: kinds(seen)["NVIDIA-GPU"] == 1,
    D + "resources.reservations.devices.driver": lambda seen: kinds(seen)["NVIDIA-GPU"] == 1,
    D + "restart_policy.condition": task("quota", "any", "RestartPolicy", "Condition"),
    D + "restart_policy.delay": task("quota", 2 * S, "RestartPolicy", "Delay"),
    D + "restart_policy.max_attempts": task("quota", 5, "RestartPolicy", "MaxAttempts"),
    D + "restart_policy.window": task("quota", 9 * S, "RestartPolicy", "Window"),
    D + "placement.constraints": task("full", ["node.role==manager"], "Placement", "Constraints"),
    D + "placement.preferences.spread": task(
        "full", [{"Spread": {"SpreadDescriptor": "node.labels.zone"}}], "Placement", "Preferences"
    ),
    D + "placement.max_replicas_per_node": task("full", 5, "Placement", "MaxReplicas"),
    "networks.*.driver": lambda seen: seen.networks["arrives_back"]["Driver"] == "overlay",
    "networks.*.driver_opts": lambda seen: (
        seen.networks["arrives_back"]["Options"].items() >= {"com.example.n": "v", "encrypted": ""}.items()
    ),
    "networks.*.internal": lambda seen: seen.networks["arrives_back"]["Internal"] is True,
    "networks.*.attachable": lambda seen: seen.networks["arrives_back"]["Attachable"] is True,
    "networks.*.labels": lambda seen: seen.networks["arrives_back"]["Labels"]["net"] == "1",
    "networks.*.ipam.config.subnet": lambda seen: (
        seen.networks["arrives_back"]["IPAM"]["Config"][0]["Subnet"] == "10.213.7.0/24"
    ),
    "networks.*.enable_ipv4": lambda seen: seen.networks["arrives_back"]["EnableIPv6"] is False,
    "volumes.*.driver": lambda seen: seen.volume["Driver"] == "local",
    "volumes.*.driver_opts": lambda seen: (
        seen.volume["Options"] == {"type": "tmpfs", "device": "tmpfs", "o": "size=3m"}
    ),
    "volumes.*.labels": lambda seen: seen.volume["Labels"]["vol"] == "1",
    "volumes.*.name": lambda seen: seen.volume["Name"] == "arrives_data",
    "secrets.*.environment": file("stat", "/run/secrets/key.txt"),
    "configs.*.content": file("cat", "config $X"),
    "configs.*.template_driver": file("cat", "of arrives_full-r1"),
    "secrets.*.template_driver": file("cat", "key of arrives_full-r1"),
}
NEWER: dict[str, tuple[tuple[int, int], Check]] = {
    A + "healthcheck.start_interval": (
        (1, 44),
        lambda seen: seen.containers["full"]["Config"]["Healthcheck"].get("StartInterval") == S,
    ),
    A + "oom_score_adj": ((1, 46), host("OomScoreAdj", 100)),
    A + "mem_swappiness": ((1, 52), host("MemorySwappiness", 10)),
    A + "memswap_limit": ((1, 52), host("MemorySwap", 96 * 2**20)),
}
"""Honoured by newer engines; what is here leaves them out, as the notes say."""
BEFORE = {
    # read before anything runs: the corpus and the tests of loading, merging and routes
    *(A + key for key in ("build", "deploy", "expose", "extends", "extends.service", "extends.file", "pull_policy")),
    *(A + key for key in ("profiles", "x-hunqi", "env_file.required", "gpus.capabilities")),
    *(A + "depends_on" + key for key in ("", ".*.condition", ".*.restart", ".*.required")),
    *(A + "ports" + key for key in ("", ".name", ".mode", ".host_ip", ".target", ".published", ".protocol")),
    *(A + "ulimits.*." + key for key in ("soft", "hard")),  # with ulimits
    D + "update_config.parallelism",
    D + "update_config.order",
    D + "resources.reservations.devices.capabilities",
    *("version", "name", "include", "include.path", "include.project_directory", "include.env_file"),
    A + "volumes.volume.subpath",  # the corpus: it needs a volume that has the path, and Docker 26
    *("services", "networks", "volumes", "secrets", "configs", "x-hunqi"),
    *("networks.*.name", "networks.*.external", "volumes.*.external"),
    *(f"{kind}.*.{key}" for kind in ("secrets", "configs") for key in ("name", "external", "file")),
    "configs.*.environment",
}


def test_no_key_that_is_honoured_is_without_a_test() -> None:
    honoured = {key.path for key in KEYS if key.honour not in {Honour.IGNORED, Honour.REFUSED}}

    assert honoured == ARRIVES.keys() | NEWER.keys() | BEFORE
    assert not (ARRIVES.keys() & BEFORE)


@pytest.mark.parametrize("key", sorted(ARRIVES))
def test_a_key_arrives_in_the_running_task(key: str, seen: Seen) -> None:
    assert ARRIVES[key](seen), json.dumps(seen.containers["full"], indent=1)


@pytest.mark.parametrize("key", sorted(NEWER))
def test_a_key_of_newer_engines_arrives_there(key: str, seen: Seen) -> None:
    since, check = NEWER[key]

    assert check(seen) is (seen.api >= since)


def test_the_host_has_no_port_of_ours_open(seen: Seen) -> None:
    for service in seen.services.values():
        assert not service["Endpoint"].get("Ports")
        assert not service["Endpoint"].get("VirtualIPs")
