"""The doctor on certificates: good, late, over, from the future, and an authority that grows old."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hunqi.kit.x509 import load_certificate, names
from hunqi.nodes.credentials import read_holding
from hunqi.platform.certificate_checks import check_certificates
from hunqi.platform.findings import Level
from hunqi.platform.founding import make_keys
from hunqi.platform.membership import Membership
from hunqi.platform.settings import PlatformSettings

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> PlatformSettings:
    """A machine that was founded at ``NOW``."""
    chosen = PlatformSettings(data_dir=tmp_path)
    make_keys(chosen, Membership(cluster="c1", node="n1"), now=NOW)
    return chosen


@pytest.mark.parametrize(
    ("days", "level", "words"),
    [
        (0, Level.OK, "good until 2026-04-01"),
        (80, Level.WARNING, "should have been renewed"),
        (91, Level.PROBLEM, "ended on 2026-04-01"),
        (-1, Level.PROBLEM, "clock is wrong"),
    ],
)
def test_certificates_are_judged_by_their_end(settings: PlatformSettings, days: int, level: Level, words: str) -> None:
    (found,) = check_certificates(settings, now=NOW + timedelta(days=days))
    assert (found.level, words in found.text) == (level, True), found
    assert bool(found.remedy) == (level is not Level.OK)


def test_an_authority_is_told_of_a_year_before_its_end(settings: PlatformSettings) -> None:
    *_, found = check_certificates(settings, now=NOW + timedelta(days=3650 - 300))
    assert (found.name, found.level) == ("authority", Level.WARNING)


def test_a_machine_of_no_cluster_has_nothing_to_say(tmp_path: Path) -> None:
    assert check_certificates(PlatformSettings(data_dir=tmp_path), now=NOW) == []


def test_what_is_over_is_made_anew_by_up_in_the_same_name_and_what_is_good_is_kept(settings: PlatformSettings) -> None:
    membership = Membership(cluster="c1", node="n1")
    pairs = (settings.agent_tls, settings.mirror_tls, settings.control_tls)
    before = [read_holding(paths.cert) for paths in pairs]
    assert before[0].identity.name == before[1].identity.name
    make_keys(settings, membership, now=NOW + timedelta(days=80))
    assert [read_holding(paths.cert) for paths in pairs] == before
    make_keys(settings, membership, now=NOW + timedelta(days=91))
    after = [read_holding(paths.cert) for paths in pairs]
    assert [each.identity for each in after] == [each.identity for each in before]
    assert all(each.not_after > NOW + timedelta(days=180) for each in after)


def test_machine_that_gets_an_address_gets_certificates_for_it_in_the_same_name(settings: PlatformSettings) -> None:
    membership, pairs = Membership(cluster="c1", node="n1"), (settings.agent_tls, settings.mirror_tls)
    before = [read_holding(paths.cert).identity for paths in pairs]
    make_keys(replace(settings, advertise="10.0.0.7"), membership, now=NOW)

    assert [read_holding(paths.cert).identity for paths in pairs] == before
    signed = [paths.cert.read_text() for paths in pairs]
    assert all(names(load_certificate(pem), ["127.0.0.1", "10.0.0.7"]) for pem in signed)
    assert not any(names(load_certificate(pem), ["10.0.0.8"]) for pem in signed)

    make_keys(replace(settings, advertise="10.0.0.7"), membership, now=NOW)
    assert [paths.cert.read_text() for paths in pairs] == signed


def test_another_authority_signs_for_the_same_names(settings: PlatformSettings) -> None:
    membership, pairs = Membership(cluster="c1", node="n1"), (settings.agent_tls, settings.control_tls)
    before = [(read_holding(paths.cert), paths.ca.read_text()) for paths in pairs]
    settings.authority_file.rename(settings.authority_file.with_suffix(".old"))
    authority = make_keys(settings, membership, now=NOW + timedelta(days=1))
    for paths, (held, ca) in zip(pairs, before, strict=True):
        assert read_holding(paths.cert).identity == held.identity
        assert paths.ca.read_text() == authority.ca_pem != ca
