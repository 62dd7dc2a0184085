"""What the doctor asks of Docker: whether it answers, in which version, how it stands to its Swarm, its disk."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from hunqi.engine.client import Docker
from hunqi.engine.errors import EngineUnreachableError, NotManagerError, UnsupportedError
from hunqi.engine.model import EngineInfo, Node, SwarmState
from hunqi.errors import HunqiError
from hunqi.platform import doctor
from hunqi.platform.findings import Finding, Level
from hunqi.platform.settings import PlatformSettings
from hunqi.platform.up import gateway_ports

_CALL_S: Final = 10.0


async def examine_docker(settings: PlatformSettings) -> tuple[list[Finding], Collection[int]]:
    """Return the findings about Docker, and the ports that our own gateway holds. Never raises."""
    try:
        async with Docker(str(settings.docker_socket), call_timeout_s=_CALL_S) as docker:
            info = await docker.system.info()
            findings = [_version(info, docker.api_version), check_storage(info), check_swarm(info.swarm)]
            if info.data_root and Path(info.data_root).exists():
                findings.append(doctor.check_disk(Path(info.data_root), "docker disk"))
            if info.swarm.is_manager:
                findings.append(await _managers(docker))
            return findings, await gateway_ports(docker, settings)
    except UnsupportedError as error:
        return [Finding(name="docker", level=Level.PROBLEM, text=str(error), remedy="upgrade Docker")], ()
    except EngineUnreachableError as error:
        return [
            Finding(
                name="docker",
                level=Level.PROBLEM,
                text=f"no Docker answers at {settings.docker_socket} ({error})",
                remedy="hunqi up starts it, and installs it on Debian; or name its socket: hunqi up --docker SOCKET",
            )
        ], ()
    except HunqiError as error:
        return [Finding(name="docker", level=Level.PROBLEM, text=str(error), remedy="see docker info")], ()


def check_storage(info: EngineInfo) -> Finding:
    """Judge how Docker stores images."""
    good = info.storage_driver in {"overlay2", "overlayfs", "btrfs", "zfs"}
    return Finding(
        name="docker storage",
        level=Level.OK if good else Level.WARNING,
        text=f"images are stored by {info.storage_driver}",
        remedy="" if good else "overlay2 is quicker by far: see storage-driver in daemon.json",
    )


def check_swarm(swarm: SwarmState) -> Finding:
    """Judge the Swarm of this machine."""
    match swarm.state:
        case "active":
            role = "a manager" if swarm.is_manager else "a worker"
            return Finding(name="swarm", level=Level.OK, text=f"this machine is {role} of a Swarm")
        case "inactive":
            return Finding(name="swarm", level=Level.NOTE, text="there is no Swarm yet; hunqi up makes one")
        case "locked":
            return Finding(name="swarm", level=Level.PROBLEM, text="the Swarm is locked", remedy="docker swarm unlock")
        case state:
            return Finding(
                name="swarm",
                level=Level.PROBLEM,
                text=f"the Swarm is {state}: {swarm.error or 'no reason is given'}",
                remedy="Hunqi never leaves or resets a Swarm; see docker info",
            )


def check_managers(nodes: list[Node]) -> Finding:
    """Judge whether the Swarm survives the loss of a manager."""
    managers = [node for node in nodes if node.role == "manager"]
    lost = [node.hostname for node in managers if not node.reachable]
    count = len(managers)
    if lost:
        return Finding(
            name="managers",
            level=Level.PROBLEM,
            text=f"managers that cannot be reached: {', '.join(lost)}",
            remedy="bring them back, or: hunqi node rm NAME",
        )
    if count % 2 == 0:
        return Finding(
            name="managers",
            level=Level.WARNING,
            text=f"{count} managers survive no more losses than {count - 1}",
            remedy="have 1, 3 or 5",
        )
    survives = (count - 1) // 2
    return Finding(name="managers", level=Level.OK, text=f"{count} of them; the loss of {survives} is survived")


async def _managers(docker: Docker) -> Finding:
    try:
        return check_managers(await docker.nodes.list())
    except NotManagerError as error:
        return Finding(
            name="managers",
            level=Level.PROBLEM,
            text=f"the Swarm has no quorum ({error})",
            remedy="bring managers back; apps go on serving, but nothing can be changed",
        )


def _version(info: EngineInfo, api_version: str) -> Finding:
    text = f"Docker {info.version}, API {api_version} (1.41 to 1.54 will do), cgroup v{info.cgroup_version}"
    return Finding(name="docker", level=Level.OK, text=text)
