"""Who may ask the agent what: the role in the caller's certificate decides, path by path.

An agent must stand in the roster besides: a node that was removed is a stranger as soon as the others know, however
long its certificate lasts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from hunqi.agent.errors import NotAllowedError
from hunqi.nodes.identity import Identity, IdentityError, Role, read_identity

_CONTROL: Final = frozenset({Role.CONTROL})
_NODES: Final = frozenset({Role.CONTROL, Role.AGENT})
ANONYMOUS: Final = frozenset({"/v1/ca", "/v1/join"})
"""Paths for those who have no certificate yet; a join token says what they may."""
ALLOWED: Final[Mapping[str, frozenset[Role]]] = {
    "/v1/status": _NODES,
    "/v1/roster": _CONTROL,
    "/v1/certificates": _CONTROL,
    "/v1/gateway/table": _CONTROL,
    "/v1/gateway/report": _CONTROL,
    "/v1/gateway/drain": _NODES,
    "/v1/metrics": _CONTROL,
    "/v1/requests": _CONTROL,
    "/v1/exec": _CONTROL,
    "/v1/files": _CONTROL,
    "/v1/forward": _CONTROL,
    "/v1/health": _CONTROL,
    "/v1/volumes": _CONTROL,
    "/v1/images/pins": _CONTROL,
    "/v1/images/warm": _CONTROL,
    "/v1/images/held": _CONTROL,
    "/v1/images/prune": _CONTROL,
}
"""Every other path, with the roles that may."""


def admit(
    path: str, certificate: Mapping[str, Any] | None, *, cluster: str, agents: Collection[str]
) -> Identity | None:
    """Return who asks for ``path`` (of ``getpeercert()``), None where anybody may; ``agents`` are those in the roster.

    Raises :class:`NotAllowedError`.
    """
    if path in ANONYMOUS:
        return None
    try:
        identity = read_identity(certificate)
    except IdentityError as error:
        raise NotAllowedError("show a certificate of this cluster") from error
    if identity.cluster != cluster:
        raise NotAllowedError(f"this agent is of cluster {cluster}, the certificate of {identity.cluster}")
    if identity.role not in ALLOWED.get(path, frozenset()):
        raise NotAllowedError(f"the role {identity.role} may not ask for {path}")
    if identity.role is Role.AGENT and identity.name not in agents:
        raise NotAllowedError("this agent is not of the cluster (any more): hunqi node ls shows which are")
    return identity
