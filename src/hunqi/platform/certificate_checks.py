"""What the doctor says of this machine's certificates, and of the authority that signs between machines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from hunqi.nodes.credentials import Holding, authority_ends, read_holding
from hunqi.nodes.identity import IdentityError
from hunqi.platform.findings import Finding, Level
from hunqi.platform.settings import PlatformSettings

LATE: Final = timedelta(days=14)
"""A certificate of ninety days is renewed thirty before its end; with so much left something is wrong."""
AUTHORITY_LATE: Final = timedelta(days=365)
_NAME: Final = "certificates"


def check_certificates(settings: PlatformSettings, *, now: datetime | None = None) -> list[Finding]:
    """Judge the certificates of agent, mirror and control; of a machine that is in no cluster there is nothing."""
    at = now or datetime.now(UTC)
    pairs = [settings.agent_tls, settings.mirror_tls]
    pairs += [settings.control_tls] if settings.has_control else []
    there = [paths for paths in pairs if paths.cert.exists()]
    if not there:
        return []
    try:
        held = [read_holding(paths.cert) for paths in there]
        return [_judge(min(held, key=lambda each: each.not_after), settings, at), *_of_authority(settings, at)]
    except IdentityError as error:
        return [Finding(name=_NAME, level=Level.PROBLEM, text=str(error), remedy=_again(settings))]


def _judge(first: Holding, settings: PlatformSettings, now: datetime) -> Finding:
    what = f"that of this machine's {first.identity.role}"
    if first.over(now):
        text = f"{what} ended on {first.not_after.date()}: no other machine takes it any more"
        return Finding(name=_NAME, level=Level.PROBLEM, text=text, remedy=_again(settings))
    if now < first.not_before:
        text = f"{what} is not valid before {first.not_before}: this machine's clock is wrong"
        return Finding(name=_NAME, level=Level.PROBLEM, text=text, remedy="set the clock, and run a time service")
    if first.not_after - now < LATE:
        text = f"{what} ends on {first.not_after.date()} and should have been renewed"
        remedy = "is control running, and does it reach this machine's agent? hunqi node ls says"
        return Finding(name=_NAME, level=Level.WARNING, text=text, remedy=remedy)
    text = f"all are good until {first.not_after.date()}, and renewed before by themselves"
    return Finding(name=_NAME, level=Level.OK, text=text)


def _of_authority(settings: PlatformSettings, now: datetime) -> list[Finding]:
    end = authority_ends(settings.agent_tls.ca)
    if end - now > AUTHORITY_LATE:
        return []
    text = f"the cluster's authority ends on {end.date()}, and with it every certificate between machines"
    remedy = "replace it in time: docs/how-to/certificates.md"
    level = Level.PROBLEM if now >= end else Level.WARNING
    return [Finding(name="authority", level=level, text=text, remedy=remedy)]


def _again(settings: PlatformSettings) -> str:
    return (
        "hunqi up makes new ones" if settings.has_control else "let it join again: hunqi node token, hunqi join TOKEN"
    )
