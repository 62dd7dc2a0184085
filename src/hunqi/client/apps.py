"""Apps, deploys, revisions, and what changes a running app."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from hunqi.client.model import AppView, Checked, Deploy, Difference, MemberView, RevisionSummary, Role
from hunqi.client.paging import every
from hunqi.client.project import LocalProject, complete
from hunqi.client.transport import Transport, path_of


class Apps:
    """What apps there are, and who may what with them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def all(self) -> AsyncIterator[AppView]:
        """Yield the apps that the caller may see, by name."""
        return every(self._transport, "/v1/apps")

    async def show(self, app: str) -> AppView:
        """Return one app."""
        return await self._transport.ask("GET", path_of("apps", app))

    async def remove(self, app: str, *, volumes: bool = False, reason: str = "") -> None:
        """Drain and remove everything of the app, with ``volumes`` its data too."""
        query = {"volumes": volumes, "reason": reason or None}
        await self._transport.ask("DELETE", path_of("apps", app), query=query)

    def grants(self, app: str) -> AsyncIterator[MemberView]:
        """Yield who has a role on the app besides its team."""
        return every(self._transport, path_of("apps", app, "grants"))

    async def set_grant(self, app: str, user: str, role: Role | None) -> None:
        """Give a user a role on the app, or take it."""
        path = path_of("apps", app, "grants", user)
        if role is None:
            await self._transport.ask("DELETE", path)
        else:
            await self._transport.ask("PUT", path, body={"role": role})


class Deploys:
    """Deploys and revisions."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def check(self, app: str, project: LocalProject, options: Mapping[str, Any] | None = None) -> Checked:
        """Say what a deploy would do. ``options`` are members of the body besides the files: images, strict, order …

        Raises ``ProjectFilesError`` too.
        """

        async def send(body: Mapping[str, Any]) -> Checked:
            return await self._transport.ask("POST", path_of("apps", app, "check"), body=body)

        return await complete(project, options or {}, send)

    async def deploy(self, app: str, project: LocalProject, options: Mapping[str, Any] | None = None) -> Deploy:
        """Begin to deploy a project; ``options`` as in :meth:`check`, and ``reason``. Raises as :meth:`check`."""

        async def send(body: Mapping[str, Any]) -> Deploy:
            return await self._transport.ask("POST", path_of("apps", app, "deploys"), body=body)

        return await complete(project, options or {}, send)

    def all(self, app: str) -> AsyncIterator[Deploy]:
        """Yield deploys, newest first."""
        return every(self._transport, path_of("apps", app, "deploys"))

    async def show(self, app: str, deploy: str) -> Deploy:
        """Return one with its progress."""
        return await self._transport.ask("GET", path_of("apps", app, "deploys", deploy))

    async def cancel(self, app: str, deploy: str, *, reason: str = "") -> Deploy:
        """Have the old revision go on."""
        path = path_of("apps", app, "deploys", deploy, "cancel")
        return await self._transport.ask("POST", path, body={"reason": reason})

    @asynccontextmanager
    async def follow(self, app: str, deploy: str) -> AsyncGenerator[AsyncIterator[Deploy]]:
        """Open the progress of a deploy: the whole of it at each change, the last one ended."""
        async with self._transport.events(path_of("apps", app, "deploys", deploy, "events")) as events:
            yield (each.data async for each in events)

    async def rollback(self, app: str, revision: int, *, reason: str = "") -> Deploy:
        """Begin to deploy a retained revision again."""
        body = {"revision": revision, "reason": reason}
        return await self._transport.ask("POST", path_of("apps", app, "rollback"), body=body)

    def revisions(self, app: str) -> AsyncIterator[RevisionSummary]:
        """Yield revisions, newest first."""
        return every(self._transport, path_of("apps", app, "revisions"))

    async def revision(self, app: str, number: int) -> dict[str, Any]:
        """Return a revision whole, spec included."""
        return await self._transport.ask("GET", path_of("apps", app, "revisions", number))

    async def diff(self, app: str, before: int, after: int) -> list[Difference]:
        """Return where two revisions differ."""
        page = await self._transport.ask("GET", path_of("apps", app, "revisions", before, "diff", after))
        return page["items"]


class Lifecycle:
    """Changes of a running app that make no revision; each returns the app as it is then."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def scale(self, app: str, replicas: Mapping[str, int], *, reason: str = "") -> AppView:
        """Set the replicas of services."""
        return await self._post(app, "scale", {"replicas": dict(replicas), "reason": reason})

    async def restart(self, app: str, services: Sequence[str] = (), *, reason: str = "") -> AppView:
        """Replace every task of services, of all if none is named."""
        return await self._post(app, "restart", {"services": list(services), "reason": reason})

    async def stop(self, app: str, *, reason: str = "") -> AppView:
        """Drain and stop all tasks."""
        return await self._post(app, "stop", {"reason": reason})

    async def start(self, app: str, *, reason: str = "") -> AppView:
        """Start a stopped app again."""
        return await self._post(app, "start", {"reason": reason})

    async def maintenance(self, app: str, text: str | None, *, reason: str = "") -> AppView:
        """Answer every route with ``text``, or with the app again."""
        return await self._post(app, "maintenance", {"text": text, "reason": reason})

    async def _post(self, app: str, verb: str, body: Mapping[str, Any]) -> AppView:
        return await self._transport.ask("POST", path_of("apps", app, verb), body=body)
