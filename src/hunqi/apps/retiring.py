"""How a Swarm service leaves: nothing new for it, its requests waited for, scaled to zero, removed."""

from __future__ import annotations

from hunqi.apps.model import Mode
from hunqi.apps.situation import Situation
from hunqi.apps.standing import Standing
from hunqi.apps.steps import RemoveService, ScaleService, Step


class Retiring:
    """What leaves in one plan."""

    def __init__(self, situation: Situation) -> None:
        self._at = situation
        self.steps: list[Step] = []
        self.waits: list[str] = []
        self.draining: dict[str, float] = {}
        """Backend → how long its requests may take."""
        self.leaving: set[str] = set()
        """Names of services that get nothing new."""

    def stop(self, standing: Standing) -> bool:
        """Go one step towards nothing of it running; return whether that is so."""
        if standing.stopped:
            self.leaving.add(standing.name)
            return True
        self.leaving.add(standing.name)
        if standing.service.replicas == 0:
            self._wait(f"{standing.name} is stopping")
            return False
        if not self._drained(standing):
            return False
        if standing.service.replicas is None:
            self._step(RemoveService(name=standing.name, sentence=f"removing {standing.name}"))
            return False
        self._step(ScaleService(name=standing.name, replicas=0, sentence=f"stopping {standing.name}"))
        return False

    def remove(self, standing: Standing) -> None:
        """Go one step towards its being gone."""
        if self.stop(standing):
            self._step(RemoveService(name=standing.name, sentence=f"removing {standing.name}: nothing of it runs"))

    def _drained(self, standing: Standing) -> bool:
        """Whether its requests have been waited for, as far as it may have any."""
        spec = self._at.spec_of(standing)
        if spec is None or not spec.routed or spec.mode not in {Mode.REPLICATED, Mode.GLOBAL}:
            return True
        if not standing.running or not self._at.gateways:
            return True
        self.draining[standing.name] = spec.drain_s
        if standing.name in self._at.facts.drained:
            return True
        self._wait(f"{standing.name} is being drained of its requests")
        return False

    def _step(self, step: Step) -> None:
        if step not in self.steps:
            self.steps.append(step)

    def _wait(self, sentence: str) -> None:
        if sentence not in self.waits:
            self.waits.append(sentence)
