"""What can be asked of rollouts. The interface calls ``Rollouts``; ``AppRollouts`` answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from hunqi.apps.asked import Change, Deploy
from hunqi.apps.operations import AppOperations
from hunqi.errors import DependencyError
from hunqi.rollouts.beginning import served_before
from hunqi.rollouts.commands import Verb, said_to
from hunqi.rollouts.controller import RolloutController
from hunqi.rollouts.errors import RolloutRefusedError
from hunqi.rollouts.model import Look
from hunqi.rollouts.states import State
from hunqi.rollouts.store import RolloutStore
from hunqi.rollouts.views import RolloutView, view_of


class Rollouts(Protocol):
    """Rollouts of apps. All that name an app raise ``RolloutNotFoundError`` for one that never had any."""

    async def list(self) -> Sequence[RolloutView]:
        """Return each app's last one, by app."""
        ...

    async def show(self, app: str) -> RolloutView:
        """Return an app's last one."""
        ...

    async def looks(self, app: str) -> Sequence[Look]:
        """Return what was seen of it, oldest first."""
        ...

    async def say(self, app: str, verb: Verb, change: Change) -> RolloutView:
        """Have it do something. Raises ``RolloutRefusedError`` where it cannot."""
        ...

    async def retry(self, app: str, change: Change) -> Deploy:
        """Begin one anew that was aborted or failed, from its first step. Raises ``RolloutRefusedError``."""
        ...

    async def undo(self, app: str, change: Change) -> Deploy:
        """Go back to the revision that served before, without steps if that is within the window.

        Of one under way that is an abort; the deploy is then its own. Raises ``RolloutRefusedError``.
        """
        ...


class AppRollouts:
    """Rollouts as kept, and the controller that is told of what is said to them."""

    def __init__(
        self, store: RolloutStore, apps: AppOperations, controller: RolloutController, *, clock: Callable[[], float]
    ) -> None:
        self._store: Final = store
        self._apps = apps
        self._controller = controller
        self._clock = clock

    async def list(self) -> Sequence[RolloutView]:
        """Return each app's last one, by app."""
        return [view_of(each) for each in await self._store.newest_of_all()]

    async def show(self, app: str) -> RolloutView:
        """Return an app's last one; that of a deploy which has just begun too, though no round has seen it."""
        with suppress(DependencyError):  # another process leads, or Docker is away: what is kept is shown
            await self._controller.begin(app)
        return view_of(await self._store.newest(app))

    async def looks(self, app: str) -> Sequence[Look]:
        """Return what was seen of it, oldest first."""
        return await self._store.looks((await self._store.newest(app)).id)

    async def say(self, app: str, verb: Verb, change: Change) -> RolloutView:
        """Have it do something. See ``Rollouts``."""
        await self._controller.begin(app)
        now = self._clock()
        rollout = await self._store.change(app, lambda held: said_to(held, verb, change, now), actor=change.actor)
        self._controller.wake()
        return view_of(rollout)

    async def retry(self, app: str, change: Change) -> Deploy:
        """Begin one anew. See ``Rollouts``."""
        rollout = await self._store.newest(app)
        if rollout.state not in {State.ABORTED, State.ABORTING, State.FAILED}:
            raise RolloutRefusedError(
                f"the rollout of revision {rollout.revision} is {rollout.state}: only one that was aborted or failed "
                "is tried again"
            )
        why = change.reason or f"revision {rollout.revision} is tried again"
        deploy = await self._apps.deploys.rollback(app, rollout.revision, Change(actor=change.actor, reason=why))
        self._controller.wake()
        return deploy

    async def undo(self, app: str, change: Change) -> Deploy:
        """Go back to the revision that served before. See ``Rollouts``."""
        rollout = await self._store.newest(app)
        if rollout.state.undecided:
            why = Change(actor=change.actor, reason=change.reason or "undone")
            await self.say(app, Verb.ABORT, why)
            return await self._apps.deploys.find(app, rollout.deploy)
        if not rollout.state.ended:
            raise RolloutRefusedError(
                f"the rollout of revision {rollout.revision} is {rollout.state}: ask again in a few seconds"
            )
        if rollout.state is not State.SUCCEEDED:
            raise RolloutRefusedError(
                f"revision {rollout.revision} never took over, so there is nothing to undo: "
                f"hunqi app rollback {app} goes back behind revision {rollout.stable}"
            )
        served = await served_before(app, self._apps)
        if len(served) < 2:
            raise RolloutRefusedError(f"{app} has no revision that served before revision {rollout.revision}")
        why = change.reason or f"back to revision {served[1]}"
        window = rollout.spec.undo_window
        deploy = await self._apps.deploys.rollback(
            app, served[1], Change(actor=change.actor, reason=why), direct=window >= 1
        )
        self._controller.wake()
        return deploy
