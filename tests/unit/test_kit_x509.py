"""Certificates as our authorities make them, judged by OpenSSL and by the extensions that RFC 5280 asks for."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from hunqi.kit.x509 import (
    Authority,
    Leaf,
    X509Error,
    key_to_pem,
    load_certificate,
    load_key,
    make_key,
    make_request,
    requested_key,
    to_pem,
)

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


def signed(authority: Authority, leaf: Leaf, *, life: timedelta = DAY) -> tuple[str, str]:
    """Return a certificate and its key."""
    key = make_key()
    return authority.sign(key.public_key(), leaf, now=NOW, life=life), key_to_pem(key)


def greet(directory: Path, authority: Authority, pair: tuple[str, str], *, name: str) -> str:
    """Have OpenSSL shake hands with a server that has ``pair``; return what was wrong, empty if nothing."""
    cert, key, ca = directory / "cert.pem", directory / "key.pem", directory / "ca.pem"
    for path, text in ((cert, pair[0]), (key, pair[1]), (ca, authority.cert_pem)):
        path.write_text(text)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert, key)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    asking.load_verify_locations(ca)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            serving.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with asking.wrap_socket(ours, server_hostname=name):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        ours.close()
        thread.join()


def test_openssl_takes_what_an_authority_signs_for_each_of_its_hosts_and_no_other(tmp_path: Path) -> None:
    authority = Authority.make("test", now=NOW)
    pair = signed(authority, Leaf(name="x", hosts=("shop.test", "*.shop.test", "10.0.0.1", "::1")))
    for name in ("shop.test", "www.shop.test", "10.0.0.1", "::1"):
        assert greet(tmp_path, authority, pair, name=name) == "", name
    assert "mismatch" in greet(tmp_path, authority, pair, name="other.test")
    # Another authority of the same name is another one.
    assert greet(tmp_path, Authority.make("test", now=NOW), pair, name="shop.test")


def test_what_is_signed_may_sign_nothing_and_an_authority_signs_no_authorities() -> None:
    authority = Authority.make("test", now=NOW)
    for text, is_authority in ((authority.cert_pem, True), (signed(authority, Leaf(name="x", hosts=("h",)))[0], False)):
        found = load_certificate(text).extensions
        basic = found.get_extension_for_class(x509.BasicConstraints)
        usage = found.get_extension_for_class(x509.KeyUsage)
        assert basic.critical
        assert usage.critical
        assert basic.value.ca is is_authority
        assert basic.value.path_length == (0 if is_authority else None)
        assert (usage.value.key_cert_sign, usage.value.digital_signature) == (is_authority, not is_authority)
    purposes = load_certificate(signed(authority, Leaf(name="x", hosts=("h",), is_client=False))[0])
    assert list(purposes.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]


def test_serials_differ_and_clocks_may_be_behind() -> None:
    authority = Authority.make("test", now=NOW)
    both = [load_certificate(signed(authority, Leaf(name="x", hosts=("h",)))[0]) for _ in range(2)]
    assert both[0].serial_number != both[1].serial_number
    assert min(each.serial_number for each in both).bit_length() > 100
    assert both[0].not_valid_before_utc == NOW - timedelta(hours=1)
    assert both[0].not_valid_after_utc == NOW + DAY


def test_nothing_outlives_its_authority() -> None:
    authority = Authority.make("test", now=NOW, life=timedelta(days=30))
    text, _ = signed(authority, Leaf(name="x", hosts=("h",)), life=timedelta(days=90))
    assert load_certificate(text).not_valid_after_utc == authority.not_after == NOW + timedelta(days=30)


def test_an_authority_is_taken_up_only_with_its_own_key() -> None:
    one, two = Authority.make("one", now=NOW), Authority.make("two", now=NOW)
    assert Authority(one.cert_pem, one.key_pem).not_after == one.not_after
    for cert, key in ((one.cert_pem, two.key_pem), ("x", one.key_pem), (one.cert_pem, "x")):
        with pytest.raises(X509Error):
            Authority(cert, key)
    assert "PRIVATE" not in repr(one)


def test_a_name_for_people_is_cut_and_one_for_clients_is_whole() -> None:
    host = "a" * 60 + ".example.test"
    certificate = load_certificate(signed(Authority.make("test", now=NOW), Leaf(name=host, hosts=(host,)))[0])
    (name,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert name.value == host[:64]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [host]


@pytest.mark.parametrize("hosts", [(), ("höst",)])
def test_hosts_that_are_none_are_refused(hosts: tuple[str, ...]) -> None:
    with pytest.raises(X509Error):
        signed(Authority.make("test", now=NOW), Leaf(name="x", hosts=hosts))


def test_a_request_shows_its_key_and_must_be_signed_by_it() -> None:
    key = make_key()
    assert requested_key(make_request(load_key(key_to_pem(key)), hosts=("shop.test",))) == key.public_key()
    other = ec.generate_private_key(ec.SECP384R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(other, hashes.SHA256())
    for text in ("x", to_pem(made)):
        with pytest.raises(X509Error):
            requested_key(text)
