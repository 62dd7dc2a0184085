"""What resolving can end with: one class for each decision of a caller; no HTTP here."""

from __future__ import annotations

from typing import ClassVar

from hunqi.errors import DependencyError, UserError


class ManifestUnknown(UserError):
    """No source has this manifest, tag or document."""

    code: ClassVar[str] = "resolve.manifest_unknown"

    def __init__(self, repository: str, reference: str) -> None:
        super().__init__(f"{repository}: no such manifest: {reference}")
        self.repository = repository
        self.reference = reference


class BlobUnknown(UserError):
    """The asked repository does not have this blob, whatever others hold."""

    code: ClassVar[str] = "resolve.blob_unknown"

    def __init__(self, repository: str, digest: str) -> None:
        super().__init__(f"{repository}: no such blob: {digest}")
        self.repository = repository
        self.digest = digest


class RepositoryDenied(UserError):
    """The upstream refuses this repository to this mirror (or to everyone: many answer so for what does not exist)."""

    code: ClassVar[str] = "resolve.repository_denied"

    def __init__(self, repository: str, *, unauthorized: bool) -> None:
        what = "wants other credentials for it" if unauthorized else "forbids it"
        super().__init__(f"{repository}: the upstream {what}, or does not have it")
        self.repository = repository
        self.unauthorized = unauthorized
        """True for 401, False for 403."""


class UpstreamLimited(DependencyError):
    """The upstream answers 429 and nothing is stored; ``retry_after_s`` is 1 to 3600 seconds."""

    code: ClassVar[str] = "resolve.upstream_limited"

    def __init__(self, upstream: str, retry_after_s: float) -> None:
        super().__init__(f"{upstream} limits this mirror: try again in {retry_after_s:.0f} s")
        self.upstream = upstream
        self.retry_after_s = retry_after_s


class UpstreamUnavailable(DependencyError):
    """No source could answer; ``reasons`` has a sentence of each."""

    code: ClassVar[str] = "resolve.upstream_unavailable"

    def __init__(self, upstream: str, reasons: tuple[str, ...]) -> None:
        super().__init__(f"no source of {upstream} could answer: {'; '.join(reasons) or 'none is configured'}")
        self.upstream = upstream
        self.reasons = reasons


class RelayLoop(DependencyError):
    """The relays ask one another in a circle; the operator must break it."""

    code: ClassVar[str] = "resolve.relay_loop"

    def __init__(self, upstream: str, hops: tuple[str, ...]) -> None:
        way = " -> ".join(hops) or "unknown"
        super().__init__(f"the relays for {upstream} form a loop (passed: {way}): remove one --relay of it")
        self.upstream = upstream
        self.hops = hops


__all__ = [
    "BlobUnknown",
    "ManifestUnknown",
    "RelayLoop",
    "RepositoryDenied",
    "UpstreamLimited",
    "UpstreamUnavailable",
]
