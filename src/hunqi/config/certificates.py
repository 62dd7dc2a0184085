"""Certificates, keys and authorities are loaded once before anything starts: a process that cannot use them would die
again and again instead of saying so.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from hunqi.config.evaluate import Evaluator
from hunqi.mirror.settings import MirrorSettings, Origin, TlsFiles


def check_certificates(evaluator: Evaluator, settings: MirrorSettings) -> None:
    """Note a fault for each file that is no certificate, key or authority, and each pair that does not match."""
    for group, files in (("tls", settings.tls), ("peers.tls", settings.peers.tls)):
        if files is not None:
            _check_tls(evaluator, group, files)
    for key, origins in (("upstreams", settings.upstreams), ("relays", settings.relays)):
        for origin in origins:
            _check_origin(evaluator, f'{evaluator.layers.file_name}: mirror.{key}."{origin.name}"', origin)


def _check_tls(evaluator: Evaluator, group: str, files: TlsFiles) -> None:
    _check_pair(evaluator, _where(evaluator, f"{group}.cert"), files.cert_file, files.key_file)
    if files.ca_file is not None:
        _check_authority(evaluator, _where(evaluator, f"{group}.ca"), files.ca_file)


def _check_origin(evaluator: Evaluator, where: str, origin: Origin) -> None:
    if origin.ca_file is not None:
        _check_authority(evaluator, f"{where}.ca-file", origin.ca_file)
    if origin.client_cert_file is not None and origin.client_key_file is not None:
        _check_pair(evaluator, f"{where}.client-cert-file", origin.client_cert_file, origin.client_key_file)


def _where(evaluator: Evaluator, key: str) -> str:
    written = evaluator.layers.find(key)
    return written.where if written else key


def _check_pair(evaluator: Evaluator, where: str, cert_file: Path, key_file: Path) -> None:
    def load() -> None:
        # An empty password: a key that wants one is a fault and no question on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_file, key_file, password=lambda: "")

    remedy = f"name a certificate in PEM whose key, without a password, is {key_file}"
    _check(evaluator, where, cert_file, load, remedy=remedy)


def _check_authority(evaluator: Evaluator, where: str, ca_file: Path) -> None:
    def load() -> None:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca_file)

    _check(evaluator, where, ca_file, load, remedy="name an authority's certificates in PEM")


def _check(evaluator: Evaluator, where: str, path: Path, load: Callable[[], None], *, remedy: str) -> None:
    try:
        load()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        evaluator.fault(where, f'"{path}"', rule=f"cannot be used: {reason}", remedy=remedy)
