"""Docker's JSON → values. Pure; a field that is missing takes the meaning that the API gives it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from hunqi.engine.errors import EngineFailedError
from hunqi.engine.model import (
    JSON,
    Container,
    EngineInfo,
    Event,
    Image,
    Network,
    Node,
    Payload,
    Service,
    SwarmSettings,
    SwarmState,
    Task,
    TaskState,
    Volume,
)

_NOTHING: Final[JSON] = {}


def items(answer: Any, what: str) -> list[JSON]:
    """Return a list of objects; null, as old daemons answer, is an empty one."""
    if answer is None:
        return []
    if not isinstance(answer, list):
        raise EngineFailedError(f"Docker's list of {what} is none")
    return list(_objects(answer))  # pyright: ignore[reportUnknownArgumentType]  # JSON of unknown make


def fields(answer: Any, what: str) -> JSON:
    """Return an object, or raise ``EngineFailedError``."""
    if not isinstance(answer, dict):
        raise EngineFailedError(f"Docker's {what} is no object")
    return answer  # pyright: ignore[reportUnknownVariableType]  # JSON of unknown make


def part(data: JSON, key: str) -> JSON:
    """Return an object within an object; missing and null are empty."""
    return data.get(key) or _NOTHING


def _objects(answer: list[Any]) -> Iterator[JSON]:
    for item in answer:
        yield fields(item, "list's item")


def service(data: JSON) -> Service:
    """Parse a service; its networks are those of its task template."""
    spec = data["Spec"]
    targets = spec.get("TaskTemplate", {}).get("Networks") or spec.get("Networks") or ()
    return Service(
        id=data["ID"],
        version=data["Version"]["Index"],
        name=spec["Name"],
        labels=part(spec, "Labels"),
        spec=spec,
        created_at=data.get("CreatedAt", ""),
        updated_at=data.get("UpdatedAt", ""),
        network_ids=tuple(network["Target"] for network in targets),
    )


def task(data: JSON) -> Task:
    """Parse a task; ``error`` is the engine's sentence about why it failed or waits."""
    status = part(data, "Status")
    container = part(status, "ContainerStatus")
    container_spec = part(part(data, "Spec"), "ContainerSpec")
    return Task(
        id=data["ID"],
        service_id=data.get("ServiceID", ""),
        node_id=data.get("NodeID") or None,
        slot=data.get("Slot") or None,
        state=TaskState(status.get("State", "new")),
        desired_state=TaskState(data.get("DesiredState") or "running"),
        message=status.get("Message", ""),
        error=status.get("Err", ""),
        exit_code=container.get("ExitCode"),
        container_id=container.get("ContainerID") or None,
        pid=container.get("PID") or None,
        addresses=dict(_addresses(data)),
        image=container_spec.get("Image", ""),
        created_at=data.get("CreatedAt", ""),
        updated_at=data.get("UpdatedAt", ""),
        version=part(data, "Version").get("Index", 0),
        labels=part(container_spec, "Labels"),
    )


def _addresses(data: JSON) -> Iterator[tuple[str, str]]:
    for attachment in data.get("NetworksAttachments") or ():
        for address in attachment.get("Addresses") or ():
            yield attachment["Network"]["ID"], address.partition("/")[0]
            break


def node(data: JSON) -> Node:
    """Parse a node."""
    description, status = part(data, "Description"), part(data, "Status")
    manager = part(data, "ManagerStatus")
    resources, platform = part(description, "Resources"), part(description, "Platform")
    spec = data["Spec"]
    return Node(
        id=data["ID"],
        version=data["Version"]["Index"],
        hostname=description.get("Hostname", ""),
        role=spec.get("Role", "worker"),
        availability=spec.get("Availability", "active"),
        state=status.get("State", "unknown"),
        address=status.get("Addr", ""),
        labels=part(spec, "Labels"),
        is_leader=bool(manager.get("Leader")),
        reachable=manager.get("Reachability") == "reachable" if manager else status.get("State") == "ready",
        nano_cpus=resources.get("NanoCPUs", 0),
        memory_bytes=resources.get("MemoryBytes", 0),
        engine_version=part(description, "Engine").get("EngineVersion", ""),
        platform=f"{platform.get('OS', '')}/{platform.get('Architecture', '')}",
        spec=spec,
    )


def network(data: JSON) -> Network:
    """Parse a network."""
    pools = part(data, "IPAM").get("Config") or ()
    return Network(
        id=data["Id"],
        name=data["Name"],
        driver=data.get("Driver", ""),
        scope=data.get("Scope", ""),
        attachable=bool(data.get("Attachable")),
        labels=part(data, "Labels"),
        subnets=tuple(pool["Subnet"] for pool in pools if pool.get("Subnet")),
    )


def payload(data: JSON, *, content: bytes | None) -> Payload:
    """Parse a secret or a config."""
    templating: JSON = data["Spec"].get("Templating") or {}
    return Payload(
        id=data["ID"],
        version=data["Version"]["Index"],
        name=data["Spec"]["Name"],
        labels=data["Spec"].get("Labels") or {},
        data=content,
        template=templating.get("Name", ""),
    )


def volume(data: JSON) -> Volume:
    """Parse a volume."""
    return Volume(
        name=data["Name"],
        driver=data.get("Driver", ""),
        labels=part(data, "Labels"),
        mountpoint=data.get("Mountpoint", ""),
    )


def event(data: JSON) -> Event:
    """Parse an event."""
    actor = part(data, "Actor")
    return Event(
        kind=data.get("Type", ""),
        action=data.get("Action", ""),
        id=actor.get("ID", ""),
        attributes=part(actor, "Attributes"),
        time_ns=data.get("timeNano", 0),
        scope=data.get("scope", "local"),
    )


def listed_container(data: JSON) -> Container:
    """Parse a container of a list."""
    networks = part(part(data, "NetworkSettings"), "Networks")
    return Container(
        id=data["Id"],
        name=(data.get("Names") or [""])[0].removeprefix("/"),
        image=data.get("Image", ""),
        image_id=data.get("ImageID", ""),
        state=data.get("State", ""),
        labels=part(data, "Labels"),
        addresses={name: found.get("IPAddress", "") for name, found in networks.items()},
    )


def container(data: JSON) -> Container:
    """Parse a container as inspected."""
    state, config = part(data, "State"), part(data, "Config")
    networks = part(part(data, "NetworkSettings"), "Networks")
    running = bool(state.get("Running"))
    return Container(
        id=data["Id"],
        name=data.get("Name", "").removeprefix("/"),
        image=config.get("Image", ""),
        image_id=data.get("Image", ""),
        state=state.get("Status", ""),
        labels=part(config, "Labels"),
        addresses={name: found.get("IPAddress", "") for name, found in networks.items()},
        pid=state.get("Pid") or None,
        exit_code=None if running else state.get("ExitCode"),
        health=part(state, "Health").get("Status", ""),
        detail=data,
    )


def image(data: JSON) -> Image:
    """Parse an image, of a list or as inspected.

    Where containerd stores the images, what was pulled by digest stands among the tags too: it is none.
    """
    labels = data.get("Labels") or part(part(data, "Config"), "Labels")
    return Image(
        id=data["Id"],
        tags=tuple(tag for tag in data.get("RepoTags") or () if "@" not in tag and tag != "<none>:<none>"),
        digests=tuple(digest for digest in data.get("RepoDigests") or () if digest != "<none>@<none>"),
        size_bytes=data.get("Size", 0),
        labels=labels,
        created=str(data.get("Created", "")),
    )


def engine_info(data: JSON) -> EngineInfo:
    """Parse what the daemon says of itself."""
    return EngineInfo(
        name=data.get("Name", ""),
        version=data.get("ServerVersion", ""),
        os=data.get("OSType", ""),
        arch=data.get("Architecture", ""),
        kernel=data.get("KernelVersion", ""),
        cpus=data.get("NCPU", 0),
        memory_bytes=data.get("MemTotal", 0),
        storage_driver=data.get("Driver", ""),
        cgroup_version=str(data.get("CgroupVersion", "1")),
        data_root=data.get("DockerRootDir", ""),
        swarm=_swarm_state(part(data, "Swarm")),
        log_driver=data.get("LoggingDriver", ""),
    )


def _swarm_state(data: JSON) -> SwarmState:
    return SwarmState(
        state=data.get("LocalNodeState") or "inactive",
        is_manager=bool(data.get("ControlAvailable")),
        node_id=data.get("NodeID", ""),
        node_address=data.get("NodeAddr", ""),
        managers=tuple(manager["Addr"] for manager in data.get("RemoteManagers") or ()),
        cluster_id=part(data, "Cluster").get("ID", ""),
        error=data.get("Error", ""),
    )


def swarm_settings(data: JSON) -> SwarmSettings:
    """Parse the Swarm as a manager sees it."""
    tokens = part(data, "JoinTokens")
    return SwarmSettings(
        id=data["ID"],
        version=data["Version"]["Index"],
        worker_token=tokens.get("Worker", ""),
        manager_token=tokens.get("Manager", ""),
        address_pools=tuple(data.get("DefaultAddrPool") or ()),
        subnet_size=data.get("SubnetSize", 0),
    )
