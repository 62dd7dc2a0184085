"""A route as a client sends it: the members of ``RouteSpec``, each checked, since every gateway is to live by it."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from hunqi.api.bodies import Body
from hunqi.apps.model import Cors, Match, Protocol, RateLimit, RouteSpec

_HOST: Final = re.compile(
    r"(?:\*\.)?(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_LINE: Final = re.compile(r"[^:\x00-\x1f\x7f]{1,100}:\{SHA\}[A-Za-z0-9+/]{27}=")
_PATH: Final = r"^=?/[^?#\x00-\x20\x7f]{0,1000}$"
_PRINTABLE: Final = r"^[\x20-\x7e]{0,1000}$"


def _host(text: str) -> str:
    host = text.lower().rstrip(".")
    if not _HOST.fullmatch(host):
        raise ValueError("write a host name, such as shop.example.com or *.example.com")
    return host


def _exact_host(text: str) -> str:
    if _host(text).startswith("*"):
        raise ValueError("write one host name, without *")
    return _host(text)


def _token(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise ValueError("this is no name of a header")
    return text.lower()


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False))


def _login(text: str) -> str:
    if not _LINE.fullmatch(text):
        raise ValueError("write a line of htpasswd with SHA-1: user:{SHA}…")
    return text


Host = Annotated[str, StringConstraints(max_length=255), AfterValidator(_host)]
HeaderName = Annotated[str, AfterValidator(_token)]
HeaderValue = Annotated[str, StringConstraints(pattern=_PRINTABLE)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65_535)]


class MatchBody(Body):
    """A condition on a header."""

    name: HeaderName
    kind: Literal["exact", "prefix", "regex", "present"] = "exact"
    value: HeaderValue = ""

    @model_validator(mode="after")
    def _is_regex(self) -> MatchBody:
        if self.kind == "regex":
            try:
                re.compile(self.value)
            except re.error as error:
                raise ValueError("this is no regular expression") from error
        return self


class CorsBody(Body):
    """What the route answers to preflights."""

    origins: list[HeaderValue] = Field(min_length=1, max_length=100)
    methods: list[HeaderName] = Field(default=["GET", "HEAD", "POST"], max_length=20)
    headers: list[HeaderName] = Field(default=[], max_length=100)
    credentials: bool = False
    max_age_s: int = Field(default=600, ge=0, le=86_400)


class RateLimitBody(Body):
    """A token bucket per gateway."""

    requests: int = Field(ge=1, le=1_000_000)
    per_s: float = Field(default=1.0, gt=0, le=86_400, allow_inf_nan=False)
    burst: int | None = Field(default=None, ge=1, le=1_000_000)


class RouteSpecBody(Body):
    """One way from the outside to a port of a service."""

    port: Port
    hosts: list[Host] = Field(default=[], max_length=100)
    path: Annotated[str, StringConstraints(pattern=_PATH)] = "/"
    """A prefix by whole segments; `=` before it means exactly this path."""
    headers: list[MatchBody] = Field(default=[], max_length=20)
    protocol: Protocol = Protocol.HTTP1
    strip_prefix: bool = False
    replace_prefix: Annotated[str, StringConstraints(pattern=_PATH)] | None = None
    host_rewrite: Annotated[str, StringConstraints(max_length=255), AfterValidator(_exact_host)] | None = None
    redirect: Annotated[str, StringConstraints(pattern=r"^(?:https|https?://[\x21-\x7e]{1,1000})$")] | None = None
    redirect_code: Literal[301, 302, 303, 307, 308] = 308
    cors: CorsBody | None = None
    body_limit_bytes: int | None = Field(default=None, ge=0, le=2**40)
    rate_limit: RateLimitBody | None = None
    basic_auth: list[Annotated[str, AfterValidator(_login)]] = Field(default=[], max_length=1000, repr=False)
    allow: list[Annotated[str, AfterValidator(_network)]] = Field(default=[], max_length=1000)
    request_headers: dict[HeaderName, HeaderValue] = Field(default={}, max_length=50)
    response_headers: dict[HeaderName, HeaderValue] = Field(default={}, max_length=50)
    timeout_s: Seconds = 60.0
    idle_timeout_s: Seconds = 300.0
    retries: int = Field(default=2, ge=0, le=10)
    hold_s: Seconds = 30.0
    tcp_port: Port | None = None
    tls: Literal["auto", "off", "passthrough"] = "auto"

    @model_validator(mode="after")
    def _is_consistent(self) -> RouteSpecBody:
        raw = self.protocol in {Protocol.TCP, Protocol.UDP} and self.tls != "passthrough"
        if raw and (self.tcp_port is None or self.hosts):
            raise ValueError(f"a {self.protocol} route has a tcp_port, and no hosts")
        if not raw and not self.hosts:
            raise ValueError("a route of HTTP or of TLS passthrough has the hosts that lead to it")
        if self.strip_prefix and self.replace_prefix is not None:
            raise ValueError("strip_prefix and replace_prefix contradict each other")
        return self

    def value(self) -> RouteSpec:
        """Return the route."""
        cors, limit = self.cors, self.rate_limit
        return RouteSpec(
            port=self.port,
            hosts=tuple(dict.fromkeys(self.hosts)),
            path=self.path,
            headers=tuple(Match(name=each.name, kind=each.kind, value=each.value) for each in self.headers),
            protocol=Protocol.TCP if self.tls == "passthrough" else self.protocol,
            strip_prefix=self.strip_prefix,
            replace_prefix=self.replace_prefix,
            host_rewrite=self.host_rewrite,
            redirect=self.redirect,
            redirect_code=self.redirect_code,
            cors=None
            if cors is None
            else Cors(
                origins=tuple(cors.origins),
                methods=tuple(method.upper() for method in cors.methods),
                headers=tuple(cors.headers),
                credentials=cors.credentials,
                max_age_s=cors.max_age_s,
            ),
            body_limit_bytes=self.body_limit_bytes,
            rate_limit=limit and RateLimit(requests=limit.requests, per_s=limit.per_s, burst=limit.burst),
            basic_auth=tuple(self.basic_auth),
            allow=tuple(self.allow),
            request_headers=self.request_headers,
            response_headers=self.response_headers,
            timeout_s=self.timeout_s,
            idle_timeout_s=self.idle_timeout_s,
            retries=self.retries,
            hold_s=self.hold_s,
            tcp_port=443 if self.tls == "passthrough" and self.tcp_port is None else self.tcp_port,
            tls=self.tls,
        )
