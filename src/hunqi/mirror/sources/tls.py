"""TLS of one source: towards its own endpoint (client certificate included) and towards any other host (never)."""

from __future__ import annotations

import ssl
import threading

from hunqi.mirror.settings import Origin
from hunqi.mirror.sources.errors import SourceUnreachable


class TlsContexts:
    """The two contexts of one source. Thread-safe.

    Each is made at first use, except for the files of the settings, which are read at once: the system's authorities
    take 1 MB and 20 ms, and there is a source for each node of a cluster. ``ca_file`` is trusted beside the system's
    authorities, as Docker's ``certs.d`` has it; between the nodes of a cluster it alone is.
    """

    def __init__(self, origin: Origin, *, only_own_ca: bool = False) -> None:
        """Load the files that the settings name; raises :class:`SourceUnreachable` if they cannot be used.

        With ``only_own_ca`` the system's authorities do not count at the source's own endpoint.
        """
        self._lock = threading.Lock()
        self._origin = origin
        self._own: ssl.SSLContext | None = None
        self._other: ssl.SSLContext | None = None
        if origin.ca_file is None and origin.client_cert_file is None:
            return
        try:
            self._own = _context(only_own_ca=only_own_ca)
            if origin.ca_file is not None:
                self._own.load_verify_locations(origin.ca_file)
            if origin.client_cert_file is not None:
                self._own.load_cert_chain(origin.client_cert_file, origin.client_key_file)
        except OSError as error:
            raise SourceUnreachable(origin.name, f"its TLS files cannot be used: {error}") from error

    def context(self, *, own: bool) -> ssl.SSLContext:
        """Return the context for the source's own endpoint, or for any other (one and the same without files).

        Raises :class:`SourceUnreachable` if the file of authorities cannot be read (any more).
        """
        with self._lock:
            if own and self._own is not None:
                return self._own
            if self._other is None:
                self._other = self._for_others()
            return self._other

    def _for_others(self) -> ssl.SSLContext:
        made = ssl.create_default_context()
        if self._origin.ca_file is not None:
            try:
                made.load_verify_locations(self._origin.ca_file)
            except OSError as error:
                raise SourceUnreachable(self._origin.name, f"its TLS files cannot be used: {error}") from error
        return made


def _context(*, only_own_ca: bool) -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if only_own_ca else ssl.create_default_context()
