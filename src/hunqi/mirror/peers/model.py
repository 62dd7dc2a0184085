"""What nodes tell each other, as values; and what can go wrong between them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

from hunqi.errors import DependencyError, UserError
from hunqi.oci.digest import Digest, DigestError
from hunqi.oci.reference import Tag, TagError, parse_repository

NODE_PATH: Final = "/hunqi/v1/node"
NEWS_PATH: Final = "/hunqi/v1/news"
MAX_NEWS: Final = 2000
"""Tags in one message; a longer story is told in several."""
MAX_NEWS_BYTES: Final = 4 * 1024 * 1024


class NewsInvalidError(UserError):
    """A node sent what is no news: it runs another version, or is no mirror of this cluster."""

    code: ClassVar[str] = "peers.news_invalid"


class PeerRefusedError(DependencyError):
    """A live node did not take what it was given."""

    code: ClassVar[str] = "peers.refused"


class NotReplicatedError(DependencyError):
    """What was pushed is stored here, and no other live node could take its copy: the push is not acknowledged."""

    code: ClassVar[str] = "peers.not_replicated"

    def __init__(self, what: str, reasons: Iterable[str]) -> None:
        super().__init__(f"no second node could take {what}, so push it again: {'; '.join(reasons)}")


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who answers at a peer's address."""

    node: str
    """The node's name in hop marks, kept in its data directory."""
    instance: str
    """Another one after every start: what was told before may be unknown to it."""

    def to_json(self) -> bytes:
        """Return the wire form."""
        return json.dumps({"node": self.node, "instance": self.instance}).encode()

    @classmethod
    def parse(cls, data: bytes) -> NodeIdentity:
        """Read the wire form; raise :class:`NewsInvalidError`."""
        try:
            document = _object(data)
            node, instance = document["node"], document["instance"]
        except (ValueError, KeyError, TypeError) as error:
            raise NewsInvalidError("there answers no Hunqi mirror's peer port") from error
        if not (isinstance(node, str) and isinstance(instance, str) and 0 < len(node) <= 64):
            raise NewsInvalidError("there answers no Hunqi mirror's peer port")
        return cls(node, instance)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagNews:
    """A pushed tag points at ``digest`` since ``changed_at`` (seconds since the epoch, by the pusher's clock)."""

    repo: str
    tag: Tag
    digest: Digest
    changed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a node should know of pushes elsewhere: it forgets older meanings of the tags and learns the namespaces."""

    tags: tuple[TagNews, ...] = ()
    namespaces: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Return the wire form."""
        tags = [[one.repo, one.tag.name, str(one.digest), one.changed_at] for one in self.tags]
        return json.dumps({"tags": tags, "namespaces": list(self.namespaces)}).encode()

    @classmethod
    def parse(cls, data: bytes) -> News:
        """Read the wire form; raise :class:`NewsInvalidError`."""
        try:
            document = _object(data)
            tags = tuple(
                TagNews(
                    repo=parse_repository(repo), tag=Tag.parse(name), digest=Digest.parse(digest), changed_at=float(at)
                )
                for repo, name, digest, at in document["tags"]
            )
            namespaces = tuple(parse_repository(name) for name in document["namespaces"])
        except (ValueError, KeyError, TypeError, DigestError, TagError, UserError) as error:
            raise NewsInvalidError(f"these are no news: {error}") from error
        return cls(tags=tags, namespaces=namespaces)


def _object(data: bytes) -> dict[str, Any]:
    document = json.loads(data)
    if not isinstance(document, dict):
        raise TypeError("not an object")
    return cast("dict[str, Any]", document)  # JSON: whoever reads a member checks it
