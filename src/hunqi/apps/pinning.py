"""On which node a service with local volumes runs: where its volumes lie, chosen once and recorded.

A volume of Docker's ``local`` driver exists on one node only, unless its options make it a network mount. Volumes that
are used together by a service lie on the same node.
"""

from __future__ import annotations

from typing import Final

from hunqi.apps.fitting import fits_constraints, free_of
from hunqi.apps.model import AppSpec, ServiceSpec, VolumeSpec
from hunqi.apps.situation import Situation

_NETWORK_TYPES: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs"})


def local_volumes(spec: AppSpec, service: ServiceSpec) -> list[str]:
    """Return the keys of the volumes that tie ``service`` to a node."""
    return [
        mount.source
        for mount in service.mounts
        if mount.kind == "volume" and (volume := spec.volumes.get(mount.source)) is not None and _is_local(volume)
    ]


def pinned_node(situation: Situation, service: ServiceSpec) -> str | None:
    """Return the node that recorded volumes tie ``service`` to; None means anywhere."""
    pins = situation.app.intent.pins
    return next((pins[mount.source] for mount in service.mounts if mount.source in pins), None)


def choose_pins(situation: Situation, spec: AppSpec, service: ServiceSpec) -> dict[str, str]:
    """Return where the volumes of ``service`` that lie nowhere yet are to lie; empty if all are recorded.

    Where a volume of the same service lies already, else where a task of the service runs, else the ready node that
    fits its constraints and has most memory free.
    """
    pins = situation.app.intent.pins
    keys = local_volumes(spec, service)
    missing = [key for key in keys if key not in pins]
    if not missing:
        return {}
    node = next((pins[key] for key in keys if key in pins), None) or _running_on(situation, service)
    if node is None:
        constraints = service.template.get("Placement", {}).get("Constraints") or ()
        ready = [
            each for each in situation.snapshot.nodes.values() if each.ready and fits_constraints(each, constraints)
        ]
        if not ready:
            return {}
        free = free_of(situation.snapshot)
        node = max(ready, key=lambda each: (free[each.id].memory_bytes, each.id)).id
    return dict.fromkeys(missing, node)


def _running_on(situation: Situation, service: ServiceSpec) -> str | None:
    for standing in situation.others(service.name, ""):
        for task in standing.running:
            if task.node_id is not None:
                return task.node_id
    return None


def _is_local(volume: VolumeSpec) -> bool:
    return volume.driver == "local" and volume.driver_options.get("type", "") not in _NETWORK_TYPES
