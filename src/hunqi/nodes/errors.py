"""What can go wrong between control and nodes, by who can do something about it."""

from __future__ import annotations

from typing import ClassVar

from hunqi.errors import DependencyError, UserError


class AgentUnreachableError(DependencyError):
    """A node's agent does not answer, or not in time."""

    code: ClassVar[str] = "nodes.agent-unreachable"

    def __init__(self, node: str, reason: str, *, is_refused: bool = False) -> None:
        super().__init__(f"the agent of node {node} does not answer ({reason}): see `hunqi status` there")
        self.node = node
        self.is_refused = is_refused
        """Whether the machine answered but nobody listens there: the agent may be on its way."""


class AgentFailedError(DependencyError):
    """An agent answered that something on its side failed; ``remote_code`` is its own."""

    code: ClassVar[str] = "nodes.agent-failed"

    def __init__(self, node: str, remote_code: str, message: str) -> None:
        super().__init__(f"node {node}: {message}")
        self.node = node
        self.remote_code = remote_code


class AgentRefusedError(UserError):
    """An agent refused what was asked; ``remote_code`` is its own."""

    code: ClassVar[str] = "nodes.agent-refused"

    def __init__(self, node: str, remote_code: str, message: str) -> None:
        super().__init__(f"node {node}: {message}")
        self.node = node
        self.remote_code = remote_code


class NoAgentError(UserError):
    """The node has no agent: it did not join by ``hunqi join``."""

    code: ClassVar[str] = "nodes.no-agent"

    def __init__(self, node: str) -> None:
        super().__init__(f"node {node} has no agent: run `hunqi join` there")
        self.node = node


class NodeNotFoundError(UserError):
    """There is no such node."""

    code: ClassVar[str] = "nodes.not-found"

    def __init__(self, node: str) -> None:
        super().__init__(f"there is no node {node!r}: see `hunqi node ls`")
        self.node = node


class JoinTokenError(UserError):
    """A join token is no token, or one that was used, or one that has expired."""

    code: ClassVar[str] = "nodes.join-token"


class NodeRefusedError(UserError):
    """What was asked of a node would hurt the cluster or cannot be done; the message says what to do instead."""

    code: ClassVar[str] = "nodes.refused"
