"""Names: repositories, tags and image references (distribution-spec 1.1, "Pulling manifests")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from hunqi.errors import UserError
from hunqi.oci.digest import Digest

MAX_NAME_LENGTH: Final = 255
"""Characters in a repository name with its registry host (Docker's reference package)."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
    r"|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
)


class RepositoryNameError(UserError):
    """A repository name that the specification does not allow."""

    code: ClassVar[str] = "oci.name_invalid"


class TagError(UserError):
    """A tag that the specification does not allow."""

    code: ClassVar[str] = "oci.tag_invalid"


@dataclass(frozen=True, slots=True, order=True)
class Tag:
    """A tag, valid by form."""

    name: str

    @classmethod
    def parse(cls, text: str) -> Tag:
        """Parse a tag; raise :class:`TagError`."""
        if not _TAG.fullmatch(text):
            raise TagError(f"{text[:200]!r} is not a tag: 1 to 128 of letters, digits, '_', '.' and '-'")
        return cls(text)

    def __str__(self) -> str:
        return self.name


Reference = Tag | Digest
"""What stands behind ``/manifests/``."""


def parse_reference(text: str) -> Reference:
    """Parse a tag or a digest; raise :class:`TagError` or :class:`~hunqi.oci.digest.DigestError`."""
    return Digest.parse(text) if ":" in text else Tag.parse(text)


def parse_repository(text: str) -> str:
    """Return ``text`` if it is a repository name; raise :class:`RepositoryNameError`."""
    if len(text) > MAX_NAME_LENGTH or not _REPOSITORY.fullmatch(text):
        raise RepositoryNameError(
            f"{text[:200]!r} is not a repository name: components of lower-case letters and "
            f"digits, joined by '.', '_', '__' or '-', separated by '/', at most {MAX_NAME_LENGTH} characters"
        )
    return text


def looks_like_host(component: str) -> bool:
    """Whether Docker would take this first component of a name for a registry host."""
    return "." in component or ":" in component or component == "localhost"


def is_host(text: str) -> bool:
    """Whether ``text`` has the form ``host[:port]``."""
    return bool(_HOST.fullmatch(text))


@dataclass(frozen=True, slots=True)
class ImageReference:
    """What a user types: ``[host/]repository[:tag][@digest]``; Docker's completions are applied."""

    host: str
    repository: str
    tag: Tag | None
    digest: Digest | None

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Parse as Docker does: no host means docker.io, ``nginx`` means ``library/nginx``, no tag means ``latest``.

        Raises :class:`RepositoryNameError`, :class:`TagError` or :class:`~hunqi.oci.digest.DigestError`.
        """
        rest, _, digest_text = text.partition("@")
        digest = Digest.parse(digest_text) if digest_text else None
        head, slash, tail = rest.partition("/")
        if slash and looks_like_host(head):
            host, rest = head, tail
        else:
            host = "docker.io"
        name, colon, tag_text = rest.rpartition(":")
        if not colon:
            name, tag_text = rest, ""
        tag = Tag.parse(tag_text) if colon else None
        if tag is None and digest is None:
            tag = Tag("latest")
        if host == "docker.io" and "/" not in name:
            name = f"library/{name}"
        if not is_host(host):
            raise RepositoryNameError(f"{host[:200]!r} is not a registry host")
        return cls(host, parse_repository(name), tag, digest)

    @property
    def reference(self) -> Reference:
        """The digest if there is one, else the tag."""
        if self.digest is not None:
            return self.digest
        return self.tag or Tag("latest")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.repository}{tag}{digest}"
