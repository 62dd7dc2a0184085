"""The door for machines that have no certificate yet: the cluster's authority, and joins let through to control.

Only these two paths are open to those without a certificate. Control checks the join token; this end bounds what a
stranger can cost.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from hunqi.agent.errors import BadRequestError, NoControlError

MAX_JOIN_BYTES: Final = 64 * 1024
MOST_AT_ONCE: Final = 4
BODY_S: Final = 10.0
CONTROL_S: Final = 30.0


class Door:
    """Answers strangers."""

    def __init__(self, *, ca_file: Path, control_url: str | None) -> None:
        self._ca_file = ca_file
        self._control_url = control_url
        self._room = asyncio.Semaphore(MOST_AT_ONCE)

    async def authority(self, _request: web.Request) -> web.StreamResponse:
        """``GET /v1/ca``: the authority's certificate; whoever asks compares it with the token's fingerprint."""
        return web.json_response({"ca": await asyncio.to_thread(self._ca_file.read_text, "ascii")})

    async def join(self, request: web.Request) -> web.StreamResponse:
        """``POST /v1/join``: hand the request to control on this machine and its answer back."""
        if self._control_url is None:
            raise NoControlError("control does not run on this machine: join by way of a manager's address")
        if request.content_length is None or request.content_length > MAX_JOIN_BYTES:
            raise BadRequestError("this is no request to join")
        try:
            async with asyncio.timeout(BODY_S):
                body = await request.read()
        except TimeoutError as error:
            raise BadRequestError("the request to join did not arrive in time") from error
        timeout = aiohttp.ClientTimeout(total=CONTROL_S)
        async with self._room:
            try:
                async with (
                    aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
                    session.post(
                        f"{self._control_url}/v1/join",
                        data=body,
                        headers={"Content-Type": "application/json"},
                        allow_redirects=False,
                    ) as answer,
                ):
                    return web.Response(
                        status=answer.status, body=await answer.read(), content_type=answer.content_type
                    )
            except (aiohttp.ClientError, TimeoutError) as error:
                raise NoControlError("control does not answer on this machine: try again in a minute") from error
