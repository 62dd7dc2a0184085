"""Certificates: each by a file of its own (SDS), so that a renewed one changes no listener and cuts no connection."""

from __future__ import annotations

import hashlib
from typing import Final

from hunqi.gateway.model import Certificate, Place
from hunqi.gateway.render.common import JSON, file_name, file_source, message

_DOWNSTREAM: Final = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"


def secret_name(certificate: Certificate) -> str:
    """Return the name of the secret: that of the hosts it is for, whatever the certificate is at the time."""
    hosts = ",".join(sorted(certificate.hosts))
    return (
        f"{certificate.hosts[0]}-{hashlib.sha256(hosts.encode()).hexdigest()[:8]}" if certificate.hosts else "default"
    )


def render_secret(certificate: Certificate) -> JSON:
    """Return the SDS resource. It holds the private key: its file is for the gateway only."""
    return message(
        "envoy.extensions.transport_sockets.tls.v3.Secret",
        name=secret_name(certificate),
        tls_certificate={
            "certificate_chain": {"inline_string": certificate.chain_pem},
            "private_key": {"inline_string": certificate.key_pem},
        },
    )


def tls_socket(certificate: Certificate, place: Place) -> JSON:
    """Return the transport socket of connections that this certificate answers for."""
    name = secret_name(certificate)
    source = file_source(f"{place.folder}/sds/{file_name(name)}")
    return {
        "name": "tls",
        "typed_config": message(
            _DOWNSTREAM,
            common_tls_context={
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificate_sds_secret_configs": [{"name": name, "sds_config": source}],
            },
        ),
    }
