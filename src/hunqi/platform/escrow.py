"""The cluster's key in the Swarm's own keeping, so that a manager that survives needs nothing else to rebuild control.

It lies there as a secret: encrypted on the managers' disks, and given only to tasks that name it. The API hands none
out, so it is read through a task on this machine that does nothing and is removed at once. It is in no log and on no
command line.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

from hunqi.engine.client import Docker
from hunqi.engine.errors import ConflictError, NotFoundError
from hunqi.engine.model import LABEL_CLUSTER, LABEL_KIND, Task, TaskState
from hunqi.gateway.image import SLEEP, ensure_image, find_parts
from hunqi.platform.errors import RecoverError

KEY_NAME: Final = "hunqi-key"
KIND: Final = "cluster"
_READER: Final = "hunqi-key-reader"
_READER_S: Final = 60
"""How long the task lives if it is not removed."""
_START_S: Final = 45.0
_POLL_S: Final = 0.2


async def deposit(docker: Docker, key: str, *, cluster: str) -> None:
    """Put the key into the Swarm, in place of another cluster's, unless it is there. Raises the engine's errors."""
    with contextlib.suppress(NotFoundError):
        held = await docker.secrets.inspect(KEY_NAME)
        if held.labels.get(LABEL_CLUSTER) == cluster:
            return
        await docker.secrets.remove(held.id)
    with contextlib.suppress(ConflictError):
        await docker.secrets.create(KEY_NAME, key.encode(), labels={LABEL_CLUSTER: cluster, LABEL_KIND: KIND})


async def withdraw(docker: Docker, *, node: str) -> str | None:
    """Return the key that the Swarm keeps, read on the Swarm's node ``node``, which is this machine; None if none is.

    Raises :class:`RecoverError` if it cannot be read here, and the errors of the engine and of the gateway's image.
    """
    try:
        secret = await docker.secrets.inspect(KEY_NAME)
    except NotFoundError:
        return None
    await ensure_image(docker.images, parts := await find_parts())
    image = (await docker.images.detail(parts.reference))["Id"]
    with contextlib.suppress(NotFoundError):
        await docker.services.remove(_READER)
    async with _reader(docker, reader_spec(image=image, secret=secret.id, node=node)) as service:
        task = await _running(docker, service)
        return await asyncio.to_thread(_read, task)


def reader_spec(*, image: str, secret: str, node: str) -> dict[str, Any]:
    """Return the ``ServiceSpec`` of the task: ``image`` is an image's id, which Docker never pulls."""
    return {
        "Name": _READER,
        "Labels": {LABEL_KIND: KIND},
        "Mode": {"Replicated": {"Replicas": 1}},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": image,
                "Command": [SLEEP],
                "Args": [str(_READER_S)],
                "User": "0",
                "ReadOnly": True,
                "CapabilityDrop": ["ALL"],
                "StopSignal": "SIGKILL",
                "Secrets": [
                    {
                        "SecretID": secret,
                        "SecretName": KEY_NAME,
                        "File": {"Name": KEY_NAME, "UID": "0", "GID": "0", "Mode": 0o400},
                    }
                ],
            },
            "Placement": {"Constraints": [f"node.id=={node}"]},
            "RestartPolicy": {"Condition": "none"},
            "LogDriver": {"Name": "none"},
        },
    }


@contextlib.asynccontextmanager
async def _reader(docker: Docker, spec: dict[str, Any]) -> AsyncGenerator[str]:
    service = await docker.services.create(spec)
    try:
        yield service
    finally:
        await docker.services.remove(service)


async def _running(docker: Docker, service: str) -> Task:
    said = "no task was made"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_S):
            while True:
                for task in await docker.tasks.list(services=[service]):
                    if task.state is TaskState.RUNNING and task.pid:
                        return task
                    said = task.error or task.message or task.state.value
                await asyncio.sleep(_POLL_S)
    raise RecoverError(
        f"the cluster's key, which the Swarm keeps, could not be read by a task on this machine in {_START_S:.0f} s "
        f"({said}): if it is drained, docker node update --availability active, and again; or give --key-file FILE"
    )


def _read(task: Task) -> str:
    path = Path(f"/proc/{task.pid}/root/run/secrets") / KEY_NAME
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise RecoverError(
            f"the cluster's key could not be read from task {task.id[:12]} ({type(error).__name__}): "
            "run this as root, or give --key-file FILE"
        ) from error
