"""A holder's files: what a certificate says, and a swap that may be cut short anywhere."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from hunqi.nodes import credentials
from hunqi.nodes.authority import ClusterAuthority, key_name, make_request
from hunqi.nodes.identity import Credential, IdentityError, Role, TlsPaths
from hunqi.nodes.renewal import renew_own
from support_agent import CLUSTER, NOW, write_credential


def holder(directory: Path, *, now: datetime = NOW) -> tuple[TlsPaths, ClusterAuthority, str]:
    """Return the files of a holder, the authority, and its name."""
    authority = ClusterAuthority.make(CLUSTER, now=now)
    key, request = make_request()
    cert = authority.sign(request, Role.CONTROL, hosts=("10.0.0.1", "node.test"), now=now)
    paths = write_credential(directory, Credential(cert_pem=cert, key_pem=key), authority.ca_pem)
    return paths, authority, key_name(request)


def loads(paths: TlsPaths) -> bool:
    """Whether OpenSSL takes key and certificate for a pair."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(paths.cert, paths.key)
    except ssl.SSLError:
        return False
    return True


@pytest.mark.parametrize("now", [NOW, datetime(2049, 12, 31, tzinfo=UTC), datetime(2071, 1, 1, tzinfo=UTC)])
def test_a_certificate_is_read_as_the_library_reads_it(tmp_path: Path, now: datetime) -> None:
    paths, _, name = holder(tmp_path, now=now)
    held = credentials.read_holding(paths.cert)
    theirs = x509.load_pem_x509_certificate(paths.cert.read_bytes())
    assert (held.not_before, held.not_after) == (theirs.not_valid_before_utc, theirs.not_valid_after_utc)
    assert (held.identity.cluster, held.identity.role, held.identity.name) == (CLUSTER, Role.CONTROL, name)


def test_renewal_is_due_when_a_third_is_left(tmp_path: Path) -> None:
    held = credentials.read_holding(holder(tmp_path)[0].cert)
    assert not held.due(NOW + timedelta(days=59))
    assert held.due(NOW + timedelta(days=61))
    assert not held.over(NOW + timedelta(days=89))
    assert held.over(NOW + timedelta(days=91))


@pytest.mark.parametrize("damage", ["", "nonsense", "cut", "other"])
def test_what_is_no_certificate_of_ours_is_said(tmp_path: Path, damage: str) -> None:
    paths, authority, _ = holder(tmp_path)
    text = {"": "", "nonsense": "hello", "other": authority.ca_pem}.get(damage)
    if text is None:
        lines = paths.cert.read_text().splitlines()
        text = "\n".join([*lines[:3], lines[-1]])
    paths.cert.write_text(text)
    with pytest.raises(IdentityError):
        credentials.read_holding(paths.cert)


def test_control_renews_its_own_with_a_new_key_and_the_same_name(tmp_path: Path) -> None:
    paths, authority, name = holder(tmp_path)
    before = paths.key.read_text()
    assert not renew_own(paths, authority, now=NOW + timedelta(days=59))
    later = NOW + timedelta(days=61)
    assert renew_own(paths, authority, now=later)
    held = credentials.read_holding(paths.cert)
    assert held.identity.name == name
    assert held.not_after > NOW + timedelta(days=150)
    assert paths.key.read_text() != before
    assert paths.key.stat().st_mode & 0o777 == 0o600
    assert loads(paths)
    assert not renew_own(paths, authority, now=later)


def test_a_request_is_for_the_same_key_until_it_is_answered(tmp_path: Path) -> None:
    paths, authority, name = holder(tmp_path)
    request = credentials.begin(paths)
    assert key_name(credentials.begin(paths)) == key_name(request) != name
    credentials.install(paths, authority.sign(request, Role.CONTROL, name=name, now=NOW), holder=name)
    assert key_name(credentials.begin(paths)) != key_name(request)


@pytest.mark.parametrize("wrong", ["nonsense", "other key", "other holder", "other authority", "unasked"])
def test_what_was_not_asked_for_changes_nothing(tmp_path: Path, wrong: str) -> None:
    paths, authority, name = holder(tmp_path)
    before = paths.cert.read_text(), paths.key.read_text()
    request = make_request()[1] if wrong in {"other key", "unasked"} else credentials.begin(paths)
    if wrong == "other key":
        credentials.begin(paths)
    signer = ClusterAuthority.make(CLUSTER, now=NOW) if wrong == "other authority" else authority
    given = signer.sign(request, Role.CONTROL, name="somebody" if wrong == "other holder" else name, now=NOW)
    with pytest.raises(IdentityError):
        credentials.install(paths, "hello" if wrong == "nonsense" else given, holder=name)
    credentials.settle(paths)
    assert (paths.cert.read_text(), paths.key.read_text()) == before


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_swap_that_was_cut_short_is_finished_by_whoever_reads_next(tmp_path: Path, done: int) -> None:
    paths, authority, name = holder(tmp_path)
    request = credentials.begin(paths)
    fresh_key, fresh_cert = paths.key.with_name("agent.key.new"), paths.cert.with_name("agent.pem.new")
    given = authority.sign(request, Role.CONTROL, name=name, now=NOW)
    if done >= 1:  # the certificate was written beside, and nothing more
        fresh_cert.write_text(given)
    if done >= 2:  # and the key was renamed
        fresh_key.replace(paths.key)
    credentials.settle(paths)
    assert loads(paths)
    assert (paths.cert.read_text() == given) == (done > 0)
