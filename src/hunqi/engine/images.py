"""Images of this node."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from hunqi.engine import parse
from hunqi.engine.errors import EngineFailedError, NotFoundError
from hunqi.engine.model import JSON, Image, PullProgress, RegistryAuth
from hunqi.engine.transport import Body, Transport, auth_headers, filters, labelled, quoted

LINE_BYTES: Final = 1024 * 1024
_LOAD_S: Final = 3600.0
_PRUNE_S: Final = 600.0
_FIRST_ANSWER_S: Final = 120.0


class Progress:
    """What Docker says while it pulls, loads or imports; a failure is raised where it is said."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._rest = b""
        self._ready: list[JSON] = []

    def __aiter__(self) -> Progress:
        """Iterate over the lines as they come."""
        return self

    async def __anext__(self) -> PullProgress:
        """Return the next line. Raises ``NotFoundError``, ``EngineFailedError`` with Docker's reason."""
        while not self._ready:
            data = await self._body.read()
            *lines, self._rest = ((self._rest + data) if data else self._rest + b"\n").split(b"\n")
            if len(self._rest) > LINE_BYTES:
                raise EngineFailedError("a line of Docker's progress is larger than a MiB")
            self._ready += [_said(line) for line in lines if line.strip()]
            if not data and not self._ready:
                raise StopAsyncIteration
        said = self._ready.pop(0)
        if (reason := _failure(said)) is not None:
            lowered = reason.lower()
            kind = NotFoundError if "not found" in lowered or "manifest unknown" in lowered else EngineFailedError
            raise kind(f"Docker: {reason}")
        detail = parse.part(said, "progressDetail")
        return PullProgress(
            status=str(said.get("status") or said.get("stream") or "").strip(),
            layer=str(said.get("id", "")),
            current_bytes=detail.get("current"),
            total_bytes=detail.get("total"),
        )


class Images:
    """Images, by id or reference."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(
        self, labels: Mapping[str, str] | None = None, *, references: Iterable[str] | None = None
    ) -> list[Image]:
        """Return the images with all of these labels that match a reference (``repo``, ``repo:tag``, ``repo*``)."""
        params = {"filters": filters(label=labelled(labels), reference=references)}
        answer = await self._transport.call("GET", "/images/json", params=params)
        return [parse.image(item) for item in parse.items(answer, "images")]

    async def inspect(self, image: str) -> Image:
        """Return an image. Raises ``NotFoundError``."""
        return parse.image(await self.detail(image))

    async def detail(self, image: str) -> JSON:
        """Return Docker's whole answer (``Config`` has user, ports, volumes, command). Raises ``NotFoundError``."""
        return parse.fields(await self._transport.call("GET", f"/images/{_reference(image)}/json"), "image")

    @asynccontextmanager
    async def pull(self, reference: str, *, auth: RegistryAuth | None = None) -> AsyncGenerator[Progress]:
        """Pull ``repository@sha256:…`` or ``repository:tag``; done when the progress has ended.

        Raises the engine's errors here or while iterating: ``NotFoundError`` if the registry has it not.
        """
        async with self._transport.stream(
            "POST",
            "/images/create",
            params={"fromImage": reference},
            headers=auth_headers(auth),
            timeout_s=_FIRST_ANSWER_S,
        ) as body:
            yield Progress(body)

    async def import_tar(
        self, tar: AsyncIterable[bytes], *, repository: str, tag: str, changes: Sequence[str] = ()
    ) -> str:
        """Make an image of a root file system's tar and return its id; ``changes`` are Dockerfile lines."""
        params = {"fromSrc": "-", "repo": repository, "tag": tag, "changes": "\n".join(changes) or None}
        async with self._transport.stream("POST", "/images/create", params=params, body=tar, timeout_s=_LOAD_S) as body:
            last = ""
            async for said in Progress(body):
                last = said.status or last
        return last

    async def load(self, tar: AsyncIterable[bytes]) -> None:
        """Take in an archive as ``docker save`` makes it. Raises ``EngineFailedError`` with Docker's reason."""
        async with self._transport.stream(
            "POST", "/images/load", params={"quiet": True}, body=tar, timeout_s=_LOAD_S
        ) as body:
            async for _ in Progress(body):
                pass

    async def tag(self, image: str, *, repository: str, tag: str) -> None:
        """Give an image a further name. Raises ``NotFoundError``."""
        params = {"repo": repository, "tag": tag}
        await self._transport.call("POST", f"/images/{_reference(image)}/tag", params=params)

    async def remove(self, image: str, *, force: bool = False) -> None:
        """Remove a name, and the image with its last one. Raises ``NotFoundError``, ``InUseError``."""
        params = {"force": force}
        await self._transport.call("DELETE", f"/images/{_reference(image)}", params=params, timeout_s=_PRUNE_S)

    async def prune(self, *, labels: Mapping[str, str] | None = None, unused: bool = False) -> int:
        """Remove images without a name, or all that no container uses, and return the bytes won back."""
        asked = filters(label=labelled(labels), dangling=["false" if unused else "true"])
        answer = await self._transport.call("POST", "/images/prune", params={"filters": asked}, timeout_s=_PRUNE_S)
        return parse.fields(answer, "pruned")["SpaceReclaimed"]


def _reference(image: str) -> str:
    """Return a reference as components of a path, none of which can climb."""
    return "/".join(quoted(part) for part in image.split("/"))


def _failure(said: JSON) -> str | None:
    """Return why it failed. ``error`` is deprecated since API 1.48 and goes; ``errorDetail`` says the same."""
    if not said.keys() & {"error", "errorDetail"}:
        return None
    return str(parse.part(said, "errorDetail").get("message") or said.get("error") or "no reason given")


def _said(line: bytes) -> JSON:
    try:
        data: Any = json.loads(line)
    except ValueError as error:
        raise EngineFailedError(f"a line of Docker's progress is no JSON: {line[:200]!r}") from error
    return parse.fields(data, "progress")
