"""What somebody else changed of a service: the fields that reach a task, compared with what we would send.

Docker adds defaults to what it is sent, so only fields that we set are compared, and only on a service whose hash label
is the one that this version would write: a new version of ours restarts nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final

from hunqi.apps.acts import EngineActs
from hunqi.apps.building import GroundMissingError
from hunqi.apps.model import Mode, Revision, ServiceSpec
from hunqi.apps.pinning import pinned_node
from hunqi.apps.situation import Situation
from hunqi.engine.errors import EngineRefusedError, NotFoundError
from hunqi.engine.model import JSON, LABEL_APP, LABEL_HASH, LABEL_PREFIX, Service

TRIES: Final = 3
"""How often the same difference is put right in a row."""
_LASTING: Final = frozenset({Mode.REPLICATED, Mode.GLOBAL})
_log = logging.getLogger(__name__)
_CONTAINER: Final = ("Image", "Command", "Args", "Env", "Hostname", "Dir", "User", "StopSignal", "StopGracePeriod")


def drift_of(service: Service, wanted: JSON) -> tuple[str, ...]:
    """Return the paths at which the service is not as ``wanted`` (a ServiceSpec of ours) has it."""
    if service.labels.get(LABEL_HASH) != wanted["Labels"].get(LABEL_HASH):
        return ()
    return tuple(_differences(service.spec, wanted))


class DriftWatch:
    """Looks for drift where a service changed since the last look, and gives up on what cannot be put right."""

    def __init__(self) -> None:
        self._right: dict[str, tuple[int, str]] = {}
        self._tried: dict[str, tuple[tuple[str, ...], int]] = {}

    async def of(self, at: Situation, acts: EngineActs) -> dict[str, str]:
        """Return, by name of the Swarm service, what somebody else changed of it, in a sentence."""
        found: dict[str, str] = {}
        own = (each for each in at.snapshot.networks.values() if each.labels.get(LABEL_APP) == at.app.name)
        ground = ",".join(sorted(each.id for each in own))
        for revision in (at.live, at.target):
            for key in revision.spec.services if revision else ():
                name = at.name(revision, key) if revision else ""
                standing = at.standings.get(name)
                if revision is None or standing is None or name in found:
                    continue
                spec = revision.spec.services[key]
                seen = (standing.service.version, ground)
                if spec.mode not in _LASTING or self._right.get(name) == seen:
                    continue
                paths = await self._paths(at, acts, revision, spec, standing.service)
                if not paths or not self._try(name, paths):
                    self._right[name] = seen
                else:
                    found[name] = f"somebody changed {', '.join(paths)} of {name}: putting it back"
        return found

    async def _paths(
        self, at: Situation, acts: EngineActs, revision: Revision, spec: ServiceSpec, service: Service
    ) -> tuple[str, ...]:
        try:
            body = await acts.body(at, revision, spec, node=pinned_node(at, spec), replicas=at.wanted(spec))
        except (GroundMissingError, NotFoundError, EngineRefusedError):
            return ()
        return drift_of(service, body)

    def _try(self, name: str, paths: tuple[str, ...]) -> bool:
        before, times = self._tried.get(name, ((), 0))
        times = times + 1 if before == paths else 1
        self._tried[name] = (paths, times)
        if times == TRIES + 1:
            _log.warning("service=%s: %s cannot be put back as it was", name, ", ".join(paths))
        return times <= TRIES


def _differences(there: JSON, wanted: JSON) -> Iterator[str]:
    own: dict[str, str] = {key: held for key, held in wanted["Labels"].items() if key.startswith(LABEL_PREFIX)}
    labels: dict[str, str] = there.get("Labels") or {}
    if any(labels.get(key) != held for key, held in own.items() if key != LABEL_HASH):
        yield "Labels"
    task: JSON = there.get("TaskTemplate") or {}
    container: JSON = task.get("ContainerSpec") or {}
    ours: JSON = wanted["TaskTemplate"]["ContainerSpec"]
    for key in _CONTAINER:
        if (container.get(key) or None) != (ours.get(key) or None):
            yield f"ContainerSpec.{key}"
    if _targets(task) != _targets(wanted["TaskTemplate"]):
        yield "Networks"
    if _constraints(task) != _constraints(wanted["TaskTemplate"]):
        yield "Placement.Constraints"
    if set(there.get("Mode") or {}) != set(wanted["Mode"]):
        yield "Mode"


def _targets(task: JSON) -> set[str]:
    attachments: list[dict[str, Any]] = task.get("Networks") or []
    return {each["Target"] for each in attachments}


def _constraints(task: JSON) -> list[str]:
    placement: JSON = task.get("Placement") or {}
    return list(placement.get("Constraints") or ())
