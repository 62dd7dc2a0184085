"""Which tags, manifests and blobs of a pushed repository the retention rules let go, decided without I/O.

The first rule whose globs match a tag is its rule. The newest ``keep_newest`` tags of a rule stay whatever their age;
of the others those older than ``max_age_s`` leave, or all if there is no age. A manifest stays while a tag, a pin, or a
manifest that stays holds it, or while what it refers to (its subject) stays; so does a tag that is named after a digest
(``sha256-<hex>``, cosign's and the referrers tag schema). A blob stays while a manifest that stays names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Final

from hunqi.oci.digest import Digest

_NAMED_AFTER: Final = re.compile(r"(sha256|sha512)-([0-9a-f]{64})(?:\..+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """Globs of repositories and tags, and what stays of them; a rule with neither bound keeps everything."""

    repositories: str = "*"
    tags: str = "*"
    keep_newest: int | None = None
    max_age_s: float | None = None
    untagged_after_s: float | None = None
    """For manifests without a tag in the repositories of this rule; None: they stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """The rules, and how long what nothing holds is left alone (a push in progress looks like that)."""

    rules: tuple[RetentionRule, ...] = ()
    untagged_after_s: float | None = None
    """Of repositories that no rule matches. None: manifests without a tag stay."""
    blob_grace_s: float = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TagState:
    """A tag as it is."""

    name: str
    digest: Digest
    changed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestState:
    """A manifest as it is, and the digests that it names."""

    digest: Digest
    created_at: float
    names: frozenset[Digest] = frozenset()
    """Children, config and layers."""
    subject: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobState:
    """A blob as it is."""

    digest: Digest
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryState:
    """One pushed repository as it is."""

    repo: str
    tags: Sequence[TagState]
    manifests: Sequence[ManifestState]
    blobs: Sequence[BlobState]
    pinned: frozenset[Digest] = frozenset()


class RemovalKind(Enum):
    """What is removed."""

    TAG = "tag"
    MANIFEST = "manifest"
    BLOB = "blob"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """One thing that leaves a repository, and why, in words for a person."""

    repo: str
    kind: RemovalKind
    digest: Digest
    tag: str | None
    reason: str


def plan_retention(state: RepositoryState, policy: RetentionPolicy, *, now: float) -> list[Removal]:
    """Return what leaves: tags first, then manifests (those that name others before these), then blobs."""
    attached = {tag.name: match for tag in state.tags if (match := _NAMED_AFTER.fullmatch(tag.name))}
    plain = [tag for tag in state.tags if tag.name not in attached]
    leaving = _leaving_tags(state, plain, policy, now)
    young = _untagged_after_s(state.repo, policy)
    roots = {tag.digest for tag in plain if tag.name not in leaving} | state.pinned
    roots |= {one.digest for one in state.manifests if young is None or now - one.created_at <= young}
    known = {(one.digest.algorithm, one.digest.hex[:64]) for one in state.manifests}
    followers = [(tag, (attached[tag.name][1], attached[tag.name][2])) for tag in state.tags if tag.name in attached]
    roots |= {tag.digest for tag, subject in followers if subject not in known}
    held = _held(state, roots, followers)
    short = {(digest.algorithm, digest.hex[:64]) for digest in held}
    for tag, subject in followers:
        if subject in known and subject not in short and tag.digest not in state.pinned:
            leaving[tag.name] = "what it is attached to leaves"
    removals = [
        Removal(repo=state.repo, kind=RemovalKind.TAG, digest=tag.digest, tag=tag.name, reason=leaving[tag.name])
        for tag in state.tags
        if tag.name in leaving
    ]
    return [*removals, *_leaving_content(state, held, policy, now)]


def _leaving_tags(
    state: RepositoryState, tags: Iterable[TagState], policy: RetentionPolicy, now: float
) -> dict[str, str]:
    groups: dict[RetentionRule, list[TagState]] = {}
    for tag in tags:
        for rule in policy.rules:
            if fnmatchcase(state.repo, rule.repositories) and fnmatchcase(tag.name, rule.tags):
                groups.setdefault(rule, []).append(tag)
                break
    leaving: dict[str, str] = {}
    for rule, group in groups.items():
        group.sort(key=lambda tag: (tag.changed_at, tag.name), reverse=True)
        for rank, tag in enumerate(group):
            reason = _reason(rule, rank, now - tag.changed_at)
            if reason and tag.digest not in state.pinned:
                leaving[tag.name] = reason
    return leaving


def _untagged_after_s(repo: str, policy: RetentionPolicy) -> float | None:
    """Return what the first rule for the repository says: a rule for one must never reach another."""
    for rule in policy.rules:
        if fnmatchcase(repo, rule.repositories):
            return rule.untagged_after_s
    return policy.untagged_after_s


def _reason(rule: RetentionRule, rank: int, age_s: float) -> str | None:
    if rule.keep_newest is None and rule.max_age_s is None:
        return None
    if rule.keep_newest is not None and rank < rule.keep_newest:
        return None
    if rule.max_age_s is not None and age_s <= rule.max_age_s:
        return None
    parts: list[str] = []
    if rule.keep_newest is not None:
        parts.append(f"not among the {rule.keep_newest} newest of {rule.tags}")
    if rule.max_age_s is not None:
        parts.append(f"older than {rule.max_age_s / 86_400:g} days")
    return ", ".join(parts)


def _held(
    state: RepositoryState, roots: Iterable[Digest], followers: Sequence[tuple[TagState, tuple[str, str]]]
) -> set[Digest]:
    """Return all that the roots hold: what they name, what refers to them, and so on."""
    manifests = {one.digest: one for one in state.manifests}
    referrers: dict[Digest, list[Digest]] = {}
    for one in state.manifests:
        if one.subject:
            referrers.setdefault(one.subject, []).append(one.digest)
    by_name: dict[tuple[str, str], list[Digest]] = {}
    for tag, subject in followers:
        by_name.setdefault(subject, []).append(tag.digest)
    held: set[Digest] = set()
    pending = list(roots)
    while pending:
        digest = pending.pop()
        if digest in held:
            continue
        held.add(digest)
        if digest in manifests:
            pending.extend(manifests[digest].names)
            pending.extend(referrers.get(digest, ()))
            pending.extend(by_name.get((digest.algorithm, digest.hex[:64]), ()))
    return held


def _leaving_content(
    state: RepositoryState, held: set[Digest], policy: RetentionPolicy, now: float
) -> Iterable[Removal]:
    for digest in _top_down([one for one in state.manifests if one.digest not in held]):
        yield Removal(
            repo=state.repo, kind=RemovalKind.MANIFEST, digest=digest, tag=None, reason="no tag or manifest holds it"
        )
    for blob in state.blobs:
        if blob.digest not in held and now - blob.created_at > policy.blob_grace_s:
            yield Removal(
                repo=state.repo, kind=RemovalKind.BLOB, digest=blob.digest, tag=None, reason="no manifest names it"
            )


def _top_down(manifests: Sequence[ManifestState]) -> list[Digest]:
    """Return the digests so that each comes before those that it names."""
    left = {one.digest: one.names for one in manifests}
    order: list[Digest] = []
    while left:
        named = {digest for names in left.values() for digest in names}
        top = [digest for digest in left if digest not in named]
        order += top
        for digest in top:
            del left[digest]
    return order
