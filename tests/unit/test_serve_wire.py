"""The wire table is total: every error that can reach a client has its place in it."""

from __future__ import annotations

import importlib
import pkgutil

import hunqi.mirror
import hunqi.oci
from hunqi.errors import DependencyError, HunqiError, InvariantError, UserError
from hunqi.kit.rpc import RpcError, RpcUnavailableError
from hunqi.mirror.serve.ranges import RangeNotSatisfiableError
from hunqi.mirror.serve.wire import WIRE, reply_for, wire_error

NEVER_TO_CLIENTS = {
    "mirror.already_serving": "before anything listens",
    "mirror.listen": "before anything listens",
    "store.directory_unusable": "before anything listens",
    "store.too_new": "before anything listens",
    "store.pinned": "only the operator's command removes so",
    "access.token_key": "before anything listens",
    "access.trusted_key": "before anything listens",
    "access.users_file": "before anything listens; later the last good file is used",
    "access.grant": "of the command line",
    "access.password": "of the command line",
    "access.user_exists": "of the command line",
    "access.user_name": "of the command line",
    "access.user_unknown": "of the command line",
    "store.export_incomplete": "of the operator's socket",
    "store.layout": "of the operator's socket",
    "resolve.no_such_platform": "of the operator's socket",
    "resolve.unanswered": "becomes another error in its own room",
    "source.proxy_invalid": "of the configuration",
    "source.url_invalid": "of the configuration",
}


def all_errors() -> set[type[HunqiError]]:
    for package in (hunqi.mirror, hunqi.oci):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    found: set[type[HunqiError]] = set()
    todo = [HunqiError]
    while todo:
        for error in todo.pop().__subclasses__():
            found.add(error)
            todo.append(error)
    bases = {UserError, DependencyError, InvariantError, RpcError, RpcUnavailableError}
    return {error for error in found - bases if error.__module__.startswith(("hunqi.mirror", "hunqi.oci"))}


def test_every_error_of_the_mirror_has_its_wire_form() -> None:
    codes = {error.code for error in all_errors() if not error.code.startswith("operate.")}
    assert len(codes) > 40
    assert codes - set(WIRE) - set(NEVER_TO_CLIENTS) == set()


def test_no_entry_is_left_over() -> None:
    codes = {error.code for error in all_errors()} | {RpcUnavailableError.code}
    assert set(WIRE) - codes == set()
    assert set(NEVER_TO_CLIENTS) - codes == set()


def test_an_error_of_the_fetcher_is_told_as_if_raised_here() -> None:
    error = RpcError("resolve.upstream_limited", "slow down", {"retry_after_s": 7.4})
    assert wire_error(error)[1] == 429
    assert reply_for(error).headers["Retry-After"] == "7"


def test_a_range_outside_names_the_size() -> None:
    assert reply_for(RangeNotSatisfiableError(10)).headers["Content-Range"] == "bytes */10"
