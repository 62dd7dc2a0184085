"""Clients that push: whole images, uploads that are aborted, resumed or left lying, deletes; all is read back.

What was acknowledged and not deleted must be there ever after, through every kill and eviction.
"""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from tools.soak.tally import Tally

from testbed import images
from testbed.client import MANIFEST_TYPES, fetch
from testbed.images import Image, Pusher, PushError
from testbed.mirror import RunningMirror

_KEPT: Final = 8
_TIMEOUT_S: Final = 30.0
_PAUSE_S: Final = 0.3
_TRANSIENT: Final = (OSError, http.client.HTTPException)
_WRONG_STATUS: Final = frozenset({400, 401, 403, 404, 405, 500})
"""Never an answer to what these clients do; 404 is answered when an upload is not known, which is a loss too."""


@dataclass(frozen=True, slots=True)
class _Pushed:
    repository: str
    tag: str
    image: Image


class Pushing:
    """The work of one pushing thread, in a namespace of its own."""

    def __init__(self, mirror: RunningMirror, tally: Tally, *, seed: int) -> None:
        """Choose by ``seed``."""
        self._mirror = mirror
        self._tally = tally
        self._namespace = f"team{seed}"
        self._rng = random.Random(f"pusher {seed}")
        self._kept: list[_Pushed] = []
        self._number = 0

    def run(self, over: Callable[[], bool]) -> None:
        """Push and read back until ``over()``, then read everything back once more."""
        actions = (self._push, self._read_back, self._upload, self._delete)
        while not over():
            (action,) = self._rng.choices(actions, weights=(25, 50, 20, 5))
            try:
                action()
            except _TRANSIENT:
                self._tally.count("push failed")
                time.sleep(_PAUSE_S)
            time.sleep(_PAUSE_S / 10)
        for pushed in self._kept:
            self._check(pushed)

    def _push(self) -> None:
        self._number += 1
        sizes = [self._rng.randrange(1, 2 * images.MIB) for _ in range(self._rng.randrange(1, 4))]
        image = images.opaque(sizes, seed=(self._namespace, self._number))
        pushed = _Pushed(f"{self._namespace}/app{self._rng.randrange(3)}", f"v{self._number}", image)
        try:
            Pusher(base_url=self._mirror.base_url, timeout_s=_TIMEOUT_S).push(image, pushed.repository, pushed.tag)
        except PushError as error:
            self._refused(str(error))
            return
        self._tally.count("pushed")
        self._kept.append(pushed)
        if len(self._kept) > _KEPT:
            self._delete()

    def _read_back(self) -> None:
        if self._kept:
            self._check(self._rng.choice(self._kept))

    def _check(self, pushed: _Pushed) -> None:
        """Read a manifest and a blob of what was acknowledged."""
        base = f"{self._mirror.base_url}/v2/{pushed.repository}"
        digest = self._rng.choice(list(pushed.image.blobs))
        reference = self._rng.choice([pushed.tag, pushed.image.digest])
        for target, right in (
            (f"manifests/{reference}", pushed.image.root.data),
            (f"blobs/{digest}", pushed.image.blobs[digest]),
        ):
            answer = fetch(f"{base}/{target}", headers={"Accept": MANIFEST_TYPES}, timeout_s=_TIMEOUT_S)
            if answer.is_whole and answer.body != right:
                self._tally.defect("wrong", f"pushed {pushed.repository}/{target}: a complete body that is wrong")
            elif answer.status not in {0, 200, 503}:
                self._tally.defect(
                    "lost", f"pushed {pushed.repository}/{target}: {answer.status} {answer.body[:200]!r}"
                )
            outcome = "whole" if answer.is_whole else "refused"
            self._tally.answer("pushed", answer.status, outcome=outcome)

    def _delete(self) -> None:
        """Delete one image; from the moment of asking nothing is promised of it."""
        if not self._kept:
            return
        pushed = self._kept.pop(self._rng.randrange(len(self._kept)))
        url = f"{self._mirror.base_url}/v2/{pushed.repository}/manifests/{pushed.image.digest}"
        answer = fetch(url, method="DELETE", timeout_s=_TIMEOUT_S)
        self._tally.count("deleted" if answer.status == 202 else "push failed")

    def _upload(self) -> None:
        """Send a part of a blob and break off; then leave it, take it back or go on where it stopped."""
        data = self._rng.randbytes(self._rng.randrange(2, images.MIB))
        repository = f"{self._namespace}/uploads"
        status, location = self._ask("POST", f"/v2/{repository}/blobs/uploads/")
        if status != 202:
            self._refused(f"POST of an upload: {status}")
            return
        fate = self._rng.choice(["left", "taken back", "resumed"])
        self._break_off(location, data, self._rng.randrange(1, len(data)), is_chunk=fate == "resumed")
        self._tally.count("aborted")
        if fate == "taken back":
            self._ask("DELETE", location)
        elif fate == "resumed":
            self._resume(repository, location, data)

    def _break_off(self, location: str, data: bytes, after_bytes: int, *, is_chunk: bool) -> None:
        """Announce the whole and close the connection after a part.

        A chunk says where it belongs: a worker may read it only after the upload was resumed, and must refuse it then.
        """
        connection = self._connect()
        try:
            connection.putrequest("PATCH", location)
            connection.putheader("Content-Length", str(len(data)))
            connection.putheader("Content-Type", "application/octet-stream")
            if is_chunk:
                connection.putheader("Content-Range", f"0-{len(data) - 1}")
            connection.endheaders(data[:after_bytes])
        finally:
            connection.close()

    def _resume(self, repository: str, location: str, data: bytes) -> None:
        """Ask how much there is, send the rest, finish, and read it back."""
        offset = self._offset(location)
        if offset is None:
            return
        digest = images.digest_of(data)
        status, location = self._ask("PATCH", location, data[offset:], {"Content-Range": f"{offset}-{len(data) - 1}"})
        if status == 416:
            self._tally.count("overtaken")  # the server had not yet seen the end of the broken connection
            return
        if status == 202:
            status, _ = self._ask("PUT", f"{location}{'&' if '?' in location else '?'}digest={digest}")
        if status != 201:
            self._refused(f"going on with an upload at {offset} of {len(data)}: {status}")
            return
        self._tally.count("resumed")
        answer = fetch(f"{self._mirror.base_url}/v2/{repository}/blobs/{digest}", timeout_s=_TIMEOUT_S)
        if answer.is_whole and answer.body != data:
            self._tally.defect("wrong", f"a resumed upload of {len(data)} bytes reads back wrong")
        elif answer.status not in {0, 200, 503}:
            self._tally.defect("lost", f"a resumed upload: {answer.status} {answer.body[:200]!r}")

    def _offset(self, location: str) -> int | None:
        connection = self._connect()
        try:
            connection.request("GET", location)
            response = connection.getresponse()
            response.read()
            if response.status != 204:
                self._refused(f"GET of an upload: {response.status}")
                return None
            last = response.headers.get("Range", "0-0").rpartition("-")[2]
            return int(last) + 1 if last != "0" else 0
        finally:
            connection.close()

    def _ask(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        connection = self._connect()
        try:
            content = {"Content-Type": "application/octet-stream"} if body is not None else {}
            connection.request(method, target, body=body, headers={**content, **(headers or {})})
            response = connection.getresponse()
            response.read()
            parts = urlsplit(response.headers.get("Location", ""))
            return response.status, f"{parts.path}?{parts.query}" if parts.query else parts.path
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._mirror.host, timeout=_TIMEOUT_S)

    def _refused(self, text: str) -> None:
        """Note a refusal that no fault of the surroundings explains."""
        if any(f" {status}" in f" {text}" for status in _WRONG_STATUS):
            self._tally.defect("push refused", text)
        else:
            self._tally.count("push failed")
