"""Bundles: rows of the database as sealed Swarm configs, so that any surviving manager can rebuild control from them.

A bundle is the rows of one app, or of what belongs to all (users, teams, settings). Its JSON is compressed, sealed with
the cluster's key and cut into configs of at most ``CHUNK_BYTES``; each carries, in labels, whose it is, its sequence,
its place and how many there are. A newer bundle is written whole before the older is removed; on reading, the newest
that is complete counts.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from hunqi.apps.ports import Seal
from hunqi.engine.model import LABEL_CLUSTER, LABEL_KIND, LABEL_PREFIX, Payload
from hunqi.errors import DependencyError

CHUNK_BYTES: Final = 480 * 1024
KIND_MIRROR: Final = "mirror"
LABEL_OF: Final = LABEL_PREFIX + "mirror.of"
LABEL_SEQUENCE: Final = LABEL_PREFIX + "mirror.sequence"
LABEL_PART: Final = LABEL_PREFIX + "mirror.part"
LABEL_PARTS: Final = LABEL_PREFIX + "mirror.parts"
LABEL_DIGEST: Final = LABEL_PREFIX + "mirror.digest"
"""Of the rows, so that what has not changed is not written again."""
OF_CLUSTER: Final = ".cluster"
"""Whose the bundle is that belongs to no app: no app can be called so."""
MAX_BYTES: Final = 64 * 1024 * 1024
_BYTES: Final = "$bytes"

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Name of a table → its rows."""


class BundleError(DependencyError):
    """What is mirrored in the Swarm cannot be read."""

    code: ClassVar[str] = "recover.unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One config of a bundle."""

    name: str
    labels: Mapping[str, str]
    data: bytes = field(repr=False)


def text_of_rows(rows: Rows) -> str:
    """Return rows as canonical JSON text."""
    return json.dumps(rows, default=_encoded, sort_keys=True, separators=(",", ":"))


def parts_of(of: str, text: str, digest: str, *, sequence: int, cluster: str, seal: Seal) -> list[Part]:
    """Return the configs of a bundle; ``sequence`` grows."""
    sealed = seal.seal(zlib.compress(text.encode(), 6), context=_context(cluster, of))
    chunks = [sealed[start : start + CHUNK_BYTES] for start in range(0, len(sealed), CHUNK_BYTES)]
    return [
        Part(
            name=f"hunqi-{'cluster' if of == OF_CLUSTER else f'app-{of}'}-{sequence}-{index}",
            labels={
                LABEL_CLUSTER: cluster,
                LABEL_KIND: KIND_MIRROR,
                LABEL_OF: of,
                LABEL_SEQUENCE: str(sequence),
                LABEL_PART: str(index),
                LABEL_PARTS: str(len(chunks)),
                LABEL_DIGEST: digest,
            },
            data=chunk,
        )
        for index, chunk in enumerate(chunks)
    ]


def newest(configs: Iterable[Payload]) -> dict[str, list[Payload]]:
    """Return, by whose it is, the parts in order of the newest complete bundle."""
    sets: dict[tuple[str, int], dict[int, Payload]] = {}
    for config in configs:
        labels = config.labels
        if labels.get(LABEL_KIND) != KIND_MIRROR or not labels.get(LABEL_SEQUENCE, "").isdecimal():
            continue
        parts = sets.setdefault((labels.get(LABEL_OF, ""), int(labels[LABEL_SEQUENCE])), {})
        parts[int(labels.get(LABEL_PART, "0"))] = config
    found: dict[str, tuple[int, list[Payload]]] = {}
    for (of, sequence), parts in sets.items():
        wanted = int(next(iter(parts.values())).labels.get(LABEL_PARTS, "0"))
        complete = set(parts) == set(range(wanted))
        if complete and (of not in found or found[of][0] < sequence):
            found[of] = (sequence, [parts[index] for index in range(wanted)])
    return {of: parts for of, (_, parts) in found.items()}


def rows_of(of: str, parts: Sequence[Payload], *, cluster: str, seal: Seal) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a bundle. Raises ``BundleError``, and what ``seal`` raises for another key."""
    sealed = b"".join(part.data or b"" for part in parts)
    packed = seal.open(sealed, context=_context(cluster, of))
    try:
        plain = zlib.decompressobj()
        text = plain.decompress(packed, MAX_BYTES)
        if plain.unconsumed_tail:
            raise BundleError(f"what is mirrored of {of} is larger than {MAX_BYTES} bytes")
        return json.loads(text, object_hook=_decoded)
    except (ValueError, zlib.error) as error:
        raise BundleError(f"what is mirrored of {of} cannot be read: {error}") from error


def _context(cluster: str, of: str) -> str:
    return f"mirror/{cluster}/{of}"


def _encoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} in a row")


def _decoded(value: dict[str, Any]) -> Any:
    return base64.b64decode(value[_BYTES]) if set(value) == {_BYTES} else value
