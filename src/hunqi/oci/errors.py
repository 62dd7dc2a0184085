"""The error form of the registry protocol (distribution-spec 1.1, "Error codes")."""

from __future__ import annotations

import json
from enum import Enum


class ErrorCode(Enum):
    """Each code with the status that usually carries it."""

    BLOB_UNKNOWN = 404
    BLOB_UPLOAD_INVALID = 416
    BLOB_UPLOAD_UNKNOWN = (404, "upload")
    DIGEST_INVALID = 400
    MANIFEST_BLOB_UNKNOWN = (404, "manifest blob")
    MANIFEST_INVALID = (400, "manifest")
    MANIFEST_UNKNOWN = (404, "manifest")
    NAME_INVALID = (400, "name")
    NAME_UNKNOWN = (404, "name")
    SIZE_INVALID = (400, "size")
    UNAUTHORIZED = 401
    DENIED = 403
    UNSUPPORTED = 405
    TOOMANYREQUESTS = 429
    UNAVAILABLE = 503
    """Not in the specification's table; docker-registry's own for a backend that fails."""

    @property
    def status(self) -> int:
        """The HTTP status code."""
        value = self.value
        return value[0] if isinstance(value, tuple) else value


def error_body(code: ErrorCode, message: str, detail: object = None) -> bytes:
    """Return the JSON document ``{"errors": [{"code", "message", "detail"}]}`` as bytes."""
    entry: dict[str, object] = {"code": code.name, "message": message}
    if detail is not None:
        entry["detail"] = detail
    return json.dumps({"errors": [entry]}, separators=(",", ":")).encode()
