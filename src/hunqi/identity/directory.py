"""All of identity over one database, made in one place."""

from __future__ import annotations

from dataclasses import dataclass

from hunqi.identity.passwords import Passwords
from hunqi.identity.sessions import Authenticator
from hunqi.identity.teams import Teams
from hunqi.identity.tokens import Tokens, forget_app
from hunqi.identity.users import Setup, Users
from hunqi.state.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Users, teams, tokens, the first user, and who a request is."""

    users: Users
    teams: Teams
    tokens: Tokens
    setup: Setup
    authenticator: Authenticator
    database: Database

    async def forget_app(self, app: str) -> None:
        """Take away all rights on an app by name, so that a later app of this name begins with none."""
        async with self.database.begin() as connection:
            await forget_app(connection, app)


def open_directory(database: Database) -> Directory:
    """Return the identity room over ``database``."""
    passwords = Passwords()
    users = Users(database, passwords)
    return Directory(
        users=users,
        teams=Teams(database),
        tokens=Tokens(database),
        setup=Setup(database, passwords),
        authenticator=Authenticator(database, users),
        database=database,
    )
