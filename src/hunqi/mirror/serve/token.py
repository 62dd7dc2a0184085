"""The token endpoint: credentials in, a bearer token for what they may do out.

Source of the form: distribution, "Token Authentication Specification" (GET) and "OAuth2 Token Authentication" (POST).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from hunqi.errors import UserError
from hunqi.mirror.access.gate import Gate, LoginRefused, TokenAnswer
from hunqi.mirror.access.model import Action, Caller, Scope, ScopeKind
from hunqi.mirror.access.scopes import parse_scopes
from hunqi.mirror.names import Target
from hunqi.mirror.serve.door import Door
from hunqi.mirror.serve.wire import error_reply
from hunqi.oci.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """Answers ``/token``."""

    gate: Gate
    door: Door

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer GET (Basic) and POST (a form with ``username`` and ``password``)."""
        if request.method == "GET":
            caller = await self.door.caller(request)
            scopes = parse_scopes(request.query.getall("scope", []))
        elif request.method == "POST":
            form = await request.post()
            if form.get("grant_type") != "password":
                return error_reply(ErrorCode.UNSUPPORTED, "only grant_type=password is possible here", status=400)
            caller = await asyncio.to_thread(
                self.gate.login, str(form.get("username", "")), str(form.get("password", ""))
            )
            scopes = parse_scopes(str(scope) for scope in form.getall("scope", []))
        else:
            return error_reply(ErrorCode.UNSUPPORTED, f"{request.method} is not possible here", status=405)
        return await self._issue(caller, scopes)

    async def _issue(self, caller: Caller, scopes: tuple[Scope, ...]) -> web.Response:
        public = {target: await self.door.is_public(target, None) for target in self._mirrored(scopes)}
        try:
            answer = self.gate.token(
                caller,
                scopes,
                resolve=self.door.names.resolve,
                public=lambda target: public.get(target, False),
            )
        except LoginRefused as error:
            headers = {"WWW-Authenticate": 'Basic realm="hunqi"'}
            return error_reply(ErrorCode.UNAUTHORIZED, str(error), headers=headers)
        return web.json_response(_document(answer), headers={"Cache-Control": "no-store"})

    def _mirrored(self, scopes: tuple[Scope, ...]) -> set[Target]:
        targets: set[Target] = set()
        for scope in scopes:
            if scope.kind is not ScopeKind.REPOSITORY or Action.PUSH in scope.actions:
                continue
            try:
                target = self.door.names.resolve(scope.name)
            except UserError:
                continue
            if not target.is_local:
                targets.add(target)
        return targets


def _document(answer: TokenAnswer) -> dict[str, object]:
    return {
        "token": answer.token,
        "access_token": answer.token,
        "expires_in": answer.expires_in_s,
        "issued_at": answer.issued_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
