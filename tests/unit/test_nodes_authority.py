"""The cluster's authority: what it signs, for whom, and what it refuses."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hunqi.nodes.authority import AuthorityError, ClusterAuthority, key_name, make_request, request_for
from hunqi.nodes.identity import Credential, Identity, IdentityError, Role, fingerprint, read_identity
from support_agent import CLUSTER, NOW


def test_nothing_secret_is_shown() -> None:
    authority = ClusterAuthority.make(CLUSTER, now=NOW)
    assert "PRIVATE" not in repr(authority.credential)
    assert "PRIVATE" not in repr(authority)
    assert "PRIVATE" in authority.credential.key_pem


def test_an_authority_is_taken_up_again_with_the_same_fingerprint() -> None:
    first = ClusterAuthority.make(CLUSTER, now=NOW)
    again = ClusterAuthority(CLUSTER, first.credential)
    assert again.fingerprint == first.fingerprint == fingerprint(first.ca_pem)
    assert len(first.fingerprint) == 64


def test_only_the_key_of_a_request_is_believed() -> None:
    authority = ClusterAuthority.make(CLUSTER, now=NOW)
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "control")]))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"hunqi://{CLUSTER}/control/evil")]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )
    signed = x509.load_pem_x509_certificate(authority.sign(request, Role.AGENT, now=NOW).encode())
    names = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"hunqi://{CLUSTER}/agent/{key_name(request)}"]
    assert not signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert signed.not_valid_before_utc < NOW < signed.not_valid_after_utc - timedelta(days=80)


def test_a_key_keeps_its_name() -> None:
    key, request = make_request()
    assert key_name(request_for(key)) == key_name(request)


@pytest.mark.parametrize("kind", ["nonsense", "tampered", "rsa"])
def test_what_is_no_request_is_refused(kind: str) -> None:
    authority = ClusterAuthority.make(CLUSTER, now=NOW)
    _, request = make_request()
    if kind == "tampered":
        lines = request.splitlines()
        body = lines[3]
        lines[3] = body[:-4] + ("AAAA" if not body.endswith("AAAA") else "BBBB")
        request = "\n".join(lines)
    elif kind == "rsa":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        request = made.public_bytes(serialization.Encoding.PEM).decode()
    else:
        request = "hello"
    with pytest.raises(AuthorityError):
        authority.sign(request, Role.AGENT, now=NOW)


def test_a_damaged_authority_says_what_to_do() -> None:
    good = ClusterAuthority.make(CLUSTER, now=NOW).credential
    for broken in (Credential(cert_pem="x", key_pem=good.key_pem), Credential(cert_pem=good.cert_pem, key_pem="x")):
        with pytest.raises(AuthorityError, match="backup"):
            ClusterAuthority(CLUSTER, broken)


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "A", "-a", "x" * 64, "a\nb"])
def test_names_are_labels_of_dns(name: str) -> None:
    with pytest.raises(IdentityError):
        Identity(cluster=CLUSTER, role=Role.AGENT, name=name)


@pytest.mark.parametrize(
    "names",
    [(), (("DNS", "x.agent.hunqi"),), (("URI", "hunqi://c1/root/x"),), (("URI", "https://c1/agent/x"),)],
)
def test_a_certificate_that_names_nobody_is_nobody(names: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(IdentityError):
        read_identity({"subjectAltName": names})
    with pytest.raises(IdentityError):
        read_identity(None)
