"""What the operator's commands need of the fetcher process, and how they read images."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import ClassVar

from hunqi.errors import UserError
from hunqi.kit.rpc import Payload
from hunqi.mirror.fetch.fetch import Fetch
from hunqi.mirror.names import Names, Target
from hunqi.mirror.resolve.shelf import Shelf
from hunqi.mirror.settings import Address, MirrorSettings
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.uploads import Uploads
from hunqi.mirror.store.usage import Usage
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import Descriptor
from hunqi.oci.reference import Reference, Tag


class NoSuchImageError(UserError):
    """The mirror does not keep this image."""

    code: ClassVar[str] = "operate.no_such_image"

    def __init__(self, image: str) -> None:
        super().__init__(
            f"{image} is not kept here: see `hunqi mirror ls`, or fetch it with `hunqi mirror warm {image}`"
        )
        self.image = image


class ArchiveFileError(UserError):
    """An archive's file cannot be read or written."""

    code: ClassVar[str] = "operate.archive_file"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperateWorld:
    """The running mirror, as the operator's commands see it."""

    settings: MirrorSettings
    address: Address
    catalogue: Catalogue
    uploads: Uploads
    usage: Usage
    names: Names
    shelf: Shelf
    fetch: Callable[[Target, Descriptor], Fetch]
    """Starts or joins the fetch of a blob."""
    show: Callable[[Target, Digest], None]
    """Lets a repository show a blob that is stored; raises what asking its source raises."""
    live: Callable[[], Payload]
    """Counters, sources and fetches."""
    evict: Callable[[], int]
    """Brings the cache under its marks; returns the bytes freed."""
    excess: Callable[[], int]
    """Bytes that ``evict`` would free."""
    reload: Callable[[], None]
    executor: Executor


def is_own(address: Address, host: str) -> bool:
    """Whether ``host:port`` in front of an image names the mirror at ``address``, as a client may write it.

    A mirror on every address has every name of the machine, so there the port decides.
    """
    if address.host in {"0.0.0.0", "::"}:
        return host.endswith(f":{address.port}")
    written = {str(address)}
    if address.host in {"127.0.0.1", "::1", "localhost"}:
        written.add(f"localhost:{address.port}")
    return host in written


def split_image(names: Names, address: Address, text: str) -> tuple[str, Tag | None, Digest | None]:
    """Return the name, the tag and the digest of an image as they are written; raise what references raise."""
    host, slash, tail = text.partition("/")
    rest = tail if slash and host not in names.upstreams and is_own(address, host) else text
    rest, _, digest_text = rest.partition("@")
    head, colon, tail = rest.rpartition(":")
    name, tag = (head, Tag.parse(tail)) if colon and "/" not in tail else (rest, None)
    return name, tag, Digest.parse(digest_text) if digest_text else None


def parse_image(names: Names, address: Address, text: str) -> tuple[Target, Reference]:
    """Read an image as a client of this mirror would write it (its address in front is fine).

    Raises what names and references raise.
    """
    name, tag, digest = split_image(names, address, text)
    return names.resolve(name), digest or tag or Tag("latest")


def find_digest(world: OperateWorld, image: str) -> tuple[Target, Reference, Digest]:
    """Return where an image is kept; raise :class:`NoSuchImageError`."""
    target, reference = parse_image(world.names, world.address, image)
    if isinstance(reference, Digest):
        digest = reference
    else:
        row = world.catalogue.tag(target.key, reference)
        if row is None:
            raise NoSuchImageError(image)
        digest = row.digest
    if world.catalogue.link(target.key, digest) is None:
        raise NoSuchImageError(image)
    return target, reference, digest
