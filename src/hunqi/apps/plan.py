"""What is → what should be → steps. Pure: the same situation gives the same plan.

A deploy brings up its revision (the *goal*) beside the one that serves (the *base*), service by service in the order
of their dependencies; when all of it is ready, all routes switch at once; from then on it is the one that serves. In
every other state the goal is what serves. So a deploy that fails, is cancelled or superseded needs no undoing of its
own: what serves is brought to what it should be, and what belongs to neither is surplus, drained and removed. A service
that is replaced stop-first has its old one kept at zero replicas until the switch, to be started again if need be.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hunqi.apps.batches import Batches, Way
from hunqi.apps.model import DeployState, Order, Revision, ServiceSpec
from hunqi.apps.operations import Replacing, ServiceProgress
from hunqi.apps.pinning import choose_pins, pinned_node
from hunqi.apps.plan_ground import missing_ground, surplus_ground
from hunqi.apps.plan_removal import plan_removal
from hunqi.apps.plan_serving import Traffic, serving_of
from hunqi.apps.retiring import Retiring
from hunqi.apps.situation import Situation, in_order, scalable
from hunqi.apps.standing import Judged, Standing
from hunqi.apps.state import DeployRecord, Desired
from hunqi.apps.steps import Advance, Fail, NoteStarted, PinVolumes, Plan, PutService, ScaleService, Step

SWITCH_TIMEOUT_S: Final = 60.0
"""How long every live gateway may take to work by the new routes."""
STARTING_TIMEOUT_S: Final = 600.0
"""How long a deploy may take to start, beside the time that its services have."""
SPREAD_TIMEOUT_S: Final = 1800.0
"""How long a revision's images may take to be on enough nodes."""


def plan(situation: Situation) -> Plan:
    """Return what to do for the app now."""
    if situation.app.desired is Desired.REMOVED:
        return plan_removal(situation)
    return _Planning(situation).plan()


class _Planning:
    """One plan being made."""

    def __init__(self, situation: Situation) -> None:
        self._at = situation
        self._steps: list[Step] = []
        self._waits: list[str] = []
        self._states: list[ServiceProgress] = []
        self._retiring = Retiring(situation)
        self._batches = Batches(situation)
        self._deadlines: list[float] = []

    def plan(self) -> Plan:
        at = self._at
        deploy, target = at.deploy, at.target
        if deploy is None or target is None:
            return self._settle()
        match deploy.state:
            case DeployState.PENDING:
                return self._await_images(deploy, target)
            case DeployState.STARTING:
                return self._bring_up(deploy, target)
            case DeployState.SWITCHING:
                return self._switch(deploy, target)
            case _:
                return self._settle()

    # the states of a deploy
    def _await_images(self, deploy: DeployRecord, target: Revision) -> Plan:
        at = self._at
        if at.facts.spread:
            self._steps.append(
                Advance(
                    state=DeployState.STARTING, sentence=f"starting revision {deploy.revision}: its images are there"
                )
            )
        elif at.now - deploy.progress.changed_at > SPREAD_TIMEOUT_S:
            self._fail(
                "", "deploy.images", at.facts.spread_sentence, "see that the nodes' accelerators run and have room"
            )
        else:
            self._waits.append(at.facts.spread_sentence or "the images are being brought to the nodes")
        if at.live is not None:
            self._bring(at.live, None)
        images = frozenset(each.image for each in target.spec.services.values())
        return replace(self._done(at.live), awaits_spread=images)

    def _bring_up(self, deploy: DeployRecord, target: Revision) -> Plan:
        at = self._at
        if at.live is not None:
            self._keep(at.live, target)
        self._give_up_in_time(deploy, target)
        names = {at.name(each, name) for each in (at.live, target) if each for name in each.origin}
        self._retire_all_but(at.live, names)
        if self._bring(target, deploy) and not self._steps:
            self._steps.append(
                Advance(state=DeployState.SWITCHING, sentence=f"revision {target.number} is healthy: switching to it")
            )
        return self._done(at.live, coming=target)

    def _give_up_in_time(self, deploy: DeployRecord, target: Revision) -> None:
        """Fail a deploy that nothing else ends: each service has its time, and all together have a little more."""
        services = target.spec.services.values()
        most = STARTING_TIMEOUT_S + sum(each.ready_timeout_s * self._batches.rounds(each) for each in services)
        if self._at.now - deploy.progress.changed_at > most:
            self._fail(
                "",
                "deploy.not-started",
                f"revision {target.number} was not healthy within {most:.0f} s: {deploy.progress.sentence}",
                "mend what it waits for and deploy again",
            )

    def _switch(self, deploy: DeployRecord, target: Revision) -> Plan:
        at = self._at
        serving = serving_of(at, Traffic(spec_of=target, coming=None), self._retiring)
        if at.facts.in_force == serving or not at.gateways:
            who = "all gateways route" if at.gateways else "there is no gateway to route"
            return Plan(
                steps=(
                    Advance(
                        state=DeployState.DRAINING,
                        live=target.number,
                        sentence=f"revision {target.number} serves: draining what it replaces",
                    ),
                ),
                serving=serving,
                sentence=f"{who} to revision {target.number}",
            )
        waited = at.now - deploy.progress.changed_at
        if waited > SWITCH_TIMEOUT_S:
            self._fail(
                "",
                "deploy.switch",
                f"not every gateway took in the routes of revision {target.number} within {SWITCH_TIMEOUT_S:.0f} s",
                "hunqi status shows which gateway is behind and why",
            )
        return Plan(
            steps=tuple(self._steps),
            serving=serving,
            sentence=f"waiting until every gateway routes to revision {target.number}",
            awaits_force=True,
            wake_in_s=max(0.1, SWITCH_TIMEOUT_S - waited + 0.1),
        )

    def _settle(self) -> Plan:
        at = self._at
        goal = at.live
        calm = True
        if goal is not None:
            calm = self._bring(goal, None)
        names = {at.name(goal, each) for each in goal.spec.services} if goal else set[str]()
        if goal and at.app.desired is Desired.STOPPED:
            names = {
                each for each in names if (held := at.standings.get(each)) is None or held.service.replicas is not None
            }
        surplus = self._retire_all_but(goal, names)
        self._steps.extend(self._retiring.steps)
        self._waits.extend(self._retiring.waits)
        if at.deploy is None and not surplus and not self._steps:
            self._steps.extend(surplus_ground(at, goal))
        if at.deploy is not None and not surplus and not self._steps:
            self._steps.append(Advance(state=DeployState.SUCCEEDED, sentence=f"revision {at.deploy.revision} serves"))
        return self._done(goal, settled=calm and not surplus)

    # services
    def _retire_all_but(self, serves: Revision | None, names: set[str]) -> list[Standing]:
        """Have what is not among ``names`` leave; what still serves in place of tasks that come back, bit by bit."""
        at = self._at
        surplus = [each for each in at.standings.values() if each.name not in names]
        for each in surplus:
            if serves is not None and each in self._batches.lingering(serves, each.key):
                self._shrink(each, self._batches.wanted_lingering(serves, each))
            else:
                self._retiring.remove(each)
        return surplus

    def _keep(self, base: Revision, target: Revision) -> None:
        """Keep what serves as it should be while the new comes up, but for what is being replaced stop-first."""
        at = self._at
        for service in in_order(base):
            name = at.name(base, service)
            same = service in target.spec.services and at.name(target, service) == name
            if same:
                continue
            replaced = service in target.spec.services and at.name(target, service) in at.standings
            spec = base.spec.services[service]
            standing, way = at.standings.get(name), self._batches.way(service)
            if way is Way.ROLLING and standing is not None and (replaced or self._may_begin(target, service)):
                self._shrink(standing, self._batches.wanted_old(service))
            elif replaced and self._stops_first(target.spec.services[service]):
                continue
            elif standing is None:
                self._put(base, spec, repair=True)
            elif way is Way.BATCHES:
                self._shrink(standing, self._batches.wanted_old(service))
            elif not (self._turn_has_come(target, service) and self._stops_first(target.spec.services[service])):
                self._correct(base, spec, standing)

    def _shrink(self, standing: Standing, wanted: int) -> None:
        """Make room for the next batch: never more old ones again, those that are wanted less go."""
        before = standing.service.replicas
        if before is not None and wanted < before:
            sentence = f"scaling {standing.name} from {before} to {wanted}: others take their place"
            self._steps.append(ScaleService(name=standing.name, replicas=wanted, sentence=sentence))

    def _turn_has_come(self, target: Revision, service: str) -> bool:
        spec = target.spec.services.get(service)
        return spec is not None and self._unmet(target, spec) is None

    def _may_begin(self, target: Revision, service: str) -> bool:
        """Whether the new one of ``service`` is made as soon as there is room for it."""
        return self._turn_has_come(target, service) and not missing_ground(self._at, target)

    def _bring(self, goal: Revision, deploy: DeployRecord | None) -> bool:
        """Bring every service of ``goal`` to what it should be; return whether all are ready."""
        at = self._at
        ground = missing_ground(at, goal)
        self._steps.extend(ground)
        ready = True
        for service in in_order(goal):
            spec = goal.spec.services[service]
            judged = at.judge(goal, service)
            standing = at.standings.get(at.name(goal, service))
            sentence = judged.sentence
            if standing is None and ground:
                sentence = f"{spec.name} waits for its networks, secrets and configs"
            elif standing is None:
                sentence = self._start(goal, spec, deploying=deploy is not None)
            else:
                self._correct(goal, spec, standing)
            if deploy is not None and standing is not None:
                self._watch(deploy, spec, judged)
            if judged.settles_in_s is not None:
                self._deadlines.append(judged.settles_in_s)
            ready = ready and judged.ready
            if not judged.ready and sentence:
                self._waits.append(sentence)
            state = "healthy" if judged.ready else "starting" if standing else "waiting"
            self._states.append(
                ServiceProgress(
                    service=service, state=state, ready=judged.count, wanted=at.wanted(spec), sentence=sentence
                )
            )
        return ready

    def _start(self, goal: Revision, spec: ServiceSpec, *, deploying: bool) -> str:
        """Create a service that is not there, or say what it waits for."""
        at = self._at
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
        for each in spec.depends_on:
            if each.service not in goal.spec.services:
                continue
            if not self._at.judge(goal, each.service).reached(each.condition):
                return f"{each.service} ({each.condition})"
        return None

    def _make_way(self, goal: Revision, spec: ServiceSpec) -> bool:
        """Stop what must not run beside the new one; return whether it has stopped."""
        if not self._stops_first(spec):
            return True
        if goal is self._at.target and self._batches.way(spec.name) is Way.ROLLING:
            return self._batches.have_left(spec.name)
        if goal is self._at.live and (returning := self._batches.returning(goal, spec.name)):
            return returning[1]
        others = self._at.others(spec.name, self._at.name(goal, spec.name))
        stopped = [self._retiring.stop(each) for each in others]
        return all(stopped)

    def _put(self, revision: Revision, spec: ServiceSpec, *, repair: bool = False, why: str = "") -> None:
        at = self._at
        chosen = choose_pins(at, revision.spec, spec)
        if chosen:
            where = ", ".join(f"{volume} on {at.snapshot.nodes[node].hostname}" for volume, node in chosen.items())
            self._steps.append(PinVolumes(pins=chosen, sentence=f"volumes are kept on one node: {where}"))
            return
        name = at.name(revision, spec.name)
        self._steps.append(
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
        at = self._at
        wanted = self._replicas(spec, standing.name)
        if wanted:
            wanted += at.facts.surge.get(standing.name, 0)
        if drift := at.facts.drifted.get(standing.name):
            self._put(revision, spec, repair=True, why=drift)
        elif not scalable(spec) or standing.service.replicas == wanted:
            return
        elif wanted == 0:
            self._retiring.stop(standing)
        elif self._make_way(revision, spec):
            before = standing.service.replicas
            self._steps.append(
                ScaleService(
                    name=standing.name, replicas=wanted, sentence=f"scaling {standing.name} from {before} to {wanted}"
                )
            )

    def _replicas(self, spec: ServiceSpec, name: str) -> int:
        """Return how many replicas are wanted now: before the switch never fewer than what serves is to have."""
        at = self._at
        if at.target is None or spec.name not in at.target.origin or at.name(at.target, spec.name) != name:
            of_live = at.live is not None and spec.name in at.live.origin and at.name(at.live, spec.name) == name
            returning = self._batches.returning(at.live, spec.name) if of_live and at.live else None
            return returning[0] if returning else at.wanted(spec)
        new = self._batches.wanted_new(at.target.spec.services[spec.name])
        kept = at.live is not None and spec.name in at.live.origin and at.name(at.live, spec.name) == name
        return max(new, at.wanted(at.live.spec.services[spec.name])) if kept and at.live else new

    def _stops_first(self, spec: ServiceSpec) -> bool:
        deploy = self._at.deploy
        forced = deploy is not None and deploy.progress.replacing is Replacing.STOP_FIRST
        return forced or spec.order is Order.STOP_FIRST

    def _watch(self, deploy: DeployRecord, spec: ServiceSpec, judged: Judged) -> None:
        """Note when the service began, and fail the deploy if it will not get ready."""
        at = self._at
        started = deploy.progress.started.get(spec.name)
        if started is None:
            self._steps.append(NoteStarted(service=spec.name, sentence=f"{spec.name} is starting"))
            return
        if judged.ready:
            return
        left = started + spec.ready_timeout_s * self._batches.rounds(spec) - at.now
        if judged.failed is not None:
            self._fail(
                spec.name,
                "deploy.task-failed",
                f"{spec.name} does not start: {judged.sentence}",
                f"see its last lines above, or run: hunqi app logs {at.app.name} --service {spec.name} --removed",
                task=judged.failed.id,
            )
        elif left <= 0:
            self._fail(
                spec.name,
                "deploy.not-healthy",
                f"{spec.name} was not healthy within {spec.ready_timeout_s:.0f} s: {judged.sentence}",
                "see what its healthcheck says; x-hunqi.ready_timeout gives it longer",
            )
        else:
            self._deadlines.append(left)

    def _fail(self, service: str, code: str, sentence: str, remedy: str, *, task: str = "") -> None:
        if not any(isinstance(each, Fail) for each in self._steps):
            self._steps.insert(0, Fail(service=service, code=code, sentence=sentence, remedy=remedy, task=task))

    def _done(self, serves: Revision | None, *, coming: Revision | None = None, settled: bool = False) -> Plan:
        """Put the plan together: a failure stands alone, whatever else was thought of."""
        at = self._at
        retiring = self._retiring
        for each in retiring.steps:
            if each not in self._steps:
                self._steps.append(each)
        failure = next((each for each in self._steps if isinstance(each, Fail)), None)
        waits = list(dict.fromkeys([*self._waits, *retiring.waits]))
        serving = serving_of(at, Traffic(spec_of=serves, coming=coming), retiring)
        sentence = failure.sentence if failure else "; ".join(waits)
        if not sentence:
            sentence = self._steps[0].sentence if self._steps else _calm(at, serves)
        return Plan(
            steps=(failure,) if failure else tuple(self._steps),
            serving=serving,
            sentence=sentence,
            services=tuple(self._states),
            settled=settled and not self._steps,
            wake_in_s=min(self._deadlines) + 0.1 if self._deadlines else None,
            awaits_drained=dict(retiring.draining),
        )


def _calm(situation: Situation, serves: Revision | None) -> str:
    if situation.app.desired is Desired.STOPPED:
        return "the app is stopped"
    if serves is None:
        return "no revision of it has been deployed yet"
    return f"revision {serves.number} serves and is as it should be"
