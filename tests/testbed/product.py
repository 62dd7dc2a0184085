"""The platform on the machines of a bed, driven as a user does: the command line on each machine, and the API.

    with swarm(3, joined=0) as bed, platform(bed, tmp_path) as product:     # up on the first, joined by the others
        product.deploy("shop", shop())
        with load(Load(targets=product.gateways, host="shop.test", rate=300)) as running:
            product.scale("shop", web=5)

The tested app (``testbed.app``) lies as ``bench/app:1`` in a registry on the host, which the accelerators have for
docker.io, so that images come as they do from anywhere.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from testbed import app, images
from testbed.machine import Machine
from testbed.processes import command_line, descendants, resident_bytes
from testbed.programs import Daemon, ProcessFailedError, free_port
from testbed.swarm import Bed

IMAGE: Final = "bench/app:1"
OTHER_IMAGE: Final = "bench/app:2"
_CONTROL_PORT: Final = 7000
_PASSWORD: Final = "correct horse battery staple"
_CALL_S: Final = 60.0
_DEPLOY_S: Final = 180.0
_LOOK_S: Final = 0.1
_DOCKERS_OWN: Final = ("dockerd", "containerd", "docker-", "runc")


class ApiError(Exception):
    """The API answered with a problem."""

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{method} {path}: {status} {body[:2000]}")
        self.status = status
        self.body = body


@dataclass(slots=True, kw_only=True)
class Api:
    """The REST interface of one control."""

    host: str
    port: int = _CONTROL_PORT
    token: str = field(default="", repr=False)

    def call(self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None) -> Any:
        """Return the parsed answer, None of an empty one. Raises :class:`ApiError`, ``OSError``."""
        return self.exchange(method, path, body, headers=headers)[0]

    def exchange(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> tuple[Any, Mapping[str, str]]:
        """Return the parsed answer and its headers."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_CALL_S)
        sent = {"Content-Type": "application/json", **(headers or {})}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body), headers=sent)
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status >= 400:
                raise ApiError(method, path, answer.status, text)
            return (json.loads(text) if text.startswith(("{", "[")) else None), dict(answer.headers.items())
        finally:
            connection.close()

    def set_up(self, setup_token: str) -> None:
        """Make the first user, log in, and take a token for all further calls."""
        self.call("POST", "/v1/setup", {"token": setup_token, "name": "ada", "password": _PASSWORD})
        found, headers = self.exchange("POST", "/v1/login", {"name": "ada", "password": _PASSWORD})
        session = {"Cookie": headers["set-cookie"].partition(";")[0], "X-CSRF-Token": found["csrf"]}
        made = self.call("POST", "/v1/tokens", {"name": "bench", "scopes": ["admin"], "days": 1}, headers=session)
        self.token = made["secret"]


class Node:
    """Hunqi on one machine."""

    def __init__(self, machine: Machine, *, env: Mapping[str, str]) -> None:
        self.machine = machine
        self.data = machine.directory / "hunqi"
        self._env = dict(env)

    def hunqi(self, *args: str, timeout_s: float = 120.0, check: bool = True) -> str:
        """Run ``hunqi ARGS --data DIR`` on the machine and return what it printed."""
        command = [sys.executable, "-m", "hunqi", *args, "--data", str(self.data)]
        return self.machine.run(*command, timeout_s=timeout_s, check=check, env=self._env).stdout

    def up(self, *more: str) -> str | None:
        """``hunqi up``, the API reachable from the host; return the setup token, if it was made now."""
        own = self.machine.address
        given = ("--docker", str(self.machine.socket), "--advertise", own, "--control", f"{own}:{_CONTROL_PORT}")
        return json.loads(self.hunqi("up", *given, *more, "--json")).get("setup_token")

    def join(self, token: str) -> None:
        """``hunqi join TOKEN``."""
        self.hunqi("join", token, "--docker", str(self.machine.socket), "--advertise", self.machine.address)

    def recover(self, *, timeout_s: float) -> None:
        """``hunqi recover``, the API reachable from the host."""
        self.hunqi("recover", "--control", f"{self.machine.address}:{_CONTROL_PORT}", timeout_s=timeout_s)

    def child(self, name: str) -> int:
        """Return the pid of the supervisor's child: mirror, control or agent. Raises ``LookupError``."""
        status = json.loads((self.data / "run" / "status.json").read_text())
        pid = next((each.get("pid") for each in status["children"] if each["name"] == name), None)
        if not pid:
            raise LookupError(f"{name} does not run on {self.machine.hostname}")
        return int(pid)

    def names(self) -> dict[int, str]:
        """Return what each process that Hunqi runs here is: supervisor, mirror, control, agent, or its program."""
        found = {pid: Path(line.split(maxsplit=1)[0]).name for pid, line in self.own_pids().items()}
        for name in ("mirror", "control", "agent"):
            with contextlib.suppress(LookupError):
                child = self.child(name)
                found.update(dict.fromkeys({child, *descendants(child)} & found.keys(), name))
        return {pid: "supervisor" if name.startswith("python") else name for pid, name in found.items()}

    def own_pids(self) -> dict[int, str]:
        """Return the processes that Hunqi runs here, containers of its own included, with their command lines."""
        lines = {pid: command_line(pid) for pid in self.machine.pids()}
        return {pid: line for pid, line in lines.items() if line and not _is_foreign(line)}

    def weight_bytes(self) -> int:
        """Return the memory of all of them, shared pages once."""
        return resident_bytes(list(self.own_pids()))

    def envoy_pids(self) -> list[int]:
        """Return the pids of the gateway's Envoy processes."""
        return [pid for pid, line in self.own_pids().items() if Path(line.split(maxsplit=1)[0]).name == "envoy"]


def _is_foreign(line: str) -> bool:
    first = Path(line.split(maxsplit=1)[0]).name
    return first.startswith(_DOCKERS_OWN) or line.startswith(("/app", "sleep infinity")) or "load_worker" in line


class Product:
    """A platform of one or more machines; the first has control."""

    def __init__(self, bed: Bed, nodes: Sequence[Node], api: Api) -> None:
        self.bed = bed
        self.nodes = list(nodes)
        self.api = api

    @property
    def first(self) -> Node:
        """Where control runs."""
        return self.nodes[0]

    @property
    def gateways(self) -> tuple[tuple[str, int], ...]:
        """Where each machine's gateway serves HTTP."""
        return tuple((node.machine.address, 80) for node in self.nodes)

    def join(self, node: Node, *, role: str = "manager") -> None:
        """Have a machine join."""
        made = self.api.call("POST", "/v1/join-tokens", {"role": role})
        node.join(made["text"])
        self.nodes.append(node)

    def deploy(self, name: str, compose: str, *, timeout_s: float = _DEPLOY_S) -> dict[str, Any]:
        """Deploy a Compose file and wait for its end; raise :class:`ProcessFailedError` unless it succeeds."""
        return self.await_deploy(name, self.begin_deploy(name, compose), timeout_s=timeout_s)

    def begin_deploy(self, name: str, compose: str) -> dict[str, Any]:
        """Begin to deploy a Compose file."""
        body = {"files": {"compose.yaml": compose}, "entry": ["compose.yaml"], "reason": "bench"}
        return self.api.call("POST", f"/v1/apps/{name}/deploys", body)

    def roll_back(self, name: str, revision: int, *, timeout_s: float = _DEPLOY_S) -> dict[str, Any]:
        """Go back to a revision and wait for the end."""
        begun = self.api.call("POST", f"/v1/apps/{name}/rollback", {"revision": revision})
        return self.await_deploy(name, begun, timeout_s=timeout_s)

    def await_deploy(self, name: str, deploy: Mapping[str, Any], *, timeout_s: float = _DEPLOY_S) -> dict[str, Any]:
        """Wait for the end of a deploy; raise :class:`ProcessFailedError` unless it succeeded."""
        found: dict[str, Any] = {}

        def ended() -> bool:
            found.update(self.api.call("GET", f"/v1/apps/{name}/deploys/{deploy['id']}"))
            return found["state"] in {"succeeded", "failed", "cancelled", "superseded"}

        eventually(ended, timeout_s=timeout_s, what=lambda: f"the end of a deploy of {name}: {found}")
        if found["state"] != "succeeded":
            raise ProcessFailedError(f"the deploy of {name} ended wrongly: {json.dumps(found, indent=1)}")
        return found

    def scale(self, name: str, *, timeout_s: float = _DEPLOY_S, **replicas: int) -> None:
        """Set replicas and wait until so many tasks run, all healthy in the gateways, and none is left over."""
        self.api.call("POST", f"/v1/apps/{name}/scale", {"replicas": replicas})
        self.await_tasks(name, replicas, timeout_s=timeout_s)

    def await_tasks(self, name: str, replicas: Mapping[str, int], *, timeout_s: float = _DEPLOY_S) -> None:
        """Wait until services have so many running tasks, healthy where they are routed to, and no others."""
        seen: dict[str, Any] = {}

        def settled() -> bool:
            for service, wanted in replicas.items():
                running = [task for task in self.tasks(name, service) if task["state"] == "running"]
                seen[service] = [(task["id"][:6], task["desired"], task["healthy"]) for task in running]
                good = [task for task in running if task["desired"] == "running" and task["healthy"] is not False]
                if len(good) != wanted or len(running) != wanted:
                    return False
            return True

        eventually(settled, timeout_s=timeout_s, what=lambda: f"tasks of {name} to be {replicas}: {seen}")

    def tasks(self, name: str, service: str) -> list[dict[str, Any]]:
        """Return the tasks of a service, as the API shows them."""
        found = self.api.call("GET", f"/v1/apps/{name}/tasks?limit=200")
        return [task for task in found["items"] if task["service"] == service]

    def remove(self, name: str, *, timeout_s: float = _DEPLOY_S) -> None:
        """Remove an app and wait until it is gone."""
        self.api.call("DELETE", f"/v1/apps/{name}?volumes=true")

        shown: dict[str, Any] = {}

        def gone() -> bool:
            try:
                shown.update(self.api.call("GET", f"/v1/apps/{name}"))
            except ApiError as error:
                if error.status != 404:
                    raise
                return True
            return False

        eventually(gone, timeout_s=timeout_s, what=lambda: f"the end of {name} ({shown.get('sentence')})")


def eventually(condition: Callable[[], bool], *, timeout_s: float, what: Callable[[], str]) -> float:
    """Wait until ``condition()``; return the seconds it took, raise :class:`TimeoutError` that says ``what``."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > timeout_s:
            raise TimeoutError(f"{what()}: not within {timeout_s} s")
        time.sleep(_LOOK_S)
    return time.monotonic() - begun


def shop(
    *,
    host: str = "shop.test",
    replicas: int = 3,
    env: Mapping[str, str] | None = None,
    drain: str = "15s",
    grace: str = "10s",
    image: str = IMAGE,
    more: str = "",
) -> str:
    """Return a Compose file of one HTTP service ``web`` with a route; ``more`` are further lines of it, indented by 4.

    Its tasks call themselves ``TASK@NODE``.
    """
    wanted = {"TASK": "{{.Task.Name}}@{{.Node.Hostname}}", "NODE": "{{.Node.Hostname}}", **(env or {})}
    lines = "".join(f"      {name}: {json.dumps(value)}\n" for name, value in wanted.items())
    return (
        f"services:\n  web:\n    image: {image}\n    environment:\n{lines}"
        f"    deploy:\n      replicas: {replicas}\n"
        '    healthcheck:\n      test: ["CMD", "/app", "check"]\n'
        "      interval: 1s\n      timeout: 2s\n      retries: 3\n      start_period: 10s\n"
        f"    stop_grace_period: {grace}\n    stop_signal: SIGTERM\n"
        f"    x-hunqi:\n      drain: {drain}\n      health: /health\n"
        f"      routes:\n        - host: {host}\n          port: 8080\n          tls: 'off'\n{more}"
    )


@contextlib.contextmanager
def upstream(bed: Bed, folder: Path) -> Generator[str]:
    """Run the registry of the tested app on the host's address in the bed; yields its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = {
        "version": "0.1",
        "log": {"accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"{bed.gateway}:{port}", "relativeurls": True, "secret": "testbed"},
    }
    (folder / "registry.yml").write_text(json.dumps(config))
    env = {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")}
    daemon = Daemon(["docker-registry", "serve", str(folder / "registry.yml")], log=folder / "registry.log", env=env)
    url = f"http://{bed.gateway}:{port}"
    try:
        daemon.wait_until(lambda: "listening on" in daemon.log.read_text(errors="replace"), timeout_s=15.0)
        for number in (1, 2):
            images.push(app.image(seed=number), url, "bench/app", str(number))
        yield url
    finally:
        daemon.stop(timeout_s=5.0)


@contextlib.contextmanager
def platform(
    bed: Bed, folder: Path, *, roles: Sequence[str] | None = None, env: Mapping[str, str] | None = None
) -> Generator[Product]:
    """Bring the platform up on the bed's first machine and have the others join, as ``roles`` say (managers).

    When the block fails, the ends of all logs are shown.
    """
    with upstream(bed, folder / "upstream") as url:
        given = {"DOCKER_IO": url, **(env or {})}
        nodes = [Node(machine, env=given) for machine in bed.machines]
        api = Api(host=bed.first.address)
        product = Product(bed, nodes[:1], api)
        try:
            api.set_up(product.first.up() or "")
            for node, role in zip(nodes[1:], roles or ["manager"] * len(nodes), strict=False):
                product.join(node, role=role)
            yield product
        except BaseException:
            for node in nodes:
                _show_logs(node)
            raise
        finally:
            for node in nodes:
                with contextlib.suppress(Exception):
                    node.hunqi("down", timeout_s=60.0, check=False)


def _show_logs(node: Node) -> None:
    for log in sorted((node.data / "log").glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-25:]
        if lines and log.name != "access.log":
            print(f"--- {node.machine.hostname} {log.name}", *lines, sep="\n", file=sys.stderr)


@contextlib.contextmanager
def kept_dead(node: Node, name: str) -> Generator[None]:
    """Kill a child of the supervisor with SIGKILL, and each one that takes its place, for as long as the block."""
    done = threading.Event()

    def kill() -> None:
        while not done.wait(0.02):
            with contextlib.suppress(LookupError, OSError, ValueError):
                os.kill(node.child(name), signal.SIGKILL)

    thread = threading.Thread(target=kill, name="killer")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(5.0)
