"""A revision on its way beside another: how scenarios begin, move and watch rollouts by the API."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tools.bench.model import BenchError

from testbed.product import ApiError, Product, eventually, shop

ENDED: Final = frozenset({"succeeded", "aborted", "superseded", "failed"})
_PATIENCE_S: Final = 180.0


@dataclass(slots=True, kw_only=True)
class Moving:
    """An app of one service ``web``; its tasks call themselves after their revision, ``r1@…``."""

    product: Product
    app: str
    replicas: int = 3
    number: int = 0
    """Of the revision that was deployed last, as its tasks call themselves."""
    env: Mapping[str, str] = field(default_factory=dict)
    scale: str = ""
    """The mapping below ``x-hunqi.scale`` of ``web``, in YAML."""

    @property
    def host(self) -> str:
        """The name at which it is reached."""
        return f"{self.app}.test"

    def compose(self, env: Mapping[str, str], rollout: str = "") -> str:
        """Return the file of the next revision; ``rollout`` is the mapping below ``x-hunqi.rollout``, in YAML."""
        own = {"TASK": f"r{self.number + 1}@{{{{.Task.Name}}}}", "REVISION": str(self.number + 1), **self.env, **env}
        more = f"      scale: {self.scale}\n" if self.scale else ""
        file = shop(host=self.host, replicas=self.replicas, env=own, drain="5s", more=more)
        return f"x-hunqi:\n  rollout: {rollout}\n{file}" if rollout else file

    def first(self, env: Mapping[str, str] | None = None) -> None:
        """Deploy the first revision."""
        self.product.deploy(self.app, self.compose(env or {}))
        self.number += 1

    def begin(self, env: Mapping[str, str], rollout: str) -> dict[str, Any]:
        """Begin to release the next revision; return its deploy."""
        made = self.product.begin_deploy(self.app, self.compose(env, rollout))
        self.number += 1
        return made

    def rollout(self) -> dict[str, Any]:
        """Return the rollout as the API shows it."""
        return self.product.api.call("GET", f"/v1/apps/{self.app}/rollout")

    def act(self, verb: str, body: Mapping[str, Any] | None = None) -> None:
        """Promote, pause, resume, abort, …"""
        self.product.api.call("POST", f"/v1/apps/{self.app}/rollout/{verb}", body or {})

    def await_begun(self) -> None:
        """Wait until the rollout of the last revision is there."""

        def there() -> bool:
            try:
                return self._ours(self.rollout())
            except ApiError as error:
                if error.status != 404:
                    raise
                return False

        eventually(there, timeout_s=_PATIENCE_S, what=lambda: f"the rollout of {self.app} to begin")

    def _ours(self, shown: Mapping[str, Any]) -> bool:
        return shown["revision"] == self.number

    def await_weight(self, percent: float) -> dict[str, Any]:
        """Wait until the weight is so, in every gateway."""
        shown: dict[str, Any] = {}

        def there() -> bool:
            try:
                shown.update(self.rollout())
            except ApiError as error:
                if error.status != 404:
                    raise
                return False
            if shown["state"] in ENDED:
                raise BenchError(f"{self.app} ended on the way to {percent} %: {shown['sentence']}")
            return shown["weight"] == percent and bool(shown["in_force"])

        eventually(there, timeout_s=_PATIENCE_S, what=lambda: f"{percent} % of {self.app}: {shown.get('sentence')}")
        return shown

    def await_end(self, *, timeout_s: float) -> dict[str, Any]:
        """Wait for the end of the rollout and return it."""
        shown: dict[str, Any] = {}

        def there() -> bool:
            shown.update(self.rollout())
            return shown["state"] in ENDED

        eventually(there, timeout_s=timeout_s, what=lambda: f"the end of {self.app}: {shown.get('sentence')}")
        return shown

    def remove(self) -> None:
        """Remove the app."""
        self.product.remove(self.app)


def revision_of(task: str) -> int:
    """Return the revision by which a task calls itself; 0 of none."""
    head = task.partition("@")[0]
    return int(head[1:]) if head.startswith("r") and head[1:].isdecimal() else 0


def pause_until(at: float) -> None:
    """Sleep until ``at`` of the monotonic clock."""
    time.sleep(max(0.0, at - time.monotonic()))
