"""A world for planners: Swarm services and gateways as plain values, on which a plan's steps are carried out at once.

Nothing here waits: tasks become healthy when the test says so, gateways take in what they are offered when the test
says so. ``World.look`` makes one plan and does its steps, or only some of them (a crash in between).
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hunqi.apps.model import (
    AppSpec,
    Attachment,
    DeployState,
    Mode,
    NetworkSpec,
    Order,
    Revision,
    RouteSpec,
    ServiceSpec,
)
from hunqi.apps.operations import Replacing
from hunqi.apps.plan import plan
from hunqi.apps.releasing import origin_of
from hunqi.apps.rollout_spec import RolloutSpec
from hunqi.apps.serving import HealthReport, Serving
from hunqi.apps.shifting import Shift, Verdict
from hunqi.apps.situation import Facts, Situation
from hunqi.apps.split import shifts
from hunqi.apps.standing import standings
from hunqi.apps.state import AppRecord, DeployRecord, Desired, Intent, Progress
from hunqi.apps.steps import (
    Advance,
    CreateNetwork,
    CreatePayload,
    Fail,
    Forget,
    NoteStarted,
    PinVolumes,
    Plan,
    PutService,
    RemoveNetwork,
    RemovePayload,
    RemoveService,
    RemoveVolumes,
    ScaleService,
    Step,
)
from hunqi.engine.model import (
    LABEL_APP,
    LABEL_CLUSTER,
    LABEL_REVISION,
    LABEL_SERVICE,
    Network,
    Node,
    Payload,
    Service,
    Snapshot,
    Task,
    TaskState,
)

OPEN = {DeployState.PENDING, DeployState.STARTING, DeployState.SHIFTING}
THEN = datetime(2026, 1, 1, tzinfo=UTC)
IMAGE = "127.0.0.1:5000/shop/{name}@sha256:{digest}"


def web(name: str = "web", *, version: int = 1, replicas: int = 2, **more: object) -> ServiceSpec:
    """A routed service; another ``version`` is another image."""
    given: dict[str, object] = {
        "routes": (RouteSpec(port=8080, hosts=(f"{name}.example.com",)),),
        "internal": "gateway",
        "internal_ports": (8080,),
    }
    return service(name, version=version, replicas=replicas, **{**given, **more})


def service(name: str, *, version: int = 1, replicas: int = 1, **more: object) -> ServiceSpec:
    """A service that the gateway does not know."""
    image = IMAGE.format(name=name, digest=f"{version:064x}")
    given: dict[str, object] = {"networks": (Attachment(network="default"),), **more}
    return ServiceSpec(name=name, image=image, replicas=replicas, **given)  # type: ignore[arg-type]


def spec(*services: ServiceSpec, **more: object) -> AppSpec:
    """An app called shop."""
    given: dict[str, object] = {"networks": {"default": NetworkSpec(name="default")}, **more}
    return AppSpec(name="shop", services={each.name: each for each in services}, **given)  # type: ignore[arg-type]


@dataclass
class World:
    """One app, its Swarm and its gateways."""

    app: AppRecord = field(
        default_factory=lambda: AppRecord(
            name="shop",
            team="t",
            desired=Desired.RUNNING,
            live=None,
            intent=Intent(),
            generation=0,
            created_at=THEN,
            updated_at=THEN,
        )
    )
    revisions: dict[int, Revision] = field(default_factory=dict)
    deploy: DeployRecord | None = None
    ended: list[DeployRecord] = field(default_factory=list)
    services: dict[str, Service] = field(default_factory=dict)
    tasks: dict[str, list[Task]] = field(default_factory=dict)
    networks: dict[str, Network] = field(default_factory=dict)
    payloads: dict[str, dict[str, Payload]] = field(default_factory=lambda: {"secret": {}, "config": {}})
    offered: Serving | None = None
    taken: Serving | None = None
    drained: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    """Images whose tasks fail."""
    now: float = 1000.0
    gone: bool = False
    log: list[str] = field(default_factory=list)
    ids: itertools.count[int] = field(default_factory=itertools.count)
    busy: bool = False
    """Whether draining backends still have requests."""
    gateways: int = 1
    began: float = 0.0
    crashed: bool = False
    """Whether control has just begun again: no gateway has reported to it yet."""

    # what users do
    def release(self, new: AppSpec, **progress: object) -> None:
        """Deploy another spec."""
        if self.deploy is not None:
            self._end(DeployState.SUPERSEDED)
        number = max(self.revisions, default=0) + 1
        live = self.revisions.get(self.app.live) if self.app.live else None
        origin = origin_of(new, number, live)
        self.revisions[number] = Revision(
            app="shop", number=number, spec=new, origin=origin, created_at=THEN, actor="ann", reason=""
        )
        self.deploy = DeployRecord(
            id=f"d{number}",
            app="shop",
            revision=number,
            from_revision=self.app.live,
            state=DeployState.PENDING,
            progress=Progress(changed_at=self.now, **progress),  # type: ignore[arg-type]
            problem=None,
            actor="ann",
            reason="",
            created_at=THEN,
            updated_at=THEN,
        )

    def rollout(self, new: AppSpec, **more: object) -> None:
        """Deploy another spec so that it moves by decisions, if any of it can."""
        live = self.revisions.get(self.app.live) if self.app.live else None
        given: dict[str, object] = {"replicas": dict.fromkeys(new.services, 1), **more}
        self.release(new)
        assert self.deploy is not None
        if live is not None and shifts(live, self.revisions[self.deploy.revision], RolloutSpec()):
            progress = dataclasses.replace(self.deploy.progress, shift=Shift(**given))  # type: ignore[arg-type]
            self.deploy = dataclasses.replace(self.deploy, progress=progress)

    def decide(self, **changes: object) -> None:
        """Take the next decision of the rollout under way, if there is one that can still be decided of."""
        shift = self.deploy.progress.shift if self.deploy else None
        if self.deploy is None or shift is None or self.deploy.state not in OPEN or shift.verdict is Verdict.ABORT:
            return
        if shift.verdict is Verdict.PROMOTE and changes.get("verdict") is not Verdict.ABORT:
            return
        made = dataclasses.replace(shift, number=shift.number + 1, decided_at=self.now, **changes)  # type: ignore[arg-type]
        progress = dataclasses.replace(self.deploy.progress, shift=made)
        self.deploy = dataclasses.replace(self.deploy, progress=progress)

    def cancel(self) -> None:
        """Cancel the deploy under way."""
        self._end(DeployState.CANCELLED)

    def want(self, **changes: object) -> None:
        """Change the app's record."""
        self.app = dataclasses.replace(self.app, **changes)  # type: ignore[arg-type]

    # the loop
    def plan(self) -> Plan:
        """Plan from what there is."""
        return plan(self.situation())

    def look(self, steps: int | None = None) -> Plan:
        """Offer, and do the first ``steps`` of the plan (all if None)."""
        made = self.plan()
        self.offered = made.serving
        self.drained &= set(made.awaits_drained)
        for step in made.steps[:steps]:
            self._do(step)
            self.log.append(step.sentence)
            if self.gone:
                break
        return made

    def pass_time(self, seconds: float = 1.0, *, ready: bool = True) -> None:
        """Tasks start or end, gateways take in what was offered and drain."""
        self.now += seconds
        self.crashed = False
        self.taken = self.offered if self.gateways else None
        if self.taken is not None and self.offered is not None and not self.busy:
            self.drained |= set(self.offered.draining)
        for name in list(self.services):
            self._run(name, ready=ready)

    def settle(self, rounds: int = 60) -> Plan:
        """Look and let time pass until nothing is to be done."""
        for _ in range(rounds):
            made = self.look()
            if self.gone or (made.settled and not made.steps):
                return made
            self.pass_time()
        raise AssertionError(f"does not settle: {made.sentence}; {self.log[-12:]}")

    def situation(self) -> Situation:
        """What a controller would observe."""
        snapshot = self.snapshot()
        return Situation(
            app=self.app,
            revisions=self.revisions,
            deploy=self.deploy,
            snapshot=snapshot,
            standings=standings("shop", list(snapshot.services.values()), snapshot),
            facts=Facts(
                health={name: self.known(name) for name in self.services},
                in_force=None if self.crashed else self.taken,
                drained=frozenset(self.drained),
                observing_since=self.began,
                in_batches=frozenset(
                    each.revision for each in self.ended if each.progress.replacing is Replacing.BATCHES
                ),
            ),
            now=self.now,
            networks_in_use={id_ for held in self.services.values() for id_ in held.network_ids},
        )

    def snapshot(self) -> Snapshot:
        """The Swarm."""
        node = Node(
            id="n1",
            version=1,
            hostname="one",
            role="manager",
            availability="active",
            state="ready",
            address="10.0.0.1",
            labels={},
            is_leader=True,
            reachable=True,
            nano_cpus=4 * 10**9,
            memory_bytes=8 * 2**30,
            engine_version="20.10",
            platform="linux/x86_64",
            spec={},
        )
        return Snapshot(
            services=dict(self.services),
            tasks={self.services[name].id: tuple(held) for name, held in self.tasks.items() if name in self.services},
            nodes={"n1": node},
            networks=dict(self.networks),
            secrets=dict(self.payloads["secret"]),
            configs=dict(self.payloads["config"]),
            taken_at=self.now,
        )

    def health(self, name: str) -> HealthReport:
        """What the gateways find: running tasks of backends that they know."""
        if not self.gateways:
            return HealthReport(backend=name, gateways=0, healthy=frozenset(), failures={})
        known = self.taken is not None and any(each.name == name for each in self.taken.backends)
        healthy = frozenset(task.id for task in self.tasks.get(name, ()) if task.serving) if known else frozenset()
        return HealthReport(backend=name, gateways=1, healthy=healthy, failures={})

    def known(self, name: str) -> HealthReport:
        """What control knows of it."""
        if self.crashed:
            return HealthReport(backend=name, gateways=0, healthy=frozenset(), failures={})
        return self.health(name)

    def crash(self) -> None:
        """Control is killed and begins again: it remembers nothing that was not persisted."""
        self.drained.clear()
        self.crashed = True
        self.began = self.now

    # invariants
    def capacity(self, service_name: str) -> int:
        """Healthy tasks that the gateways send a service's requests to."""
        if self.taken is None:
            return 0
        shares = self.taken.shares.get(service_name, ())
        return sum(
            len(self.health(share.backend).healthy) for share in shares if share.backend not in self.taken.draining
        )

    def running(self, service_name: str) -> set[str]:
        """Swarm services of which tasks run."""
        return {
            name
            for name, held in self.services.items()
            if held.labels[LABEL_SERVICE] == service_name and any(task.serving for task in self.tasks[name])
        }

    # steps
    def _do(self, step: Step) -> None:
        match step:
            case CreateNetwork():
                labels = {LABEL_APP: "shop", LABEL_CLUSTER: "c"}
                self.networks[step.name] = Network(
                    id=self._id("net"),
                    name=step.name,
                    driver="overlay",
                    scope="swarm",
                    attachable=True,
                    labels=labels,
                    subnets=(),
                )
            case CreatePayload():
                self.payloads[step.kind][step.name] = Payload(
                    id=self._id("p"), version=1, name=step.name, labels={LABEL_APP: "shop"}
                )
            case PutService():
                self._put(step)
            case ScaleService():
                self._scale(step.name, step.replicas)
            case RemoveService():
                self.services.pop(step.name, None)
                self.tasks.pop(step.name, None)
            case RemoveNetwork():
                self.networks.pop(step.name, None)
            case RemovePayload():
                self.payloads[step.kind].pop(step.name, None)
            case RemoveVolumes():
                pass
            case Forget():
                self.gone = True
            case _:
                self._keep(step)

    def _keep(self, step: PinVolumes | NoteStarted | Advance | Fail) -> None:
        match step:
            case PinVolumes():
                pins = {**self.app.intent.pins, **step.pins}
                self.want(intent=dataclasses.replace(self.app.intent, pins=pins))
            case NoteStarted():
                assert self.deploy is not None
                progress = self.deploy.progress
                started = {**progress.started, step.service: self.now}
                self.deploy = dataclasses.replace(self.deploy, progress=dataclasses.replace(progress, started=started))
            case Advance():
                assert self.deploy is not None
                if step.live is not None:
                    auto = {**self.app.intent.auto, **dict.fromkeys(step.awake, 1)}
                    self.want(live=step.live, intent=dataclasses.replace(self.app.intent, auto=auto))
                progress = dataclasses.replace(self.deploy.progress, changed_at=self.now)
                self.deploy = dataclasses.replace(self.deploy, state=step.state, progress=progress)
                if step.state.ended:
                    self._end(step.state)
            case Fail():
                self.log.append(step.code)
                self._end(DeployState.FAILED)

    def _end(self, state: DeployState) -> None:
        assert self.deploy is not None
        self.ended.append(dataclasses.replace(self.deploy, state=state))
        self.deploy = None

    def _put(self, step: PutService) -> None:
        revision = self.revisions[step.revision]
        held = revision.spec.services[step.service]
        labels = {
            LABEL_APP: "shop",
            LABEL_SERVICE: step.service,
            LABEL_REVISION: str(revision.origin[step.service]),
            LABEL_CLUSTER: "c",
        }
        networks = tuple(self.networks[f"shop_{each.network}"].id for each in held.networks)
        self.services[step.name] = Service(
            id=self._id("s"),
            version=1,
            name=step.name,
            labels=labels,
            spec={
                "Mode": {"ReplicatedJob": {}} if held.mode is Mode.REPLICATED_JOB else {"Replicated": {}},
                "TaskTemplate": {"ContainerSpec": {"Image": held.image}},
            },
            created_at="",
            updated_at="",
            network_ids=networks,
        )
        self.tasks[step.name] = []
        if held.mode is Mode.REPLICATED_JOB:
            self.tasks[step.name] = [self._task(step.name, 0)]
        else:
            self._scale(step.name, step.replicas)

    def _scale(self, name: str, replicas: int) -> None:
        held = self.services[name]
        self.services[name] = dataclasses.replace(
            held, version=held.version + 1, spec={**held.spec, "Mode": {"Replicated": {"Replicas": replicas}}}
        )
        wanted = [task for task in self.tasks[name] if task.desired_state is TaskState.RUNNING]
        wanted.sort(key=lambda task: task.state is not TaskState.RUNNING)  # as Swarm does: those that run stay
        for task in wanted[replicas:]:
            self._set(name, task, desired_state=TaskState.SHUTDOWN)
        for slot in range(len(wanted), replicas):
            self.tasks[name].insert(0, self._task(name, slot))

    def _task(self, name: str, slot: int) -> Task:
        return Task(
            id=self._id("t"),
            service_id=self.services[name].id,
            node_id="n1",
            slot=slot,
            state=TaskState.STARTING,
            desired_state=TaskState.RUNNING,
            message="",
            error="",
            exit_code=None,
            container_id=None,
            pid=None,
            addresses={},
            image="",
            created_at="",
            updated_at="",
        )

    def _run(self, name: str, *, ready: bool) -> None:
        image = self.services[name].spec["TaskTemplate"]["ContainerSpec"]["Image"]
        for task in list(self.tasks[name]):
            if task.desired_state is not TaskState.RUNNING:
                self._set(name, task, state=TaskState.SHUTDOWN)
            elif image in self.broken:
                if task.state is not TaskState.FAILED:
                    self._set(name, task, state=TaskState.FAILED, desired_state=TaskState.SHUTDOWN, exit_code=1)
                    self.tasks[name].insert(0, self._task(name, task.slot or 0))
            elif ready and task.state is TaskState.STARTING:
                done = "ReplicatedJob" in self.services[name].spec["Mode"]
                self._set(name, task, state=TaskState.COMPLETE if done else TaskState.RUNNING)

    def _set(self, name: str, task: Task, **changes: object) -> None:
        where = next(index for index, each in enumerate(self.tasks[name]) if each.id == task.id)
        if "desired_state" not in changes and task.state in {TaskState.FAILED, TaskState.SHUTDOWN}:
            return
        self.tasks[name][where] = dataclasses.replace(task, **changes)  # type: ignore[arg-type]

    def _id(self, kind: str) -> str:
        return f"{kind}{next(self.ids)}"


def stop_first(each: ServiceSpec) -> ServiceSpec:
    """The same, replaced stop-first."""
    return dataclasses.replace(each, order=Order.STOP_FIRST)
