"""Long work on what is kept: collecting, verifying, warming."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from hunqi.errors import DependencyError
from hunqi.kit.rpc import Payload
from hunqi.mirror import settings
from hunqi.mirror.fetch.state import FetchStatus
from hunqi.mirror.names import Target, require_mirrored
from hunqi.mirror.operate.model import OperateWorld, parse_image
from hunqi.mirror.resolve.warm import WarmBlob, warm
from hunqi.mirror.store.gc import apply_gc, freed_by, plan_gc, remove_unlinked, unlinked_bytes
from hunqi.mirror.store.leftovers import LeftoverAges, collect_leftovers
from hunqi.mirror.store.retention_plan import Removal, RetentionPolicy, RetentionRule
from hunqi.mirror.store.verify import VerifyProgress, verify
from hunqi.oci.manifest import Descriptor

Emit = Callable[[Payload], None]
"""Sends an event to the caller; raises :class:`StoppedByCallerError` when there is none any more."""
_STEP_S: Final = 0.1


class StoppedByCallerError(DependencyError):
    """The operator's command was interrupted."""

    code: ClassVar[str] = "operate.stopped"


class WarmFailedError(DependencyError):
    """A blob of an image could not be fetched."""

    code: ClassVar[str] = "operate.warm_failed"


def collect(world: OperateWorld, payload: Payload, emit: Emit) -> Payload:
    """Apply retention, remove what nobody links and what crashes left; with ``dry_run`` only say so."""
    planned_at = time.time()
    plan = plan_gc(world.catalogue, policy_of(world.settings.space.retention))
    if payload.get("dry_run"):
        return _foretell(world, plan, emit)
    bytes_of = dict(zip(plan, freed_by(world.catalogue, plan), strict=True))
    removals = apply_gc(world.catalogue, plan, planned_at=planned_at)
    _emit_removals(removals, [bytes_of[removal] for removal in removals], emit)
    freed = remove_unlinked(world.catalogue)
    _emit_rest(freed - sum(bytes_of[removal] for removal in removals), emit)
    evicted = world.evict()
    _emit_evicted(evicted, emit)
    ages = LeftoverAges(upload_s=world.settings.space.upload_max_age_s)
    found = collect_leftovers(world.catalogue, world.uploads, ages)
    if found.uploads:
        emit({"removed": f"{found.uploads} uploads", "reason": "nobody went on with them", "bytes": 0})
    return {"removed": len(removals), "freed_bytes": freed + evicted, "dry_run": False}


def _foretell(world: OperateWorld, plan: Sequence[Removal], emit: Emit) -> Payload:
    freed = freed_by(world.catalogue, plan)
    _emit_removals(plan, freed, emit)
    unlinked, excess = unlinked_bytes(world.catalogue), world.excess()
    _emit_rest(unlinked, emit)
    _emit_evicted(excess, emit)
    return {"removed": len(plan), "freed_bytes": sum(freed) + unlinked + excess, "dry_run": True}


def _emit_removals(removals: Sequence[Removal], sizes: Sequence[int], emit: Emit) -> None:
    for removal, size in zip(removals, sizes, strict=True):
        name = f"{removal.repo}:{removal.tag}" if removal.tag else f"{removal.repo}@{removal.digest}"
        emit({"removed": name, "reason": removal.reason, "bytes": size})


def _emit_rest(size: int, emit: Emit) -> None:
    if size > 0:
        emit({"removed": "content", "reason": "nothing names it", "bytes": size})


def _emit_evicted(size: int, emit: Emit) -> None:
    if size > 0:
        emit({"removed": "cached content", "reason": "over the size limit, least recently used", "bytes": size})


def policy_of(rules: Sequence[settings.RetentionRule]) -> RetentionPolicy:
    """Return the retention settings as the store's policy."""
    return RetentionPolicy(
        rules=tuple(
            RetentionRule(
                repositories=rule.pattern,
                keep_newest=rule.keep_newest,
                max_age_s=rule.max_age_s,
                untagged_after_s=rule.untagged_after_s,
            )
            for rule in rules
        )
    )


def verify_all(world: OperateWorld, _payload: Payload, emit: Emit) -> Payload:
    """Read everything and compare digests."""
    last = 0.0

    def tell(progress: VerifyProgress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > _STEP_S or progress.done_files == progress.total_files:
            last = now
            emit({"done": progress.done_bytes, "total": progress.total_bytes, "bad": 0})

    problems = verify(world.catalogue, progress=tell)
    return {
        "bad": [
            {
                "digest": str(problem.digest),
                "fault": problem.fault.value,
                "action": problem.action.value,
                "repositories": list(problem.repos),
            }
            for problem in problems
        ]
    }


def warm_images(world: OperateWorld, payload: Payload, emit: Emit) -> Payload:
    """Fetch whole images, blob after blob."""
    blobs = 0
    origins = {origin.name: origin for origin in world.settings.upstreams}
    for image in payload["images"]:
        target, reference = parse_image(world.names, world.address, image)
        require_mirrored(target, origins)
        for step in warm(world.shelf, target, reference, payload.get("platforms") or ()):
            if not isinstance(step, WarmBlob):
                continue
            blobs += 1
            if step.is_stored:
                world.show(target, step.blob.digest)
                emit(_event(image, step.blob, step.blob.size, "kept already"))
            else:
                _fetch(
                    world,
                    target,
                    step.blob,
                    lambda done, image=image, blob=step.blob: emit(_event(image, blob, done, "fetched")),
                )
    return {"images": len(payload["images"]), "count": blobs}


def _fetch(world: OperateWorld, target: Target, blob: Descriptor, tell: Callable[[int], None]) -> None:
    fetch = world.fetch(target, blob)
    while (state := fetch.wait(_STEP_S)).status is FetchStatus.RUNNING:
        tell(sum(end - start for start, end in state.extents))
    if state.status is not FetchStatus.DONE:
        raise WarmFailedError(f"{target.key}: {blob.digest} could not be fetched: {state.error or 'the disk is full'}")
    tell(blob.size)


def _event(image: str, blob: Descriptor, done: int, source: str) -> Payload:
    return {"image": image, "digest": str(blob.digest), "done": done, "total": blob.size, "source": source}
