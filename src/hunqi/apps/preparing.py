"""From what a client sends to what can be released: compiled, overlaid, its images pinned, its problems looked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from hunqi.apps.batches import ports_of, step_of
from hunqi.apps.compose.compile import compile_project
from hunqi.apps.compose.project import Project
from hunqi.apps.compose.project import describe as describe_note
from hunqi.apps.digests import Digests
from hunqi.apps.errors import AppNotFoundError, DeployStrictError, PrivilegeError, RoomError
from hunqi.apps.fitting import unplaceable
from hunqi.apps.keeping import Keeping
from hunqi.apps.limits import Limits
from hunqi.apps.model import AppSpec, Compiled, Note, Order, Revision, ServiceSpec
from hunqi.apps.names import parse_app_name
from hunqi.apps.observing import Watched
from hunqi.apps.operations import Checked, Replacing, ServiceChange, Submission
from hunqi.apps.overlay import Overlay, effective, with_overlay
from hunqi.apps.pinning import local_volumes
from hunqi.apps.ports import Images
from hunqi.apps.releasing import Release, origin_of
from hunqi.apps.rollout_spec import Strategy, asked_for
from hunqi.apps.state import AppRecord, Intent
from hunqi.apps.store import AppStore
from hunqi.engine.model import Snapshot
from hunqi.errors import HunqiError, UserError

_IMAGES_AT_ONCE: Final = 8
_FIRST: Final = 10**9
"""A revision number that is not given yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A release, and what was found while preparing it."""

    release: Release
    live: Revision | None
    app: AppRecord | None
    notes: tuple[Note, ...]
    changes: tuple[ServiceChange, ...]
    privileges: tuple[Note, ...] = ()
    """What it asks of the machines that who deploys it cannot allow."""


class Preparing:
    """Prepares releases. ``tcp_ports`` is the range that ``ports:`` may publish."""

    def __init__(
        self,
        store: AppStore,
        keeping: Keeping,
        images: Images,
        watched: Watched,
        limits: Limits,
        digests: Digests,
        *,
        tcp_ports: Callable[[], tuple[int, int]],
    ) -> None:
        self._store = store
        self._keeping = keeping
        self._images = images
        self._watched = watched
        self._limits = limits
        self._digests = digests
        self._tcp_ports = tcp_ports

    async def prepare(self, app: str, submission: Submission) -> Prepared:
        """Compile and pin. Raises ``AppNameError``, the compiler's errors, ``DeployStrictError``, ``ImageError``."""
        parse_app_name(app)
        overlay = await self._keeping.overlay(app)
        compiled = await self._compile(app, submission, overlay)
        dropped = [note for note in compiled.notes if note.severity in {"ignored", "changed"}]
        if submission.strict and dropped:
            raise DeployStrictError("\n".join(["keys that are not honoured:", *map(describe_note, dropped)]))
        record, live = await self._live(app)
        asked = replace(compiled.spec, rollout=asked_for(compiled.spec.rollout, submission.rollout))
        spec = await self._pin(asked, await self._reads(app, submission, record))
        payloads = {**compiled.payloads, **await self._keeping.secret_values(app)}
        spec, payloads = self._digests.keyed(with_overlay(spec, overlay), payloads, live)
        release = Release(
            app=app,
            spec=spec,
            payloads=payloads,
            replacing=submission.replacing,
            notes=compiled.notes,
            team=submission.team,
        )
        return Prepared(
            release=release,
            live=live,
            app=record,
            notes=compiled.notes,
            changes=changes_of(effective(release.spec), live),
            privileges=() if submission.privileged else beyond(compiled, overlay),
        )

    async def look(self, prepared: Prepared) -> None:
        """Raise what stands against the release.

        Raises ``PrivilegeError``, ``ImageError``, ``QuotaError``, ``RouteFaultError``, ``RouteTakenError``,
        ``RoomError``.
        """
        release = prepared.release
        if prepared.privileges:
            asked = [describe_note(note) for note in prepared.privileges]
            raise PrivilegeError("\n".join(["only an administrator may deploy an app that asks for this:", *asked]))
        spec = effective(release.spec)
        team = prepared.app.team if prepared.app else release.team
        scale = prepared.app.intent.replicas if prepared.app else Intent().replicas
        await self._limits.check_routes(release.app, spec)
        if team is not None:
            await self._limits.check_quota(team, release.app, spec, scale)
        if release.replacing is not Replacing.STOP_FIRST:
            check_room(spec, prepared, await self._watched.snapshot())

    async def check(self, app: str, submission: Submission) -> Checked:
        """Prepare, and say what stands against it instead of raising it."""
        prepared = await self.prepare(app, submission)
        problems: list[str] = []
        try:
            await self.look(prepared)
        except UserError as error:
            problems.append(str(error))
        return Checked(app=app, notes=prepared.notes, changes=prepared.changes, problems=tuple(problems))

    async def _compile(self, app: str, submission: Submission, overlay: Overlay) -> Compiled:
        project = Project(
            name=app,
            files=submission.files,
            entry=submission.entry,
            variables={**overlay.environment, **submission.variables},
            absent_files=frozenset(submission.absent_files),
            absent_variables=frozenset(submission.absent_variables),
            profiles=frozenset(submission.profiles),
            images=submission.images,
            tcp_ports=self._tcp_ports(),
        )
        return await asyncio.to_thread(compile_project, project)

    async def _live(self, app: str) -> tuple[AppRecord | None, Revision | None]:
        try:
            kept = await self._store.find(app)
        except AppNotFoundError:
            return None, None
        live = await self._store.revision(app, kept.app.live) if kept.app.live is not None else None
        return kept.app, live

    async def _reads(self, app: str, submission: Submission, record: AppRecord | None) -> frozenset[str]:
        """Return what this deploy may read at the accelerator: what who asks may, and what the app's team may."""
        team = record.team if record is not None else submission.team
        of_team = await self._limits.readable(team) if team is not None else set[str]()
        return frozenset({app, *submission.reads, *of_team})

    async def _pin(self, spec: AppSpec, reads: frozenset[str]) -> AppSpec:
        snapshot = await self._watched.snapshot()
        platforms = {node.platform for node in snapshot.nodes.values() if node.state == "ready"}
        wanted = {service.image for service in spec.services.values()}
        slots = asyncio.Semaphore(_IMAGES_AT_ONCE)

        async def resolve(image: str) -> str:
            async with slots:
                return (await self._images.resolve(image, platforms=platforms, reads=reads)).reference

        try:
            async with asyncio.TaskGroup() as group:
                tasks = {image: group.create_task(resolve(image)) for image in wanted}
        except* HunqiError as failed:
            raise _first(failed) from failed
        pinned = {image: task.result() for image, task in tasks.items()}
        services = {name: replace(each, image=pinned[each.image]) for name, each in spec.services.items()}
        return replace(spec, services=services)


def beyond(compiled: Compiled, overlay: Overlay) -> tuple[Note, ...]:
    """Return what an app asks of the machines; a secret that is kept for the app is its own."""
    kept = {f"secrets.{key}" for key, each in compiled.spec.secrets.items() if each.external in overlay.secrets}
    return tuple(note for note in compiled.privileges if note.path not in kept)


def changes_of(spec: AppSpec, live: Revision | None) -> tuple[ServiceChange, ...]:
    """Say what a deploy of ``spec`` does to each service."""
    origin = origin_of(spec, _FIRST, live)
    before: Mapping[str, ServiceSpec] = live.spec.services if live else {}
    changes: list[ServiceChange] = []
    for name, service in spec.services.items():
        if name not in before:
            changes.append(ServiceChange(service=name, kind="added"))
        elif origin[name] == _FIRST:
            changes.append(ServiceChange(service=name, kind="changed", why=_why(before[name], service)))
        else:
            changes.append(ServiceChange(service=name, kind="kept"))
    changes.extend(ServiceChange(service=name, kind="removed") for name in before if name not in spec.services)
    return tuple(changes)


def check_room(spec: AppSpec, prepared: Prepared, snapshot: Snapshot) -> None:
    """Raise ``RoomError`` if what a deploy starts beside what runs does not fit on the nodes."""
    origin = origin_of(spec, _FIRST, prepared.live)
    intent = prepared.app.intent if prepared.app else Intent()
    scale, pins = intent.replicas, intent.pins
    beside: list[tuple[ServiceSpec, int, tuple[str, ...]]] = []
    for name, service in spec.services.items():
        replaced = prepared.live is not None and name in prepared.live.spec.services
        if origin[name] != _FIRST or service.schedule is not None or (replaced and service.order is Order.STOP_FIRST):
            continue
        pinned = tuple(pins[key] for key in local_volumes(spec, service) if key in pins)
        replicas = scale.get(name, service.replicas)
        if replaced and prepared.release.replacing is Replacing.BATCHES:
            check_ports(service, prepared)
            replicas = min(replicas, step_of(service, replicas, Replacing.BATCHES))
        beside.append((service, replicas, pinned))
    sentences = unplaceable(beside, snapshot)
    if sentences:
        ways = (
            "; deploy with --order batches (a quarter at a time) or stop-first (old before new), or make room"
            if prepared.live is not None
            else "; reserve less, or add a node"
        )
        if prepared.live is not None and spec.rollout is not None and spec.rollout.strategy is not Strategy.DIRECT:
            ways += " (a rollout needs room for both revisions whole: by batches or stop-first there is none)"
        raise RoomError(f"there is no room: {'; '.join(sentences)}{ways}")


def check_ports(service: ServiceSpec, prepared: Prepared) -> None:
    """Raise ``RoomError`` if old and new tasks cannot share the traffic: they listen at other ports."""
    before = prepared.live.spec.services.get(service.name) if prepared.live else None
    if before is None:
        return
    if ports_of(before) != ports_of(service):
        raise RoomError(
            f"{service.name} listens at other ports than before, so its revisions cannot serve together in batches: "
            "deploy with --order stop-first"
        )


def _why(before: ServiceSpec, after: ServiceSpec) -> str:
    if before.image != after.image:
        return "its image is another"
    if before.template != after.template:
        return "its settings changed"
    return "what it stands on changed"


def _first(failed: BaseExceptionGroup[HunqiError]) -> HunqiError:
    """Return one of the errors: all are of the same deploy, and the reader can mend one at a time."""
    error = failed.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
