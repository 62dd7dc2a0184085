"""What is wrong with a route: Envoy refuses a whole file for one word that it does not take, so such routes stay out.

``route_faults`` says so in sentences; ``sound_routes`` keeps the others and says who else has the same place.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from hunqi.apps.model import Match, Protocol, RouteSpec
from hunqi.gateway.model import Edge, Route

_HOST: Final = re.compile(
    r"(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)
TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
_PATH: Final = re.compile(r"=?/[^\s?#\x00-\x1f\x7f]{0,1000}")
_VALUE: Final = re.compile(r"[^\x00-\x1f\x7f]{0,4000}")
_HTPASSWD: Final = re.compile(r"[^:\s\x00-\x1f\x7f]{1,200}:\{SHA\}[A-Za-z0-9+/]{27}=")
_NOT_RE2: Final = re.compile(r"\(\?(?:[=!>]|<[=!]|P=|\()|\\[1-9]|\\[ZG]|[*+?}]\+")
"""Look-around, back-references, atomic groups and possessive quantifiers: Python has them, RE2 has not."""
_LONGEST_REGEX: Final = 500
_RESERVED: Final = ("x-hunqi-", "x-envoy-")
_RESERVED_HEADERS: Final = frozenset({"host", "connection", "transfer-encoding", "content-length", "upgrade", "te"})
_HTTPS_PORT: Final = 443


def route_faults(spec: RouteSpec, edge: Edge) -> tuple[str, ...]:
    """Return what keeps the route from being served, each a sentence with what to do; empty if nothing does."""
    faults: list[str] = []
    faults += _place_faults(spec, edge)
    faults += [
        f"host {each!r} is no host name: write example.com or *.example.com"
        for each in spec.hosts
        if not _is_host(each)
    ]
    if not _PATH.fullmatch(spec.path):
        faults.append(f"path {spec.path!r} must begin with / (or =/) and have no blank, ? or #")
    if spec.replace_prefix is not None and not _PATH.fullmatch(spec.replace_prefix):
        faults.append(f"replace_prefix {spec.replace_prefix!r} must begin with / and have no blank, ? or #")
    if spec.host_rewrite is not None and not _is_host(spec.host_rewrite):
        faults.append(f"host_rewrite {spec.host_rewrite!r} is no host name")
    for match in spec.headers:
        faults += match_faults(match)
    for name, value in (*spec.request_headers.items(), *spec.response_headers.items()):
        faults += _header_faults(name, value)
    faults += [
        f"allow {each!r} is no network: write 10.0.0.0/8 or an address" for each in spec.allow if not _is_network(each)
    ]
    if not all(_HTPASSWD.fullmatch(each) for each in spec.basic_auth):
        faults.append("basic_auth takes lines of htpasswd -s only (user:{SHA}…)")
    names = [each.partition(":")[0] for each in spec.basic_auth]
    if len(set(names)) != len(names):
        faults.append("basic_auth names a user twice")
    faults += _policy_faults(spec)
    return tuple(faults)


def sound_routes(routes: Iterable[Route], edge: Edge) -> tuple[list[Route], dict[str, list[str]]]:
    """Return the routes that can be served and, by app, sentences on those that cannot.

    Of two routes for one place the one of the app that comes first by name is served.
    """
    sound: list[Route] = []
    problems: dict[str, list[str]] = {}
    owners: dict[tuple[object, str], Route] = {}
    # A lane's routes come last: they may stand where their own app's others do, and drive away nobody's.
    for route in sorted(routes, key=lambda each: (bool(each.lane), each.app, each.service)):
        said = [f"the route of {route.service} is not served: {fault}" for fault in route_faults(route.spec, edge)]
        taken = [found for place in _places(route.spec) for found in _owners(owners, place, route)]
        if taken and not said:
            owner = taken[0]
            said.append(f"the route of {route.service} is not served: {owner.app}'s {owner.service} has the same place")
        if said:
            problems.setdefault(route.app, []).extend(said)
            continue
        owners.update(dict.fromkeys(((place, route.lane) for place in _places(route.spec)), route))
        sound.append(route)
    return sound, problems


def match_faults(match: Match, *, what: str = "header") -> list[str]:
    """Return what is wrong with a condition on a header (or on ``what`` else there is), each a sentence."""
    faults = [] if TOKEN.fullmatch(match.name) else [f"{match.name!r} is no name of a {what}"]
    if not _VALUE.fullmatch(match.value):
        faults.append(f"the value for {what} {match.name} has control characters or is too long")
    if match.kind not in {"exact", "prefix", "regex", "present"}:
        faults.append(f"{what} {match.name}: kind is exact, prefix, regex or present, not {match.kind!r}")
    if match.kind == "prefix" and not match.value:
        faults.append(f"{what} {match.name}: an empty prefix matches everything; use kind present")
    if match.kind == "regex" and not _is_re2(match.value):
        faults.append(
            f"{what} {match.name}: {match.value!r} is no expression of RE2 (no look-around, no back-references)"
        )
    return faults


def _places(spec: RouteSpec) -> list[object]:
    if spec.tcp_port is not None and not spec.hosts:
        return [(spec.protocol is Protocol.UDP, spec.tcp_port)]
    path = spec.path if spec.path == "/" else spec.path.rstrip("/")
    if spec.protocol is Protocol.TCP or spec.tls == "passthrough":
        return [("sni", host.lower()) for host in spec.hosts]
    return [(host.lower(), path, spec.headers) for host in spec.hosts or ("*",)]


def _owners(owners: Mapping[tuple[object, str], Route], place: object, route: Route) -> Iterator[Route]:
    """Who has the place already: in the same lane anybody, in none only other apps."""
    found = owners.get((place, route.lane))
    if found is not None:
        yield found
    stable = owners.get((place, ""))
    if stable is not None and route.lane and stable.app != route.app:
        yield stable


def _place_faults(spec: RouteSpec, edge: Edge) -> list[str]:
    bytes_only = spec.protocol in {Protocol.TCP, Protocol.UDP}
    first, last = edge.tcp_ports
    if (
        spec.tcp_port is not None
        and not (spec.hosts and spec.tcp_port == _HTTPS_PORT)
        and not first <= spec.tcp_port <= last
    ):
        return [f"port {spec.tcp_port} is outside of the published range {first}-{last}"]
    if bytes_only and spec.tcp_port is None and not spec.hosts:
        return ["a TCP or UDP route needs a port of the published range, or hosts with tls: passthrough"]
    if spec.tls == "passthrough" and not spec.hosts:
        return ["tls: passthrough needs hosts"]
    if spec.protocol is Protocol.UDP and spec.hosts:
        return ["a UDP route has a port and no hosts"]
    return []


def _header_faults(name: str, value: str) -> list[str]:
    if not TOKEN.fullmatch(name):
        return [f"{name!r} is no name of a header"]
    if name.lower() in _RESERVED_HEADERS or name.lower().startswith(_RESERVED):
        return [f"header {name} cannot be set by a route"]
    if not _VALUE.fullmatch(value):
        return [f"the value of header {name} has control characters or is too long"]
    return []


def _policy_faults(spec: RouteSpec) -> list[str]:
    faults: list[str] = []
    if spec.rate_limit is not None and (spec.rate_limit.requests < 1 or spec.rate_limit.per_s <= 0):
        faults.append("rate_limit needs at least one request in more than no time")
    if spec.body_limit_bytes is not None and not 0 < spec.body_limit_bytes < 2**32:
        faults.append("body_limit is between 1 byte and 4 GiB")
    if spec.cors is not None:
        texts = (*spec.cors.origins, *spec.cors.methods, *spec.cors.headers)
        if not all(text and _VALUE.fullmatch(text) for text in texts):
            faults.append("cors has an empty value, or one with control characters")
    if spec.redirect is not None and not re.fullmatch(r"https|https?://[^\s\x00-\x1f]{1,1000}", spec.redirect):
        faults.append(f"redirect {spec.redirect!r} is neither https nor an URL of http or https")
    if min(spec.timeout_s, spec.idle_timeout_s, spec.hold_s) < 0 or spec.retries < 0:
        faults.append("time-outs and retries are not negative")
    return faults


def _is_host(text: str) -> bool:
    return text == "*" or (len(text) <= 253 and bool(_HOST.fullmatch(text)))


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _is_re2(text: str) -> bool:
    if not text or len(text) > _LONGEST_REGEX or _NOT_RE2.search(text):
        return False
    try:
        re.compile(text)
    except re.error:
        return False
    return all(int(most) <= 100 for pair in re.findall(r"\{(\d*),?(\d*)\}", text) for most in pair if most)
