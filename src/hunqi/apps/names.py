"""What an app may be called. Docker allows 63 characters for a service, of which its revision takes some."""

from __future__ import annotations

import re
from typing import Final

from hunqi.apps.errors import AppNameError

MAX_APP_LENGTH: Final = 30
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


def parse_app_name(text: str) -> str:
    """Return ``text`` if an app can be called so. Raises ``AppNameError``."""
    if len(text) > MAX_APP_LENGTH or not _NAME.fullmatch(text):
        raise AppNameError(
            f"{text[:80]!r} cannot be the name of an app: use 1 to {MAX_APP_LENGTH} lower-case letters, digits and "
            "hyphens, beginning and ending with a letter or digit"
        )
    return text
