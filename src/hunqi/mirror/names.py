"""Which repository a name means: every name is either local or mirrored, never both.

The three shapes of a mirrored name (``/v2/<upstream>/<repository>``, ``?ns=<upstream>`` and the bare form of Docker's
``registry-mirrors``) become one :class:`Target`. Upstreams are a closed list: a client never chooses what is dialled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

from hunqi.errors import UserError
from hunqi.mirror.settings import Origin
from hunqi.oci.reference import RepositoryNameError, looks_like_host, parse_repository


class UnknownUpstreamError(UserError):
    """The name asks for a registry that is not among the configured upstreams."""

    code: ClassVar[str] = "mirror.unknown_upstream"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host!r} is not an upstream of this mirror: the operator can add it with --upstream {host}=https://{host}"
        )
        self.host = host


class NotLocalError(UserError):
    """The name could be an upstream's, so nothing may be pushed to it."""

    code: ClassVar[str] = "mirror.not_local"


class NotMirroredError(UserError):
    """The operator's patterns leave this repository of an upstream out."""

    code: ClassVar[str] = "mirror.not_mirrored"


@dataclass(frozen=True, slots=True)
class Target:
    """One repository: mirrored from ``upstream``, or local when that is ``None``."""

    upstream: str | None
    repository: str
    """The name at the upstream, or the local name."""

    @property
    def key(self) -> str:
        """The repository's key in the store."""
        return f"{self.upstream}/{self.repository}" if self.upstream else self.repository

    @property
    def is_local(self) -> bool:
        """Whether this repository is pushed to and never asked upstream."""
        return self.upstream is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Resolves names against the configured upstreams and the local namespaces."""

    upstreams: Collection[str]
    default_upstream: str
    is_local_namespace: Callable[[str], bool]
    """Whether a repository's name lies in a namespace that a grant, ``--local`` or an earlier push made local."""

    def resolve(self, name: str, ns: str | None = None) -> Target:
        """Return the repository that ``name`` means in a pull.

        ``ns`` is the query parameter of containerd (distribution-spec, "Registry proxying").
        Raises :class:`UnknownUpstreamError` or :class:`RepositoryNameError`.
        """
        if ns:
            return self._mirrored(ns, name)
        first, slash, rest = name.partition("/")
        if slash and first in self.upstreams:
            return self._mirrored(first, rest)
        if looks_like_host(first) and slash:
            raise UnknownUpstreamError(first)
        repository = parse_repository(name)
        if self.may_be_local(repository) and self.is_local_namespace(repository):
            return Target(None, repository)
        return self._mirrored(self.default_upstream, repository)

    def resolve_push(self, name: str, ns: str | None = None) -> Target:
        """Return the local repository that a push to ``name`` means; raise :class:`NotLocalError` if it can be none."""
        if ns or not self.may_be_local(name):
            raise NotLocalError(
                f"{name!r} belongs to an upstream or could: push to a name without '.' or ':' whose first component "
                "is neither 'library' nor an upstream's name"
            )
        return Target(None, parse_repository(name))

    def may_be_local(self, name: str) -> bool:
        """Whether no upstream could own ``name``."""
        components = name.split("/")
        if components[0] == "library" or components[0] in self.upstreams:
            return False
        return not any("." in component or ":" in component for component in components)

    def _mirrored(self, upstream: str, name: str) -> Target:
        if upstream not in self.upstreams:
            raise UnknownUpstreamError(upstream)
        repository = parse_repository(name)
        if upstream == "docker.io" and "/" not in repository:
            repository = f"library/{repository}"
        return Target(upstream, repository)


def is_mirrored(target: Target, origins: Mapping[str, Origin]) -> bool:
    """Whether the patterns of the target's upstream, if it has one among ``origins``, let it be mirrored."""
    origin = origins.get(target.upstream or "")
    if origin is None:
        return True
    repository = target.repository
    allowed = not origin.allow or any(fnmatchcase(repository, pattern) for pattern in origin.allow)
    return allowed and not any(fnmatchcase(repository, pattern) for pattern in origin.deny)


def require_mirrored(target: Target, origins: Mapping[str, Origin]) -> None:
    """Raise :class:`NotMirroredError` unless :func:`is_mirrored`."""
    if not is_mirrored(target, origins):
        raise NotMirroredError(f"the operator of this mirror does not mirror {target.key}")


__all__ = [
    "Names",
    "NotLocalError",
    "NotMirroredError",
    "RepositoryNameError",
    "Target",
    "UnknownUpstreamError",
    "is_mirrored",
    "require_mirrored",
]
