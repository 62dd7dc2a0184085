"""The token endpoint: credentials in, a bearer token for what they may do out.

Source of the form: distribution, "Token Authentication Specification" (GET) and "OAuth2 Token Authentication" (POST).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from aiohttp import web

from hunqi.errors import UserError
from hunqi.mirror.access.gate import Gate, LoginRefused, TokenAnswer
from hunqi.mirror.access.model import FOREIGN, Action, Caller, Scope, ScopeKind
from hunqi.mirror.access.scopes import parse_scopes
from hunqi.mirror.names import Target
from hunqi.mirror.serve.door import Door
from hunqi.mirror.serve.upload_body import RequestBody
from hunqi.mirror.serve.wire import error_reply
from hunqi.oci.errors import ErrorCode

_FORM_BYTES: Final = 64 * 1024
_FIELDS: Final = 100
_STALL_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """Answers ``/token``."""

    gate: Gate
    door: Door

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer GET (Basic) and POST (a form with ``username`` and ``password``, or with another's token)."""
        if request.method == "GET":
            caller = await self.door.caller(request)
            return await self._issue(caller, parse_scopes(request.query.getall("scope", [])))
        if request.method != "POST":
            return error_reply(ErrorCode.UNSUPPORTED, f"{request.method} is not possible here", status=405)
        body = await RequestBody(request, stall_timeout_s=_STALL_S).read_whole(_FORM_BYTES)
        try:
            form = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS)
        except ValueError:
            return error_reply(ErrorCode.UNSUPPORTED, "the body is not a form", status=400)
        return await self._issue(await self._caller_of(form, request), parse_scopes(form.get("scope", [])))

    async def _caller_of(self, form: Mapping[str, list[str]], request: web.BaseRequest) -> Caller:
        """Return who a form is from; no refresh token is ours, so one is another registry's, as Docker hands it on."""
        match form.get("grant_type"):
            case ["password"]:
                name, password = form.get("username", [""])[0], form.get("password", [""])[0]
                return await self.door.logins.login(name, password, client=request.remote)
            case _:
                return FOREIGN

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
