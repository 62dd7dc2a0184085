"""How a spec becomes a revision and a deploy of it: one transaction, whatever asked for it.

Deploys of a file, rollbacks, rotations, variables, routes and restarts all come here. What must be waited for (images,
checks) was done before; inside the transaction only what may have changed meanwhile is looked at again.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.apps.acts import payload_context
from hunqi.apps.digests import Digests
from hunqi.apps.errors import AppBusyError, AppNotFoundError, TeamNeededError
from hunqi.apps.model import AppSpec, DeployState, Mode, Note, Revision
from hunqi.apps.operations import Change, Replacing
from hunqi.apps.overlay import effective
from hunqi.apps.ports import Seal
from hunqi.apps.rollout_spec import Strategy
from hunqi.apps.shifting import Shift
from hunqi.apps.split import shifts, split
from hunqi.apps.state import AppRecord, DeployRecord, Desired, Intent, Progress
from hunqi.apps.store import AppStore, Kept
from hunqi.apps.swarm import service_hash
from hunqi.kit.codec import dumps
from hunqi.state.events import append


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What is to be deployed. ``spec`` is as it is stored, every image pinned."""

    app: str
    spec: AppSpec
    payloads: Mapping[str, bytes] = field(default_factory=dict[str, bytes], repr=False)
    """By digest."""
    anew: frozenset[str] = frozenset()
    """Services to be replaced though nothing of them changed."""
    replacing: Replacing | None = None
    notes: tuple[Note, ...] = ()
    team: str | None = None
    kind: str = "deploy"
    direct: bool = False
    """Whether traffic moves at once, whatever the spec says of a rollout."""


def spec_digest(spec: AppSpec) -> str:
    """Return what two specs have in common if and only if they are the same."""
    return hashlib.sha256(dumps(spec).encode()).hexdigest()


def origin_of(spec: AppSpec, number: int, live: Revision | None, anew: Collection[str] = ()) -> dict[str, int]:
    """Return in which revision each service of ``spec`` (an effective one) last changed."""
    origin: dict[str, int] = {}
    for name, service in spec.services.items():
        before = live.spec.services.get(name) if live else None
        same = (
            live is not None
            and before is not None
            and name not in anew
            and service_hash(spec, service) == service_hash(live.spec, before)
        )
        origin[name] = live.origin[name] if live is not None and same else number
    _restart_dependents(spec, origin, {name for name in origin if origin[name] == number}, number)
    return origin


def _restart_dependents(spec: AppSpec, origin: dict[str, int], replaced: set[str], number: int) -> None:
    """Have what asks for it replaced with what it depends on, and so on."""
    while replaced:
        replaced = {
            name
            for name, service in spec.services.items()
            if origin[name] != number
            for each in service.depends_on
            if each.service in replaced and (each.restart or service.restart_on_dependency)
        }
        origin.update(dict.fromkeys(replaced, number))


class Releasing:
    """Makes revisions and deploys. ``mark`` has an app looked at; ``clock`` gives seconds since the epoch."""

    def __init__(self, store: AppStore, seal: Seal, *, mark: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._store: Final = store
        self._seal = seal
        self._digests = Digests(seal)
        self._mark = mark
        self._clock = clock

    async def release(self, release: Release, change: Change) -> DeployRecord:
        """Make a revision and its deploy, or say that there is nothing to do. Raises ``AppBusyError``."""
        app, live = release.app, await self._live(release.app)
        spec, payloads = self._digests.keyed(release.spec, release.payloads, live)
        release = replace(release, spec=spec, payloads=payloads)
        sealed = {
            digest.removeprefix("sha256:"): self._seal.seal(content, context=payload_context(app, digest))
            for digest, content in payloads.items()
        }
        async with self._store.database.begin() as connection:
            kept = await self._app(connection, release, change)
            if kept.app.live != (live.number if live else None):
                live = await self._store.revision_in(connection, app, kept.app.live) if kept.app.live else None
            await self._store.add_payloads(connection, app, sealed, at=self._now())
            spec = effective(release.spec)
            if live is not None and not release.anew and _is_live(kept, live, spec):
                deploy = await self._nothing(connection, kept.app, live, change)
            else:
                deploy = await self._make(connection, release, spec, kept, live, change)
        self._mark(app)
        return deploy

    async def _live(self, app: str) -> Revision | None:
        try:
            kept = await self._store.find(app)
        except AppNotFoundError:
            return None
        return await self._store.revision(app, kept.app.live) if kept.app.live is not None else None

    async def _app(self, connection: AsyncConnection, release: Release, change: Change) -> Kept:
        try:
            kept = await self._store.find_in(connection, release.app)
        except AppNotFoundError:
            if release.team is None:
                raise TeamNeededError(f"{release.app} is new: say which team it belongs to") from None
            await self._store.create(connection, release.app, team=release.team, at=self._now(), change=change)
            kept = await self._store.find_in(connection, release.app)
        if kept.app.desired is Desired.REMOVED:
            raise AppBusyError(f"{release.app} is being removed: deploy it again once it is gone")
        return kept

    async def _make(
        self,
        connection: AsyncConnection,
        release: Release,
        spec: AppSpec,
        kept: Kept,
        live: Revision | None,
        change: Change,
    ) -> DeployRecord:
        now, app = self._now(), kept.app
        await self.end(connection, kept, DeployState.SUPERSEDED, "a newer deploy took its place", change)
        number = await self._store.next_number(connection, app.name)
        revision = Revision(
            app=app.name,
            number=number,
            spec=release.spec,
            origin=origin_of(spec, number, live, release.anew),
            created_at=now,
            actor=change.actor,
            reason=change.reason,
        )
        await self._store.add_revision(connection, revision, digest=spec_digest(spec))
        shift = _shift(release, replace(revision, spec=spec), kept, live)
        intent = replace(app.intent, scale=_scale(app.intent, spec, live), auto=_auto(app.intent, spec, live))
        intent = replace(intent, actor=change.actor)
        await self._store.change(connection, app, at=now, intent=intent, desired=Desired.RUNNING)
        deploy = DeployRecord(
            id=self._id(),
            app=app.name,
            revision=number,
            from_revision=live.number if live else None,
            state=DeployState.PENDING,
            progress=Progress(
                changed_at=self._clock(),
                sentence=f"revision {number} is about to be started{_way(release, spec, shift)}",
                replacing=release.replacing,
                notes=release.notes,
                shift=shift,
            ),
            problem=None,
            actor=change.actor,
            reason=change.reason,
            created_at=now,
            updated_at=now,
        )
        await self._store.add_deploy(connection, deploy)
        await append(
            connection,
            "deploy.created",
            app=app.name,
            subject=deploy.id,
            actor=change.actor,
            reason=change.reason,
            data={"revision": number, "from": deploy.from_revision, "kind": release.kind},
        )
        return deploy

    async def end(
        self, connection: AsyncConnection, kept: Kept, state: DeployState, sentence: str, change: Change
    ) -> None:
        """End the deploy under way, if there is one; one that has switched has succeeded."""
        deploy = kept.deploy
        if deploy is None:
            return
        if deploy.state is DeployState.DRAINING:
            state, sentence = DeployState.SUCCEEDED, f"revision {deploy.revision} serves"
        progress = replace(deploy.progress, sentence=sentence, changed_at=self._clock())
        await self._store.set_deploy(connection, deploy, state=state, progress=progress, at=self._now())
        await append(
            connection,
            f"deploy.{state}",
            app=deploy.app,
            subject=deploy.id,
            actor=change.actor,
            reason=sentence,
            data={"revision": deploy.revision},
        )

    async def _nothing(
        self, connection: AsyncConnection, app: AppRecord, live: Revision, change: Change
    ) -> DeployRecord:
        now = self._now()
        deploy = DeployRecord(
            id=self._id(),
            app=app.name,
            revision=live.number,
            from_revision=live.number,
            state=DeployState.SUCCEEDED,
            progress=Progress(
                changed_at=self._clock(), sentence=f"nothing to do: revision {live.number} runs exactly this already"
            ),
            problem=None,
            actor=change.actor,
            reason=change.reason,
            created_at=now,
            updated_at=now,
            finished_at=now,
        )
        await self._store.add_deploy(connection, deploy)
        await append(
            connection,
            "deploy.succeeded",
            app=app.name,
            subject=deploy.id,
            actor=change.actor,
            reason=deploy.progress.sentence,
        )
        return deploy

    def _id(self) -> str:
        return f"{int(self._clock() * 1000):012x}{secrets.token_hex(4)}"

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _is_live(kept: Kept, live: Revision, spec: AppSpec) -> bool:
    return kept.deploy is None and kept.app.desired is Desired.RUNNING and spec_digest(live.spec) == spec_digest(spec)


def _shift(release: Release, revision: Revision, kept: Kept, live: Revision | None) -> Shift | None:
    """Return how the deploy begins to move by decisions; None if all moves at once.

    So does what has nothing to be compared with (nothing serves, or the app is stopped), and what replaces the old one
    bit by bit or stops it first: a rollout needs it whole to the end.
    """
    rollout = revision.spec.rollout
    if rollout is None or live is None or release.direct or release.replacing is not None:
        return None
    if kept.app.desired is not Desired.RUNNING or not shifts(live, revision, rollout):
        return None
    services = revision.spec.services
    first = {name: 1 for name in split(live, revision).own if services[name].mode is Mode.REPLICATED}
    return Shift(key=rollout.key, keep_s=rollout.keep_s, replicas=first)


def _way(release: Release, spec: AppSpec, shift: Shift | None) -> str:
    """Say of a deploy whose file asks for a rollout how it goes."""
    if shift is not None:
        return ", beside what serves: a rollout decides who goes to it"
    if spec.rollout is not None and spec.rollout.strategy is not Strategy.DIRECT and release.replacing is not None:
        return f": --order {release.replacing} replaces at once, without a rollout"
    return ""


def _scale(intent: Intent, spec: AppSpec, live: Revision | None) -> dict[str, int]:
    """Return which replicas set by a user hold on: those of services whose file does not say another number now."""
    return {
        name: replicas
        for name, replicas in intent.scale.items()
        if name in spec.services
        and live is not None
        and name in live.spec.services
        and live.spec.services[name].replicas == spec.services[name].replicas
    }


def _auto(intent: Intent, spec: AppSpec, live: Revision | None) -> dict[str, int]:
    """Return what elastic scaling asks for of services that are still there, or would be again."""
    names = {*spec.services, *(live.spec.services if live is not None else ())}
    return {name: replicas for name, replicas in intent.auto.items() if name in names}
