"""Lists that are passed through: ``tags/list`` and ``referrers``, under the same TTL and staleness as tags.

An upstream without the referrers API answers 404; then the referrers tag schema says what there is, else there is
nothing (distribution-spec 1.1, "Referrers Tag Schema"). Cosign and Renovate need these.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Final, cast

from hunqi.mirror.names import Target
from hunqi.mirror.resolve.asking import Unanswered
from hunqi.mirror.resolve.errors import ManifestUnknown
from hunqi.mirror.resolve.manifests import Ask, Room
from hunqi.mirror.resolve.memory import Expiring
from hunqi.mirror.resolve.model import PassedDocument
from hunqi.mirror.resolve.plan import Failure, Freshness, OnFailure, decide, on_failure
from hunqi.mirror.resolve.tags import Tags
from hunqi.mirror.store.errors import StoreFullError, StoreUnavailableError
from hunqi.oci.digest import Digest, DigestError
from hunqi.oci.manifest import OCI_INDEX
from hunqi.oci.reference import Tag

_REFERRERS: Final = "referrers/"
_NO_REFERRERS: Final = json.dumps(
    {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, separators=(",", ":")
).encode()
_GONE: Final = b"null\n"
"""The stored form of a list that was taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    home: Target
    path: str
    hops: tuple[str, ...]

    @property
    def subject(self) -> Digest | None:
        """Whose referrers are asked for, if any's."""
        if not self.path.startswith(_REFERRERS):
            return None
        try:
            return Digest.parse(self.path.removeprefix(_REFERRERS).partition("?")[0])
        except DigestError:
            return None


class Documents:
    """Passes lists through. Thread-safe."""

    def __init__(self, room: Room, tags: Tags) -> None:
        self._room = room
        self._tags = tags
        self._unknown: Expiring[tuple[str, str], bool] = Expiring(room.clock)

    def get(self, home: Target, path_and_query: str, *, hops: tuple[str, ...]) -> PassedDocument:
        """Return ``tags/list[?…]`` or ``referrers/<digest>[?…]`` of a repository.

        Raises the errors of :mod:`hunqi.mirror.resolve.errors`; referrers are never unknown.
        """
        question = _Question(home=home, path=path_and_query, hops=hops)
        held = self._hold(question)
        key = ("document", home.key, path_and_query)
        freshness = self._decide(question, held)
        if held is not None and freshness is Freshness.FRESH:
            return held
        if held is not None and freshness is Freshness.SERVE_AND_REVALIDATE:
            self._room.flights.start(key, lambda: self._refresh(question), depth=len(hops))
            return replace(held, stale=True)
        if self._unknown.get((home.key, path_and_query)):
            raise ManifestUnknown(home.key, path_and_query)
        return self._room.flights.do(key, lambda: self._refresh(question), depth=len(hops))

    def _decide(self, question: _Question, held: PassedDocument | None) -> Freshness:
        settings = self._room.settings
        return decide(
            age_s=None if held is None else held.age_s,
            ttl_s=settings.ttl_s,
            stale_s=settings.stale_s,
            is_in_trouble=held is not None and self._room.asking.is_in_trouble(question.home),
        )

    def _hold(self, question: _Question) -> PassedDocument | None:
        stored = self._room.catalogue.document(question.home.key, question.path)
        if stored is None or stored.body == _GONE:
            return None
        age_s = max(self._room.clock() - stored.checked_at, 0.0)
        return replace(_unpack(stored.body, stored.content_type), age_s=age_s)

    def _refresh(self, question: _Question) -> PassedDocument:
        held = self._hold(question)
        if held is not None and self._decide(question, held) is Freshness.FRESH:
            return held
        try:
            document = self._ask(question)
        except Unanswered as unanswered:
            return self._settle(question, held, unanswered)
        self._keep(question, _pack(document), document.content_type)
        return document

    def _ask(self, question: _Question) -> PassedDocument:
        home, hops = question.home, question.hops
        try:
            answer = self._room.asking.ask(home, lambda source: source.get_document(home, question.path, hops=hops))
        except Unanswered as unanswered:
            if question.subject is None or unanswered.failure is not Failure.UNKNOWN:
                raise
            return self._by_tag_schema(question, question.subject)
        got = answer.value
        return PassedDocument(
            body=got.data,
            content_type=got.content_type,
            link_header=got.link_header,
            filters_applied=got.filters_applied,
        )

    def _by_tag_schema(self, question: _Question, subject: Digest) -> PassedDocument:
        """Return the index that the tag ``<algorithm>-<hex>`` names, cut to 64 digits as the specification says."""
        tag = Tag(f"{subject.algorithm}-{subject.hex[:64]}")
        body = _NO_REFERRERS
        try:
            resolved = self._tags.resolve(question.home, tag, head=False, ask=Ask(hops=question.hops, peers=False))
        except ManifestUnknown:
            pass
        else:
            stored = self._room.catalogue.manifest(question.home.key, resolved.digest)
            body = resolved.body or (stored.body if stored else _NO_REFERRERS)
        return PassedDocument(body=body, content_type=OCI_INDEX, link_header=None, filters_applied=None)

    def _settle(self, question: _Question, held: PassedDocument | None, unanswered: Unanswered) -> PassedDocument:
        match on_failure(unanswered.failure, is_known=held is not None):
            case OnFailure.SERVE_STALE if held is not None:
                return replace(held, stale=True)
            case OnFailure.FORGET if held is not None:
                self._keep(question, _GONE, "")
            case _:
                pass
        unknown = ManifestUnknown(question.home.key, question.path)
        if unanswered.failure is Failure.UNKNOWN:
            self._unknown.put((question.home.key, question.path), True, for_s=self._room.settings.negative_s)
        raise unanswered.as_error(question.home, question.hops, unknown) from unanswered

    def _keep(self, question: _Question, body: bytes, content_type: str) -> None:
        now = self._room.clock()
        try:
            self._room.catalogue.put_document(
                question.home.key, question.path, body, content_type=content_type, checked_at=now
            )
        except (StoreFullError, StoreUnavailableError):
            # The list is served all the same; the next question asks again.
            return


def _pack(document: PassedDocument) -> bytes:
    """Return the stored form: a line with the headers that belong to the list, then the list."""
    headers = {"link": document.link_header, "filters": document.filters_applied}
    return json.dumps(headers).encode() + b"\n" + document.body


def _unpack(packed: bytes, content_type: str) -> PassedDocument:
    line, _, body = packed.partition(b"\n")
    headers = cast("dict[str, str | None]", json.loads(line))
    return PassedDocument(
        body=body, content_type=content_type, link_header=headers["link"], filters_applied=headers["filters"]
    )
