"""What secrets are known by: a keyed digest of their content, which tells nothing without the cluster's key.

Names of secrets in the Swarm and the hashes of services show parts of it to every client of Docker. The compiler knows
contents by their plain sha256, and that stands in revisions of earlier versions; here it becomes the keyed one. A
secret that serves by its plain digest keeps it as long as its content does: nothing is replaced for its name alone.
Configs, which everybody can read, are known by their sha256.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from hunqi.apps.model import AppSpec, Revision
from hunqi.apps.overlay import overlay_of, with_overlay
from hunqi.apps.ports import Seal

_CONTEXT: Final = "payload/digest"


class Digests:
    """Digests of the secrets of one cluster."""

    def __init__(self, seal: Seal) -> None:
        self._key = seal.derive(_CONTEXT)

    def of(self, app: str, content: bytes) -> str:
        """Return the keyed digest of a secret of ``app``: 64 hexadecimal digits."""
        return hmac.new(self._key, app.encode() + b"\0" + content, hashlib.sha256).hexdigest()

    def fits(self, app: str, digest: str, content: bytes) -> bool:
        """Whether ``content`` is what ``digest`` says: a keyed one, or a plain one (configs, earlier versions)."""
        bare = digest.removeprefix("sha256:")
        return any(hmac.compare_digest(bare, each) for each in (self.of(app, content), _plain(content)))

    def keyed(
        self, spec: AppSpec, payloads: Mapping[str, bytes], live: Revision | None
    ) -> tuple[AppSpec, dict[str, bytes]]:
        """Return a spec to be stored with its secrets by keyed digests, and the contents by the digests that it has."""
        serving = {_bare(each.digest) for each in live.spec.secrets.values()} if live else set[str]()
        plain = {_plain(content): content for digest, content in payloads.items() if _bare(digest) == _plain(content)}
        names = {digest: self.of(spec.name, held) for digest, held in plain.items() if digest not in serving}
        secrets = {
            key: replace(each, digest=names[_bare(each.digest)]) if _bare(each.digest) in names else each
            for key, each in spec.secrets.items()
        }
        overlay = overlay_of(spec)
        kept = {name: names.get(_bare(digest), digest) for name, digest in overlay.secrets.items()}
        named = with_overlay(replace(spec, secrets=secrets), replace(overlay, secrets=kept))
        replaced = names.keys() - {_bare(each.digest) for each in spec.configs.values()}
        contents = {digest: held for digest, held in payloads.items() if _bare(digest) not in replaced}
        return named, contents | {name: plain[digest] for digest, name in names.items()}


def _bare(digest: str | None) -> str:
    return (digest or "").removeprefix("sha256:")


def _plain(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
