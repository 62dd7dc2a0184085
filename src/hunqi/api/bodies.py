"""What clients send, parsed at the edge: unknown members are errors, everything has a limit, secrets are not shown."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal, Self

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator

from hunqi.apps.operations import Replacing
from hunqi.apps.rollout_spec import Strategy
from hunqi.identity.model import Role

AppName = Annotated[str, Path(min_length=1, max_length=63, description="The app's name.")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=63)]
Reason = Annotated[str, StringConstraints(max_length=500)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]
FilePath = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
VariableName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Hidden = Annotated[SecretStr, Field(min_length=1, max_length=1024)]
MAX_FILES = 2000


class Body(BaseModel):
    """A JSON object of the interface."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class SetupBody(Body):
    """The first user."""

    token: Hidden
    name: Name
    password: Hidden


class LoginBody(Body):
    """A user and the password."""

    name: Name
    password: Hidden


class TokenBody(Body):
    """A new token."""

    name: Name
    kind: Literal["personal", "machine"] = "personal"
    scopes: list[Word] = Field(default=[], max_length=100)
    """One of viewer, developer, owner, admin; and any of app:NAME, team:ID."""
    days: int | None = Field(default=90, ge=1, le=3650)
    """Until it expires; null means never."""


class UserBody(Body):
    """A new user; without a password only tokens work."""

    name: Name
    password: Hidden | None = None
    admin: bool = False


class UserChangeBody(Body):
    """What to change of a user; what is left out stays."""

    password: Hidden | None = None
    admin: bool | None = None
    disabled: bool | None = None


class PasswordBody(Body):
    """One's own new password, and the present one."""

    present: Hidden
    password: Hidden


Quota = Annotated[dict[Word, Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]], Field(max_length=50)]


Prefix = Annotated[
    str,
    Field(max_length=255, pattern=r"^[a-z0-9]+(?:[._:-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*(?:/\*?)?$"),
]
Prefixes = Annotated[list[Prefix], Field(max_length=100)]


class TeamBody(Body):
    """A new team."""

    name: Name
    quota: Quota = {}


class TeamChangeBody(Body):
    """What to change of a team: its limits, and whose images its apps may run beside its own and public ones."""

    quota: Quota | None = None
    images: Prefixes | None = None


class RoleBody(Body):
    """A role."""

    role: Role


class AbsentBody(Body):
    """What the client has looked for and does not have."""

    files: list[FilePath] = Field(default=[], max_length=MAX_FILES)
    variables: list[VariableName] = Field(default=[], max_length=MAX_FILES)


class RolloutBody(Body):
    """How traffic is to move to the new revision, in place of what the files say."""

    strategy: Strategy = Strategy.GRAY
    weights: list[Annotated[float, Field(gt=0, le=100, allow_inf_nan=False, multiple_of=0.01)]] = Field(
        default=[], max_length=50
    )
    """Percent of users at each step, rising; each is looked at before the next. Without them the file's own steps."""

    @field_validator("weights")
    @classmethod
    def _rises(cls, value: list[float]) -> list[float]:
        if sorted(set(value)) != value:
            raise ValueError("weights rise from one to the next")
        return value

    @model_validator(mode="after")
    def _is_gray(self) -> Self:
        if self.weights and self.strategy is not Strategy.GRAY:
            raise ValueError("only gray has weights")
        return self


class ProjectBody(Body):
    """A Compose project as far as it was asked for; see ``compose.needs``."""

    files: dict[FilePath, str] = Field(max_length=MAX_FILES)
    """Path relative to the project → text."""
    binary: dict[FilePath, Annotated[str, StringConstraints(max_length=2_000_000)]] = Field(
        default={}, max_length=MAX_FILES
    )
    """Path → base64, for files that are no text."""
    entry: list[FilePath] = Field(min_length=1, max_length=50)
    variables: dict[VariableName, str] = Field(default={}, max_length=MAX_FILES, repr=False)
    absent: AbsentBody = AbsentBody()
    profiles: list[Word] = Field(default=[], max_length=100)
    images: dict[Word, Annotated[str, StringConstraints(min_length=1, max_length=512)]] = Field(
        default={}, max_length=500
    )
    """Service → the image to run in place of the file's."""
    reason: Reason = ""
    strict: bool = False
    order: Replacing | None = None
    """How to replace everything where there is no room for two revisions."""
    rollout: RolloutBody | None = None
    team: Word | None = None
    """The team (name or id) that a new app belongs to."""

    @field_validator("binary")
    @classmethod
    def _is_base64(cls, value: dict[str, str]) -> dict[str, str]:
        for text in value.values():
            try:
                base64.b64decode(text, validate=True)
            except binascii.Error as error:
                raise ValueError("a value is no base64") from error
        return value


class ReasonBody(Body):
    """Why."""

    reason: Reason = ""


class RollbackBody(ReasonBody):
    """The revision to go back to."""

    revision: int = Field(ge=1, le=2**31 - 1)


class ScaleBody(ReasonBody):
    """Replicas by service."""

    replicas: dict[Word, Annotated[int, Field(ge=0, le=10_000)]] = Field(min_length=1, max_length=500)


class RestartBody(ReasonBody):
    """The services to restart; all if none is named."""

    services: list[Word] = Field(default=[], max_length=500)


class MaintenanceBody(ReasonBody):
    """The text of the maintenance page; null ends maintenance."""

    text: Annotated[str, StringConstraints(max_length=4000)] | None


class RunBody(ReasonBody):
    """A one-off command in a service's image."""

    service: Word
    command: list[Annotated[str, StringConstraints(max_length=10_000)]] | None = Field(
        default=None, min_length=1, max_length=1000
    )
    environment: dict[VariableName, Annotated[str, StringConstraints(max_length=100_000)]] = Field(
        default={}, max_length=500, repr=False
    )
    timeout_s: float = Field(default=3600, gt=0, le=7 * 86400, allow_inf_nan=False)


class SecretBody(ReasonBody):
    """A secret's value, as text or as base64."""

    value: SecretStr | None = Field(default=None, max_length=1_000_000)
    base64: SecretStr | None = Field(default=None, max_length=1_400_000)

    def content(self) -> bytes | None:
        """Return the bytes; None if neither or both were given, or the base64 is none."""
        if (self.value is None) == (self.base64 is None):
            return None
        if self.value is not None:
            return self.value.get_secret_value().encode("utf-8", "surrogatepass")
        try:
            return base64.b64decode((self.base64 or SecretStr("")).get_secret_value(), validate=True)
        except (binascii.Error, ValueError):
            return None


class EnvironmentBody(ReasonBody):
    """Variables to set, and (null) to forget."""

    values: dict[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}$")],
        Annotated[str, StringConstraints(max_length=100_000)] | None,
    ] = Field(min_length=1, max_length=1000, repr=False)


class VariableBody(ReasonBody):
    """A variable's value."""

    value: Annotated[str, StringConstraints(max_length=100_000)] = Field(repr=False)


class NodeBody(ReasonBody):
    """What to change of a node; a label set to null is removed."""

    role: Literal["manager", "worker"] | None = None
    labels: dict[Word, Annotated[str, StringConstraints(max_length=500)] | None] = Field(default={}, max_length=100)


class JoinTokenBody(ReasonBody):
    """A new join token."""

    role: Literal["manager", "worker"] = "worker"
    minutes: int = Field(default=60, ge=1, le=7 * 1440)


class JoinBody(Body):
    """A machine that joins, as its agent's door hands it on."""

    secret: Hidden
    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    host: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    agent_port: int = Field(ge=1, le=65535)
    agent_request: Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
    """A certificate request, PEM."""
    mirror_request: Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
    node: Annotated[str, StringConstraints(max_length=64)] = ""


class CertificateBody(ReasonBody):
    """A certificate's chain and key, PEM."""

    chain_pem: Annotated[str, StringConstraints(min_length=1, max_length=200_000)]
    key_pem: Annotated[SecretStr, Field(min_length=1, max_length=50_000)]
