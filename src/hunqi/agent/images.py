"""Images of this node: what its mirror holds and keeps, and what its engine no longer needs.

The mirror is asked over its operator's socket. It has no question "is this image whole?", so the agent remembers what
it had fetched whole and pinned: pinned content is never evicted, so that stays true until the pin is taken back.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hunqi.agent.errors import NoMirrorError
from hunqi.engine.client import Docker
from hunqi.engine.errors import InUseError, NotFoundError
from hunqi.engine.model import Image
from hunqi.errors import HunqiError
from hunqi.kit.codec import dumps, loads
from hunqi.kit.files import write_atomic
from hunqi.kit.rpc import RpcCaller, RpcError, RpcUnavailableError
from hunqi.nodes.wire import ImageAnswer

_ANSWER_S: Final = 30.0
_SILENCE_S: Final = 600.0
_ARCHITECTURES: Final[Mapping[str, str]] = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptImages:
    """The file: references that are pinned by us, with why, and those of them that are here whole."""

    pins: Mapping[str, str] = field(default_factory=dict[str, str])
    whole: tuple[str, ...] = ()


def own_platform() -> str:
    """Return this machine's platform as images name it (``linux/amd64``)."""
    machine = platform.machine()
    return f"linux/{_ARCHITECTURES.get(machine, machine)}"


def removable(images: Iterable[Image], used: Collection[str], keep: Collection[str], *, prefix: str) -> list[str]:
    """Return the references below ``prefix`` that are neither kept nor of an image (id) in use, in a fixed order.

    What somebody gave a tag is left alone: the platform pulls by digest.
    """
    found = (
        reference
        for image in images
        if image.id not in used and not image.tags
        for reference in image.digests
        if reference.startswith(f"{prefix}/") and reference not in keep
    )
    return sorted(set(found))


class Images:
    """Answers what is asked of images. One order at a time."""

    def __init__(self, docker: Docker, *, mirror_socket: Path | None, directory: Path, prefix: str) -> None:
        """``prefix`` is the mirror's address, as the cluster's references begin with it."""
        self._docker = docker
        self._caller = RpcCaller(mirror_socket) if mirror_socket else None
        self._file = directory / "images.json"
        self._prefix = prefix
        self._lock = asyncio.Lock()
        self._kept: KeptImages | None = None

    async def set_pins(self, pins: Mapping[str, str]) -> ImageAnswer:
        """Keep these (reference → why) and let go what an earlier order kept; ``failures`` are not here."""
        async with self._lock:
            kept = self._load()
            failures: dict[str, str] = {}
            for image in kept.pins.keys() - pins.keys():
                await self._try(failures, image, "operate.unpin", {"image": image})
            # Forgotten only together with the pin: until then another order would take it back again.
            left = {image: kept.pins[image] for image in failures}
            done = [image for image, why in pins.items() if await self._pin(failures, image, why)]
            held = {**left, **{image: pins[image] for image in done}}
            await self._keep(KeptImages(pins=held, whole=tuple(each for each in kept.whole if each in held)))
            return ImageAnswer(done=tuple(done), failures=failures)

    async def warm(self, images: Iterable[str]) -> ImageAnswer:
        """Have the mirror fetch images whole for this machine's platform, and keep them."""
        done: list[str] = []
        failures: dict[str, str] = {}
        for image in images:
            order = {"images": [image], "platforms": [own_platform()]}
            if not await self._try(failures, image, "operate.warm", order, silence_s=_SILENCE_S):
                continue
            async with self._lock:
                kept = self._load()
                if not await self._pin(failures, image, kept.pins.get(image, "to be deployed")):
                    continue
                # Again: between its end and the pin something may have been evicted. What is here takes no time.
                if not await self._try(failures, image, "operate.warm", order, silence_s=_SILENCE_S):
                    continue
                pins = {image: "to be deployed", **kept.pins}
                await self._keep(KeptImages(pins=pins, whole=tuple(sorted({*kept.whole, image}))))
            done.append(image)
        return ImageAnswer(done=tuple(done), failures=failures)

    async def held(self, images: Iterable[str]) -> ImageAnswer:
        """Return which of the images are here whole; nothing is fetched."""
        async with self._lock:
            kept = self._load()
            failures: dict[str, str] = {}
            done: list[str] = []
            for image in images:
                if image not in kept.whole:
                    failures[image] = "it was not fetched here yet"
                elif await self._pin(failures, image, kept.pins.get(image, "to be deployed")):
                    done.append(image)
            return ImageAnswer(done=tuple(done), failures=failures)

    async def prune(self, keep: Iterable[str]) -> ImageAnswer:
        """Remove from the engine the platform's images that are neither kept nor in use; the mirror keeps its own."""
        kept = frozenset(keep)
        used = {each.image_id for each in await self._docker.containers.list(stopped=True)}
        done: list[str] = []
        failures: dict[str, str] = {}
        for reference in removable(await self._docker.images.list(), used, kept, prefix=self._prefix):
            try:
                await self._docker.images.remove(reference)
                done.append(reference)
            except (InUseError, NotFoundError) as error:
                failures[reference] = str(error)
        if done:
            _log.info("removed %d images that nothing needs", len(done))
        return ImageAnswer(done=tuple(done), failures=failures)

    async def reload_mirror(self) -> None:
        """Have the mirror read its settings again: who its peers are stands in the roster's file."""
        if self._caller is None:
            return
        try:
            await asyncio.to_thread(self._caller.call, "operate.reload", {}, timeout_s=_ANSWER_S)
        except (RpcError, RpcUnavailableError) as error:
            _log.warning("the mirror was not told of its peers, and will read of them when it starts: %s", error)

    async def _pin(self, failures: dict[str, str], image: str, why: str) -> bool:
        return await self._try(failures, image, "operate.pin", {"image": image, "reason": f"hunqi: {why}"})

    async def _try(
        self, failures: dict[str, str], image: str, op: str, payload: dict[str, Any], *, silence_s: float = _ANSWER_S
    ) -> bool:
        caller = self._caller
        if caller is None:
            raise NoMirrorError("this node keeps no mirror")
        try:
            await asyncio.to_thread(caller.call, op, payload, timeout_s=silence_s)
        except RpcError as error:
            if op == "operate.unpin":
                return True  # nothing is here that could be let go
            failures[image] = str(error)
            return False
        except RpcUnavailableError as error:
            raise NoMirrorError(f"the node's mirror does not answer: {error}") from error
        return True

    def _load(self) -> KeptImages:
        if self._kept is None:
            try:
                self._kept = loads(KeptImages, self._file.read_bytes())
            except FileNotFoundError:
                self._kept = KeptImages()
            except (OSError, HunqiError) as error:
                _log.warning("%s cannot be read and begins anew: %s", self._file, error)
                self._kept = KeptImages()
        return self._kept

    async def _keep(self, kept: KeptImages) -> None:
        self._kept = kept
        await asyncio.to_thread(write_atomic, self._file, dumps(kept).encode(), mode=0o600)
