"""Clients that read: whole blobs, ranges, manifests, heads, and some that leave in the middle."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tools.soak.tally import Tally

from testbed.client import MANIFEST_TYPES, Answer, fetch
from testbed.images import Image, Manifest
from testbed.mirror import RunningMirror

_TIMEOUT_S: Final = 30.0
_PAUSE_S: Final = 0.2
_SLOW_S: Final = 0.7
"""How long a client that leaves stays before it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What there is to read: mirrored images by repository, as it stands in the path."""

    images: Mapping[str, Image]
    fickle: frozenset[str]
    """Repositories whose upstream may truthfully seem to lack or to forbid something."""


class Reading:
    """The work of one reading thread."""

    def __init__(self, mirror: RunningMirror, shelf: Shelf, tally: Tally, *, seed: int) -> None:
        """Choose by ``seed``."""
        self._mirror = mirror
        self._shelf = shelf
        self._tally = tally
        self._rng = random.Random(f"reader {seed}")

    def run(self, over: Callable[[], bool]) -> None:
        """Read until ``over()``."""
        actions = (self._whole, self._range, self._manifest, self._head, self._leave)
        while not over():
            (action,) = self._rng.choices(actions, weights=(45, 20, 15, 5, 15))
            action()

    def _whole(self) -> None:
        repository, digest, data = self._choose()
        self._ask("blob", repository, f"blobs/{digest}", data)

    def _range(self) -> None:
        repository, digest, data = self._choose()
        first = self._rng.randrange(len(data))
        last = self._rng.randrange(first, len(data))
        text, part = self._rng.choice(
            [
                (f"{first}-", data[first:]),
                (f"{first}-{last}", data[first : last + 1]),
                (f"-{len(data) - first}", data[first:]),
            ]
        )
        self._ask("range", repository, f"blobs/{digest}", part, {"Range": f"bytes={text}"})

    def _manifest(self) -> None:
        repository = self._rng.choice(list(self._shelf.images))
        root: Manifest = self._shelf.images[repository].root
        reference = self._rng.choice(["latest", root.digest])
        self._ask("manifest", repository, f"manifests/{reference}", root.data, {"Accept": MANIFEST_TYPES})

    def _head(self) -> None:
        repository, digest, data = self._choose()
        answer = self._fetch(repository, f"blobs/{digest}", method="HEAD")
        if answer is None:
            return
        if answer.status == 200 and answer.promised_bytes != len(data):
            self._tally.defect("wrong", f"HEAD {repository} {digest}: {answer.promised_bytes} bytes, not {len(data)}")
        self._take("head", repository, answer, is_whole=answer.status == 200)

    def _leave(self) -> None:
        """Read some and leave: at once, or slowly."""
        repository, digest, data = self._choose()
        most = self._rng.randrange(1, len(data))
        patience_s = self._rng.choice([_SLOW_S, _TIMEOUT_S])
        answer = self._fetch(repository, f"blobs/{digest}", stop_after_bytes=most, deadline_s=patience_s)
        if answer is not None:
            self._tally.answer("blob", answer.status, outcome="left")

    def _choose(self) -> tuple[str, str, bytes]:
        repository = self._rng.choice(list(self._shelf.images))
        image = self._shelf.images[repository]
        digest = self._rng.choice(list(image.blobs))
        return repository, digest, image.blobs[digest]

    def _ask(
        self, kind: str, repository: str, target: str, right: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        answer = self._fetch(repository, target, headers=headers)
        if answer is None:
            return
        if answer.is_whole and answer.body != right:
            self._tally.defect("wrong", f"{kind} {repository}/{target} {headers or ''}: a complete body that is wrong")
        self._take(kind, repository, answer, is_whole=answer.is_whole)

    def _take(self, kind: str, repository: str, answer: Answer, *, is_whole: bool) -> None:
        if answer.status == 500:
            self._tally.defect("internal", f"{kind} {repository}: 500 {answer.body[:300]!r}")
        if answer.status == 404 and repository not in self._shelf.fickle:
            self._tally.defect("unknown", f"{kind} {repository}: 404 {answer.body[:300]!r}")
        outcome = "whole" if is_whole else "cut" if answer.status in {0, 200, 206} else "refused"
        self._tally.answer(kind, answer.status, outcome=outcome)
        if outcome != "whole":
            time.sleep(_PAUSE_S)

    def _fetch(
        self,
        repository: str,
        target: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        stop_after_bytes: int | None = None,
        deadline_s: float = 600.0,
    ) -> Answer | None:
        url = f"{self._mirror.base_url}/v2/{repository}/{target}"
        try:
            return fetch(
                url,
                method=method,
                headers=headers,
                timeout_s=_TIMEOUT_S,
                stop_after_bytes=stop_after_bytes,
                deadline_s=deadline_s,
            )
        except TimeoutError:
            self._tally.defect("hung", f"{method} {url} {headers or ''}: nothing for {_TIMEOUT_S} s")
        except OSError:
            self._tally.answer("connection", 0, outcome="refused")
            time.sleep(_PAUSE_S)
        return None
