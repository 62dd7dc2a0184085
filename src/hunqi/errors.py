"""The error tree: who can do something about it decides the branch.

A class exists for each decision that a caller makes; data travel as attributes; ``code`` is stable and is what
clients may match on. No error here knows of HTTP: each wire format has one total table of its own.
"""

from __future__ import annotations

from typing import ClassVar


class HunqiError(Exception):
    """Base of every error that Hunqi raises on purpose."""

    code: ClassVar[str] = "hunqi.error"


class UserError(HunqiError):
    """The caller can fix it; the message says how."""

    code: ClassVar[str] = "hunqi.user"


class DependencyError(HunqiError):
    """Something that Hunqi depends on failed; the same call may succeed later."""

    code: ClassVar[str] = "hunqi.dependency"


class InvariantError(HunqiError):
    """Hunqi itself is wrong: a promise between its own parts was broken."""

    code: ClassVar[str] = "hunqi.invariant"
