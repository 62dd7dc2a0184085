"""Images at this node's accelerator: a tag becomes a digest, and a reference that is the same on every node.

``nginx:1.25`` becomes ``127.0.0.1:5000/docker.io/library/nginx@sha256:…``. The accelerator is asked by HTTP on
loopback; it asks its peers and the upstream. Of an index the digest is kept, so that each node takes its own platform;
that the nodes' platforms are in it is checked here, so that it does not fail on one of them later.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from hunqi.apps.errors import AcceleratorError, ImageError
from hunqi.apps.ports import Pinned
from hunqi.oci.digest import Digest
from hunqi.oci.reference import ImageReference

_ACCEPT: Final = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_INDEXES: Final = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "i386": "386"}
_MANIFEST_BYTES: Final = 4 * 1024 * 1024
_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 60.0
"""The accelerator may have to ask a slow upstream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A read-only user of the accelerator."""

    username: str
    password: str = field(repr=False)


class Accelerator:
    """This node's accelerator at ``address`` (``127.0.0.1:5000``)."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self.address: Final = address

    async def resolve(self, image: str, *, platforms: Collection[str], login: Login | None = None) -> Pinned:
        """Resolve a reference as ``login`` may read it; ``platforms`` are the nodes' own, like ``linux/x86_64``.

        Raises ``ImageError`` (none there, none for a node's platform, or it may not be had), ``AcceleratorError``.
        """
        reference = ImageReference.parse(image)
        path = self.path_of(reference)
        async with self._ask("HEAD", path, str(reference.reference), login) as answer:
            self._check(answer, image)
            digest_text = answer.headers.get("Docker-Content-Digest", "")
            kind = answer.content_type
        digest = Digest.parse(digest_text) if digest_text else reference.digest
        if digest is None:
            raise AcceleratorError(f"the accelerator gives no digest for {image}")
        if kind in _INDEXES:
            await self._check_platforms(image, path, str(digest), platforms, login)
        return Pinned(reference=f"{self.address}/{path}@{digest}", digest=str(digest))

    def path_of(self, reference: ImageReference) -> str:
        """Return the repository of a reference at the accelerator."""
        if reference.host in {self.address, f"localhost:{self.address.rpartition(':')[2]}"}:
            return reference.repository
        return f"{reference.host}/{reference.repository}"

    async def _check_platforms(
        self, image: str, path: str, digest: str, platforms: Collection[str], login: Login | None
    ) -> None:
        async with self._ask("GET", path, digest, login) as answer:
            self._check(answer, image)
            try:
                body = await answer.content.read(_MANIFEST_BYTES)
                index: Mapping[str, Any] = json.loads(body)
                there = set(_platforms(index.get("manifests", ())))
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                raise ImageError(f"the index of {image} cannot be read: {error}") from error
        missing = sorted({_platform(each) for each in platforms} - there)
        if missing and there:
            raise ImageError(
                f"{image} is there for {', '.join(sorted(there))}, but nodes need {', '.join(missing)}: "
                "choose another image, or place the service by node.platform.arch"
            )

    @asynccontextmanager
    async def _ask(
        self, method: str, path: str, reference: str, login: Login | None
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        headers = {"Accept": _ACCEPT}
        if login is not None:
            headers["Authorization"] = aiohttp.encode_basic_auth(login.username, login.password)
        url = f"http://{self.address}/v2/{path}/manifests/{reference}"
        timeout = aiohttp.ClientTimeout(connect=_CONNECT_S, total=_ANSWER_S)
        try:
            async with self._session.request(
                method, url, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                yield answer
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise AcceleratorError(
                f"the accelerator at {self.address} does not answer: {error or 'in time'}; hunqi status shows why"
            ) from error

    def _check(self, answer: aiohttp.ClientResponse, image: str) -> None:
        match answer.status:
            case 200:
                return
            case 401 | 403:
                raise ImageError(
                    f"{image} may not be run here: it is private, or is not there. Push it below an app of the "
                    "team, or let an administrator give the team its repository, and the accelerator a login for it"
                )
            case 404:
                raise ImageError(f"there is no image {image}: push it, or correct its name")
            case 429:
                raise AcceleratorError(f"the registry of {image} limits us: try again later")
            case status:
                raise AcceleratorError(f"the accelerator answers {status} for {image}: try again, or see its log")


def _platforms(manifests: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for each in manifests:
        platform: Mapping[str, str] = each.get("platform") or {}
        if platform.get("os") not in {None, "unknown"}:
            yield f"{platform['os']}/{platform['architecture']}"


def _platform(node: str) -> str:
    system, _, machine = node.partition("/")
    return f"{system}/{_ARCHITECTURES.get(machine, machine)}"
