"""The processes of a machine: which there are, in which order they start and stop, and how long each may take.

They are forked from the supervisor, which has imported the code that they share: that is what keeps mirror, control
and agent within little more than the memory of one. Each can also be run alone (``hunqi mirror serve``, ``hunqi
control serve``, ``hunqi agent serve``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hunqi.platform.settings import PlatformSettings

ChildMain = Callable[[PlatformSettings], int]
"""Serves until SIGTERM and returns the exit status."""

MIRROR: Final = "mirror"
CONTROL: Final = "control"
AGENT: Final = "agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One process that the supervisor keeps."""

    name: str
    main: ChildMain
    stop_s: float
    """After SIGTERM it has so long; then it is killed."""
    reloads: bool = False
    """Whether it takes SIGHUP as "read your settings again"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mains:
    """What the processes do; given by the wiring."""

    mirror: ChildMain
    control: ChildMain
    agent: ChildMain


def children_of(settings: PlatformSettings, mains: Mains) -> Sequence[ChildSpec]:
    """Return the processes of this machine in the order of their start; they stop in the reverse order.

    The mirror comes first, since the others pull through it; the agent last, since it is what control drives. On the
    way down the agent goes first: a control that is alone does no harm, an agent that is alone is of no use.
    """
    mirror = ChildSpec(name=MIRROR, main=mains.mirror, stop_s=40.0, reloads=True)
    control = ChildSpec(name=CONTROL, main=mains.control, stop_s=20.0)
    agent = ChildSpec(name=AGENT, main=mains.agent, stop_s=20.0)
    return (mirror, control, agent) if settings.has_control else (mirror, agent)
