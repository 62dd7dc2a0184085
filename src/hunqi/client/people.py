"""The first user, logins, tokens, users, teams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from hunqi.client.model import Me, NewToken, Role, TeamView, TokenView, UserView
from hunqi.client.paging import every
from hunqi.client.transport import Transport, path_of


class People:
    """Who may use this Hunqi."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def set_up(self, token: str, name: str, password: str) -> UserView:
        """Make the first user with the setup token."""
        body = {"token": token, "name": name, "password": password}
        return await self._transport.ask("POST", "/v1/setup", body=body)

    async def log_in(self, name: str, password: str, *, token_name: str, days: int | None = 90) -> NewToken:
        """Log in and make a token with all the user's rights, to open a client with; the session is ended."""
        me: Me = await self._transport.ask("POST", "/v1/login", body={"name": name, "password": password})
        scopes = ["admin"] if me["admin"] else []
        headers = {"X-CSRF-Token": me["csrf"] or ""}
        body = {"name": token_name, "scopes": scopes, "days": days}
        async with self._transport.open("POST", "/v1/tokens", body=body, headers=headers) as response:
            made: NewToken = await response.json()
        async with self._transport.open("POST", "/v1/logout", headers=headers):
            return made

    async def me(self) -> Me:
        """Return who the client's credentials are of."""
        return await self._transport.ask("GET", "/v1/me")

    async def change_password(self, present: str, password: str) -> None:
        """Change the caller's own password."""
        await self._transport.ask("PUT", "/v1/me/password", body={"present": present, "password": password})

    def tokens(self) -> AsyncIterator[TokenView]:
        """Yield the tokens that are the caller's to see."""
        return every(self._transport, "/v1/tokens")

    async def create_token(
        self, name: str, scopes: Sequence[str] = (), *, kind: str = "personal", days: int | None = 90
    ) -> NewToken:
        """Make a token (``personal`` or ``machine``); its secret is shown only now."""
        body = {"name": name, "scopes": list(scopes), "kind": kind, "days": days}
        return await self._transport.ask("POST", "/v1/tokens", body=body)

    async def registry_login(self) -> Mapping[str, Any]:
        """Make a password for ``docker login`` at the accelerators: ``username``, ``password``, ``grants``."""
        return await self._transport.ask("POST", "/v1/registry-login")

    async def revoke_token(self, token: str) -> None:
        """Make a token (by id) useless."""
        await self._transport.ask("DELETE", path_of("tokens", token))

    def users(self) -> AsyncIterator[UserView]:
        """Yield all users."""
        return every(self._transport, "/v1/users")

    async def create_user(self, name: str, password: str | None = None, *, admin: bool = False) -> UserView:
        """Make a user."""
        return await self._transport.ask("POST", "/v1/users", body={"name": name, "password": password, "admin": admin})

    async def change_user(self, name: str, changes: Mapping[str, Any]) -> UserView:
        """Change password, admin or disabled of a user."""
        return await self._transport.ask("PATCH", path_of("users", name), body=dict(changes))

    async def remove_user(self, name: str) -> None:
        """Remove a user."""
        await self._transport.ask("DELETE", path_of("users", name))

    def teams(self) -> AsyncIterator[TeamView]:
        """Yield the teams that the caller may see."""
        return every(self._transport, "/v1/teams")

    async def show_team(self, team: str) -> TeamView:
        """Return one team, by name or id."""
        return await self._transport.ask("GET", path_of("teams", team))

    async def create_team(self, name: str, quota: Mapping[str, float] | None = None) -> TeamView:
        """Make a team."""
        return await self._transport.ask("POST", "/v1/teams", body={"name": name, "quota": dict(quota or {})})

    async def set_quota(self, team: str, quota: Mapping[str, float]) -> TeamView:
        """Replace a team's limits."""
        return await self._transport.ask("PATCH", path_of("teams", team), body={"quota": dict(quota)})

    async def set_images(self, team: str, images: Sequence[str]) -> TeamView:
        """Replace the repositories of others (``docker.io/acme``) whose images a team's apps may run."""
        return await self._transport.ask("PATCH", path_of("teams", team), body={"images": list(images)})

    async def remove_team(self, team: str) -> None:
        """Remove a team that owns no app."""
        await self._transport.ask("DELETE", path_of("teams", team))

    async def set_member(self, team: str, user: str, role: Role | None) -> TeamView:
        """Give a user a role in a team, or take it."""
        path = path_of("teams", team, "members", user)
        if role is None:
            return await self._transport.ask("DELETE", path)
        return await self._transport.ask("PUT", path, body={"role": role})
