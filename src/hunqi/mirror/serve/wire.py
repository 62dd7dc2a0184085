"""The one table from errors to the registry's wire form, and the replies that carry it.

An error is looked up by its stable ``code``, so one that crossed a process boundary is treated as if raised here.
``tests/unit/test_serve_wire.py`` proves the table total.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from hunqi.errors import HunqiError
from hunqi.kit.rpc import RpcError
from hunqi.mirror.serve.ranges import RangeNotSatisfiableError
from hunqi.oci.errors import ErrorCode, error_body

WireError = tuple[ErrorCode, int]

WIRE: Final[Mapping[str, WireError]] = {
    "oci.digest_invalid": (ErrorCode.DIGEST_INVALID, 400),
    "oci.name_invalid": (ErrorCode.NAME_INVALID, 400),
    "oci.tag_invalid": (ErrorCode.MANIFEST_UNKNOWN, 404),
    "oci.manifest_invalid": (ErrorCode.MANIFEST_INVALID, 400),
    "mirror.unknown_upstream": (ErrorCode.NAME_UNKNOWN, 404),
    "mirror.not_local": (ErrorCode.DENIED, 403),
    "mirror.not_mirrored": (ErrorCode.DENIED, 403),
    "serve.no_such_path": (ErrorCode.NAME_UNKNOWN, 404),
    "rpc.unavailable": (ErrorCode.UNAVAILABLE, 503),
    "serve.content_range": (ErrorCode.BLOB_UPLOAD_INVALID, 400),
    "serve.chunk_size": (ErrorCode.SIZE_INVALID, 400),
    "serve.client_left": (ErrorCode.BLOB_UPLOAD_INVALID, 400),
    "serve.body_stalled": (ErrorCode.BLOB_UPLOAD_INVALID, 408),
    "serve.body_too_large": (ErrorCode.SIZE_INVALID, 413),
    "serve.push_tag": (ErrorCode.MANIFEST_INVALID, 400),
    "serve.missing_content": (ErrorCode.MANIFEST_BLOB_UNKNOWN, 404),
    "serve.manifest_unknown": (ErrorCode.MANIFEST_UNKNOWN, 404),
    "serve.blob_unknown": (ErrorCode.BLOB_UNKNOWN, 404),
    "serve.page_size": (ErrorCode.UNSUPPORTED, 400),
    "serve.repository_unknown": (ErrorCode.NAME_UNKNOWN, 404),
    "serve.range_not_satisfiable": (ErrorCode.UNSUPPORTED, 416),
    "store.digest_mismatch": (ErrorCode.DIGEST_INVALID, 400),
    "store.upload_range": (ErrorCode.BLOB_UPLOAD_INVALID, 416),
    "store.upload_unknown": (ErrorCode.BLOB_UPLOAD_UNKNOWN, 404),
    "store.upload_busy": (ErrorCode.UNAVAILABLE, 503),
    "store.full": (ErrorCode.UNAVAILABLE, 507),
    "store.unavailable": (ErrorCode.UNAVAILABLE, 503),
    "store.damaged": (ErrorCode.UNAVAILABLE, 503),
    "mirror.loop": (ErrorCode.UNAVAILABLE, 508),
    "resolve.manifest_unknown": (ErrorCode.MANIFEST_UNKNOWN, 404),
    "resolve.blob_unknown": (ErrorCode.BLOB_UNKNOWN, 404),
    "resolve.repository_denied": (ErrorCode.DENIED, 403),
    "resolve.upstream_limited": (ErrorCode.TOOMANYREQUESTS, 429),
    "resolve.upstream_unavailable": (ErrorCode.UNAVAILABLE, 502),
    "resolve.relay_loop": (ErrorCode.UNAVAILABLE, 508),
    "peers.not_replicated": (ErrorCode.UNAVAILABLE, 503),
    "peers.refused": (ErrorCode.UNAVAILABLE, 503),
    "peers.news_invalid": (ErrorCode.UNSUPPORTED, 400),
    "source.not_found": (ErrorCode.BLOB_UNKNOWN, 404),
    "source.unauthorized": (ErrorCode.DENIED, 403),
    "source.forbidden": (ErrorCode.DENIED, 403),
    "source.too_many_requests": (ErrorCode.TOOMANYREQUESTS, 429),
    "source.loop_detected": (ErrorCode.UNAVAILABLE, 508),
    "source.aborted": (ErrorCode.UNAVAILABLE, 502),
    "source.busy": (ErrorCode.UNAVAILABLE, 503),
    "source.changed": (ErrorCode.UNAVAILABLE, 502),
    "source.credentials_unavailable": (ErrorCode.UNAVAILABLE, 502),
    "source.cut": (ErrorCode.UNAVAILABLE, 502),
    "source.error": (ErrorCode.UNAVAILABLE, 502),
    "source.misbehaves": (ErrorCode.UNAVAILABLE, 502),
    "source.range_not_satisfiable": (ErrorCode.UNAVAILABLE, 502),
    "source.server_error": (ErrorCode.UNAVAILABLE, 502),
    "source.timeout": (ErrorCode.UNAVAILABLE, 504),
    "source.unreachable": (ErrorCode.UNAVAILABLE, 502),
    "fetch.abandoned": (ErrorCode.UNAVAILABLE, 503),
    "fetch.crashed": (ErrorCode.UNAVAILABLE, 500),
    "fetch.digest_mismatch": (ErrorCode.UNAVAILABLE, 502),
    "fetch.disk": (ErrorCode.UNAVAILABLE, 503),
    "fetch.error": (ErrorCode.UNAVAILABLE, 502),
    "fetch.no_source": (ErrorCode.UNAVAILABLE, 502),
    "fetch.stopped": (ErrorCode.UNAVAILABLE, 503),
    "fetch.too_many": (ErrorCode.UNAVAILABLE, 503),
    "access.bad_credentials": (ErrorCode.UNAUTHORIZED, 401),
    "access.token_invalid": (ErrorCode.UNAUTHORIZED, 401),
    "access.token_expired": (ErrorCode.UNAUTHORIZED, 401),
    "access.login_refused": (ErrorCode.UNAUTHORIZED, 401),
    "access.denied": (ErrorCode.DENIED, 403),
    "access.password_check": (ErrorCode.UNAVAILABLE, 503),
    "serve.method_not_allowed": (ErrorCode.UNSUPPORTED, 405),
}
"""``code`` of an error → code and status on the wire. (A tag that cannot be one cannot exist: 404, not 400.)"""


def wire_error(error: HunqiError) -> WireError:
    """Return how ``error`` is told to a client; an unknown one is our own fault and says no more than that."""
    code = error.remote_code if isinstance(error, RpcError) else error.code
    return WIRE.get(code, (ErrorCode.UNAVAILABLE, 503))


def error_reply(
    code: ErrorCode,
    message: str,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    detail: object = None,
) -> web.Response:
    """Return a response in the registry's error form."""
    return web.Response(
        status=status or code.status,
        body=error_body(code, message, detail),
        headers={"Content-Type": "application/json", **(headers or {})},
    )


def reply_for(error: HunqiError) -> web.Response:
    """Return the response that tells ``error``; ``Retry-After`` is passed on where the error has one."""
    code, status = wire_error(error)
    data = error.data if isinstance(error, RpcError) else {}
    retry_after_s = data.get("retry_after_s", getattr(error, "retry_after_s", None))
    headers: dict[str, str] = {}
    if retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(float(retry_after_s))))
    if isinstance(error, RangeNotSatisfiableError):
        headers["Content-Range"] = f"bytes */{error.size}"
    return error_reply(code, str(error), status=status, headers=headers)
