"""What can go wrong with apps, by who can do something about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

from hunqi.errors import DependencyError, UserError


class AppNotFoundError(UserError):
    """There is no app of this name (or it is not the caller's to see)."""

    code: ClassVar[str] = "app.not-found"


class AppNameError(UserError):
    """The name is no name for an app."""

    code: ClassVar[str] = "app.name"


class AppBusyError(UserError):
    """The app is being removed."""

    code: ClassVar[str] = "app.busy"


class DeployNotFoundError(UserError):
    """There is no such deploy of the app."""

    code: ClassVar[str] = "deploy.not-found"


class DeployEndedError(UserError):
    """The deploy has ended or has switched already: a rollback is the way back."""

    code: ClassVar[str] = "deploy.ended"


class DeployStrictError(UserError):
    """Keys of the file are not honoured, and the caller asked for that to be an error."""

    code: ClassVar[str] = "deploy.strict"


class PrivilegeError(UserError):
    """The app asks for more than containers of its own, and who deploys it does not answer for the machines."""

    code: ClassVar[str] = "deploy.privilege"


class RevisionNotFoundError(UserError):
    """There is no such revision, or it is no longer retained."""

    code: ClassVar[str] = "revision.not-found"


class ServiceNotFoundError(UserError):
    """The live revision has no such service."""

    code: ClassVar[str] = "service.not-found"

    @classmethod
    def among(cls, app: str, service: str, known: Iterable[str]) -> ServiceNotFoundError:
        """Return the error that names those that there are, and the one that may have been meant."""
        names = list(known)
        near = difflib.get_close_matches(service[:64], names, n=1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        return cls(f"{app} has no service {service!r}{meant}: it has {', '.join(names) or 'none yet'}")


class TaskPathError(UserError):
    """There is no such file or directory in the task."""

    code: ClassVar[str] = "task-path.not-found"


class ScaleError(UserError):
    """The service cannot have that many replicas."""

    code: ClassVar[str] = "scale.refused"


class RoomError(UserError):
    """The nodes have no room for both revisions at once; ``order`` names the ways out."""

    code: ClassVar[str] = "deploy.room"


class QuotaError(UserError):
    """The team's quota does not allow it."""

    code: ClassVar[str] = "team.quota"


class ImageError(UserError):
    """An image cannot be had: there is none of that name, or not for the nodes' platform."""

    code: ClassVar[str] = "image.unavailable"


class AcceleratorError(DependencyError):
    """The loopback accelerator does not answer."""

    code: ClassVar[str] = "image.accelerator"


class SecretInUseError(UserError):
    """The live revision uses the secret."""

    code: ClassVar[str] = "secret.in-use"


class SecretNotFoundError(UserError):
    """There is no such secret: ``hunqi secret set`` makes one."""

    code: ClassVar[str] = "secret.not-found"


class SecretSizeError(UserError):
    """A secret or config is larger than Docker keeps."""

    code: ClassVar[str] = "secret.size"


class RouteTakenError(UserError):
    """Another app has this host and path, or this port."""

    code: ClassVar[str] = "route.taken"


class RouteFaultError(UserError):
    """A route is such that no gateway can serve it."""

    code: ClassVar[str] = "route.invalid"


class RouteNotFoundError(UserError):
    """There is no such route."""

    code: ClassVar[str] = "route.not-found"


class RouteOfFileError(UserError):
    """The route stands in the Compose file and is removed there."""

    code: ClassVar[str] = "route.of-file"


class RunNotFoundError(UserError):
    """There is no such run."""

    code: ClassVar[str] = "run.not-found"


class TeamNeededError(UserError):
    """A new app belongs to a team, and none was named."""

    code: ClassVar[str] = "app.team"


class VariableNameError(UserError):
    """The name (or the value) is none that a variable or a secret can have."""

    code: ClassVar[str] = "variable.invalid"
