"""How the services of a revision come to be what they should be: one after the other, as their dependencies allow.

Steps are gathered for one plan. The states of a deploy (``plan``) say which revisions are kept, brought up and retired;
here it is said, service by service, what that takes. Where a deploy moves by decisions, the services that its revision
shares with the one that serves are kept but not waited for, and those that are postponed are left alone until all the
rest of it is whole.
"""

from __future__ import annotations

from enum import Enum, auto

from hunqi.apps.asked import Replacing, ServiceProgress
from hunqi.apps.batches import Batches, Way
from hunqi.apps.model import Order, Revision, ServiceSpec
from hunqi.apps.pinning import choose_pins, pinned_node
from hunqi.apps.plan_ground import missing_ground
from hunqi.apps.plan_serving import Traffic, serving_of
from hunqi.apps.retiring import Retiring
from hunqi.apps.situation import Situation, in_order, scalable
from hunqi.apps.split import LASTING
from hunqi.apps.standing import Judged, Standing
from hunqi.apps.state import DeployRecord, Desired
from hunqi.apps.steps import Fail, NoteStarted, PinVolumes, Plan, PutService, ScaleService, Step


class _Part(Enum):
    """What a service is to a deploy."""

    OWN = auto()
    """Brought up and waited for."""
    SHARED = auto()
    """Serves both revisions: kept, not waited for."""
    POSTPONED = auto()
    """Not touched yet."""


class Bringing:
    """One plan being made."""

    def __init__(self, situation: Situation) -> None:
        self.at = situation
        self.steps: list[Step] = []
        self.waits: list[str] = []
        self.states: list[ServiceProgress] = []
        self.retiring = Retiring(situation)
        self.batches = Batches(situation)
        self.deadlines: list[float] = []

    def retire_all_but(self, serves: Revision | None, names: set[str]) -> list[Standing]:
        """Have what is not among ``names`` leave; what still serves in place of tasks that come back, bit by bit."""
        at = self.at
        surplus = [each for each in at.standings.values() if each.name not in names]
        for each in surplus:
            if serves is not None and each in self.batches.lingering(serves, each.key):
                self._shrink(each, self.batches.wanted_lingering(serves, each))
            else:
                self.retiring.remove(each)
        return surplus

    def keep(self, base: Revision, target: Revision) -> None:
        """Keep what serves as it should be while the new comes up, but for what is being replaced stop-first."""
        at = self.at
        for service in in_order(base):
            name = at.name(base, service)
            same = service in target.spec.services and at.name(target, service) == name
            if same:
                continue
            replaced = service in target.spec.services and at.name(target, service) in at.standings
            spec = base.spec.services[service]
            standing, way = at.standings.get(name), self.batches.way(service)
            if way is Way.ROLLING and standing is not None and (replaced or self._may_begin(target, service)):
                self._shrink(standing, self.batches.wanted_old(service))
            elif replaced and self._stops_first(target.spec.services[service]):
                continue
            elif way is Way.BATCHES and standing is not None:
                self._shrink(standing, self.batches.wanted_old(service))
            elif self._turn_has_come(target, service) and self._stops_first(target.spec.services[service]):
                continue
            elif standing is None:
                self._put(base, spec, repair=True)
            else:
                self._correct(base, spec, standing)

    def _shrink(self, standing: Standing, wanted: int) -> None:
        """Make room for the next batch: never more old ones again, those that are wanted less go."""
        before = standing.service.replicas
        if before is not None and wanted < before:
            sentence = f"scaling {standing.name} from {before} to {wanted}: others take their place"
            self.steps.append(ScaleService(name=standing.name, replicas=wanted, sentence=sentence))

    def _turn_has_come(self, target: Revision, service: str) -> bool:
        spec = target.spec.services.get(service)
        return spec is not None and self._unmet(target, spec) is None

    def _may_begin(self, target: Revision, service: str) -> bool:
        """Whether the new one of ``service`` is made as soon as there is room for it."""
        return self._turn_has_come(target, service) and not missing_ground(self.at, target)

    def bring(self, goal: Revision, deploy: DeployRecord | None) -> bool:
        """Bring every service of ``goal`` to what it should be; return whether all are ready that have to be."""
        ground = missing_ground(self.at, goal)
        self.steps.extend(ground)
        ready = True
        for service in in_order(goal):
            if self._part(goal, service) is _Part.POSTPONED:
                self._leave(goal, service)
            else:
                ready = self._bring_one(goal, goal.spec.services[service], deploy, ground=bool(ground)) and ready
        return ready

    def _bring_one(self, goal: Revision, spec: ServiceSpec, deploy: DeployRecord | None, *, ground: bool) -> bool:
        at = self.at
        judged = at.judge(goal, spec.name)
        standing = at.standings.get(at.name(goal, spec.name))
        sentence = judged.sentence
        if standing is None and ground:
            sentence = f"{spec.name} waits for its networks, secrets and configs"
        elif standing is None:
            sentence = self._start(goal, spec, deploying=deploy is not None)
        else:
            self._correct(goal, spec, standing)
        counts = self._part(goal, spec.name) is not _Part.SHARED
        if deploy is not None and standing is not None and counts and not at.deciding:
            self._watch(deploy, spec, judged)
        if judged.settles_in_s is not None:
            self.deadlines.append(judged.settles_in_s)
        if not judged.ready and sentence and counts:
            self.waits.append(sentence)
        state = "healthy" if judged.ready else "starting" if standing else "waiting"
        self._state(spec.name, state, judged.count, at.aim(goal, spec.name), sentence)
        return judged.ready or not counts

    def _leave(self, goal: Revision, service: str) -> None:
        """Say of a service that is postponed how the one stands that goes on in its place."""
        at, base = self.at, self.at.live
        judged = at.judge(base, service) if base is not None else Judged()
        sentence = f"{service} changes at the promotion: two of it may not run side by side"
        self._state(service, "kept", judged.count, at.wanted(goal.spec.services[service]), sentence)

    def _state(self, service: str, state: str, ready: int, wanted: int, sentence: str) -> None:
        self.states.append(ServiceProgress(service=service, state=state, ready=ready, wanted=wanted, sentence=sentence))

    def _part(self, goal: Revision, service: str) -> _Part:
        """Return what ``service`` of ``goal`` is to the deploy, where that moves by decisions."""
        at = self.at
        if goal is not at.target or at.shift is None or service in at.split.own:
            return _Part.OWN
        if service in at.split.postponed:
            return _Part.OWN if at.promoting else _Part.POSTPONED
        return _Part.SHARED

    def _start(self, goal: Revision, spec: ServiceSpec, *, deploying: bool) -> str:
        """Create a service that is not there, or say what it waits for."""
        at = self.at
        if at.app.desired is Desired.STOPPED:
            return ""
        unmet = self._unmet(goal, spec)
        if unmet is not None and deploying:
            return f"{spec.name} waits for {unmet}"
        if not self._make_way(goal, spec):
            return f"{spec.name} waits until the old one has stopped"
        self._put(goal, spec, repair=not deploying and at.deploy is None)
        return f"{spec.name} is being started"

    def _unmet(self, goal: Revision, spec: ServiceSpec) -> str | None:
        at = self.at
        postponed = at.split.postponed if goal is at.target else ()
        if spec.name in postponed and not (at.promoting and self._whole(goal)):
            return f"the rest of revision {goal.number}"
        for each in spec.depends_on:
            if each.service not in goal.spec.services:
                continue
            if each.service in postponed and spec.name not in postponed:
                continue
            if not at.judge(goal, each.service).reached(each.condition):
                return f"{each.service} ({each.condition})"
        return None

    def _whole(self, goal: Revision) -> bool:
        """Whether every service that runs beside the old one has all the tasks that it is to have at the end."""
        return all(self.at.judge(goal, service).ready for service in self.at.split.own)

    def _make_way(self, goal: Revision, spec: ServiceSpec) -> bool:
        """Stop what must not run beside the new one; return whether it has stopped."""
        if not self._stops_first(spec):
            return True
        if self.at.shift is not None and goal is self.at.target and spec.mode not in LASTING:
            return all(self.retiring.stop(each) for each in self.at.others(spec.name, "") if each.active)
        if goal is self.at.target and self.batches.way(spec.name) is Way.ROLLING:
            return self.batches.have_left(spec.name)
        if goal is self.at.live and (returning := self.batches.returning(goal, spec.name)):
            return returning[1]
        others = self.at.others(spec.name, self.at.name(goal, spec.name))
        stopped = [self.retiring.stop(each) for each in others]
        return all(stopped)

    def _put(self, revision: Revision, spec: ServiceSpec, *, repair: bool = False, why: str = "") -> None:
        at = self.at
        chosen = choose_pins(at, revision.spec, spec)
        if chosen:
            where = ", ".join(f"{volume} on {at.snapshot.nodes[node].hostname}" for volume, node in chosen.items())
            self.steps.append(PinVolumes(pins=chosen, sentence=f"volumes are kept on one node: {where}"))
            return
        name = at.name(revision, spec.name)
        self.steps.append(
            PutService(
                name=name,
                service=spec.name,
                revision=revision.number,
                replicas=self._replicas(spec, name),
                node=pinned_node(at, spec),
                repair=repair,
                sentence=why or (f"{name} was not there: creating it again" if repair else f"starting {name}"),
            )
        )

    def _correct(self, revision: Revision, spec: ServiceSpec, standing: Standing) -> None:
        """Undo what others changed, and set the replicas that are wanted."""
        at = self.at
        wanted = self._replicas(spec, standing.name)
        if wanted:
            wanted += at.facts.surge.get(standing.name, 0)
        if drift := at.facts.drifted.get(standing.name):
            self._put(revision, spec, repair=True, why=drift)
        elif not scalable(spec) or standing.service.replicas == wanted:
            return
        elif wanted == 0:
            self.retiring.stop(standing)
        elif self._make_way(revision, spec):
            before = standing.service.replicas
            self.steps.append(
                ScaleService(
                    name=standing.name, replicas=wanted, sentence=f"scaling {standing.name} from {before} to {wanted}"
                )
            )

    def _replicas(self, spec: ServiceSpec, name: str) -> int:
        """Return how many replicas are wanted now: before the switch never fewer than what serves is to have."""
        at = self.at
        if at.target is None or spec.name not in at.target.origin or at.name(at.target, spec.name) != name:
            of_live = at.live is not None and spec.name in at.live.origin and at.name(at.live, spec.name) == name
            returning = self.batches.returning(at.live, spec.name) if of_live and at.live else None
            return returning[0] if returning else at.wanted(spec)
        target = at.target.spec.services[spec.name]
        aim = at.aim(at.target, spec.name)
        new = aim if at.app.asleep(spec.name) else min(aim, self.batches.wanted_new(target))
        kept = at.live is not None and spec.name in at.live.origin and at.name(at.live, spec.name) == name
        return max(new, at.wanted(at.live.spec.services[spec.name])) if kept and at.live else new

    def _stops_first(self, spec: ServiceSpec) -> bool:
        deploy = self.at.deploy
        forced = deploy is not None and deploy.progress.replacing is Replacing.STOP_FIRST
        return forced or spec.order is Order.STOP_FIRST

    def _watch(self, deploy: DeployRecord, spec: ServiceSpec, judged: Judged) -> None:
        """Note when the service began, and fail the deploy if it will not get ready."""
        at = self.at
        if spec.name not in deploy.progress.started:
            self.steps.append(NoteStarted(service=spec.name, sentence=f"{spec.name} is starting"))
            return
        if judged.ready:
            return
        left = at.begun(spec.name) + spec.ready_timeout_s * self.batches.rounds(spec) - at.now
        if judged.failed is not None:
            self.fail(
                spec.name,
                "deploy.task-failed",
                f"{spec.name} does not start: {judged.sentence}",
                f"see its last lines above, or run: hunqi app logs {at.app.name} --service {spec.name} --removed",
                task=judged.failed.id,
            )
        elif left <= 0:
            self.fail(
                spec.name,
                "deploy.not-healthy",
                f"{spec.name} was not healthy within {spec.ready_timeout_s:.0f} s: {judged.sentence}",
                "see what its healthcheck says; x-hunqi.ready_timeout gives it longer",
            )
        else:
            self.deadlines.append(left)

    def fail(self, service: str, code: str, sentence: str, remedy: str, *, task: str = "") -> None:
        if not any(isinstance(each, Fail) for each in self.steps):
            self.steps.insert(0, Fail(service=service, code=code, sentence=sentence, remedy=remedy, task=task))

    def done(
        self, serves: Revision | None, *, coming: Revision | None = None, settled: bool = False, said: str = ""
    ) -> Plan:
        """Put the plan together: a failure stands alone, whatever else was thought of; ``said`` begins its sentence."""
        at = self.at
        retiring = self.retiring
        for each in retiring.steps:
            if each not in self.steps:
                self.steps.append(each)
        failure = next((each for each in self.steps if isinstance(each, Fail)), None)
        waits: list[str] = list(dict.fromkeys((*filter(None, (said,)), *self.waits, *retiring.waits)))
        serving = serving_of(at, Traffic(spec_of=serves, coming=coming), retiring)
        sentence = failure.sentence if failure else "; ".join(waits)
        if not sentence:
            sentence = self.steps[0].sentence if self.steps else calm(at, serves)
        return Plan(
            steps=(failure,) if failure else tuple(self.steps),
            serving=serving,
            sentence=sentence,
            services=tuple(self.states),
            settled=settled and not self.steps,
            wake_in_s=min(self.deadlines) + 0.1 if self.deadlines else None,
            awaits_drained=dict(retiring.draining),
        )


def calm(situation: Situation, serves: Revision | None) -> str:
    """Say of an app for which nothing is to be done how it is."""
    if situation.app.desired is Desired.STOPPED:
        return "the app is stopped"
    if serves is None:
        return "no revision of it has been deployed yet"
    asleep = [name for name in serves.spec.services if situation.app.asleep(name)]
    if asleep:
        return f"revision {serves.number} serves; asleep until somebody asks: {', '.join(asleep)}"
    return f"revision {serves.number} serves and is as it should be"
