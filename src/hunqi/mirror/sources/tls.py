"""TLS of one source: towards its own endpoint (client certificate included) and towards any other host (never)."""

from __future__ import annotations

import ssl
import threading

from hunqi.mirror.settings import Origin
from hunqi.mirror.sources.errors import SourceUnreachable


class TlsContexts:
    """The two contexts of one source. Thread-safe.

    Without files in the settings both are one, made at first use: the system's authorities take 2 MB and 20 ms.
    ``ca_file`` is trusted beside the system's authorities, as Docker's ``certs.d`` has it; between the nodes of a
    cluster it alone is.
    """

    def __init__(self, origin: Origin, *, only_own_ca: bool = False) -> None:
        """Load the files that the settings name; raises :class:`SourceUnreachable` if they cannot be used.

        With ``only_own_ca`` the system's authorities do not count at the source's own endpoint.
        """
        self._lock = threading.Lock()
        self._own: ssl.SSLContext | None = None
        self._other: ssl.SSLContext | None = None
        if origin.ca_file is None and origin.client_cert_file is None:
            return
        try:
            self._own, self._other = _context(only_own_ca=only_own_ca), ssl.create_default_context()
            if origin.ca_file is not None:
                self._own.load_verify_locations(origin.ca_file)
                self._other.load_verify_locations(origin.ca_file)
            if origin.client_cert_file is not None:
                self._own.load_cert_chain(origin.client_cert_file, origin.client_key_file)
        except OSError as error:
            raise SourceUnreachable(origin.name, f"its TLS files cannot be used: {error}") from error

    def context(self, *, own: bool) -> ssl.SSLContext:
        """Return the context for the source's own endpoint, or for any other."""
        with self._lock:
            if self._own is None or self._other is None:
                self._own = self._other = ssl.create_default_context()
            return self._own if own else self._other


def _context(*, only_own_ca: bool) -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if only_own_ca else ssl.create_default_context()
