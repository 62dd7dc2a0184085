"""Steps done at the engine. Each may be done again: what is there already, or gone already, is as good as done."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final, assert_never

from hunqi.apps.building import FILES, service_body, with_rotation
from hunqi.apps.digests import Digests
from hunqi.apps.model import Revision, ServiceSpec
from hunqi.apps.ports import Images, Seal, Volumes
from hunqi.apps.situation import Situation
from hunqi.apps.steps import (
    CreateNetwork,
    CreatePayload,
    PutService,
    RemoveNetwork,
    RemovePayload,
    RemoveService,
    RemoveVolumes,
    ScaleService,
)
from hunqi.apps.store import AppStore
from hunqi.apps.swarm import Target, labels_of, network_body, payload_name
from hunqi.engine.errors import ConflictError, EngineRefusedError, NotFoundError
from hunqi.engine.model import LABEL_CLUSTER
from hunqi.engine.ports import PayloadsPort, WatchedEngine

EngineStep = (
    CreateNetwork
    | CreatePayload
    | PutService
    | ScaleService
    | RemoveService
    | RemoveNetwork
    | RemovePayload
    | RemoveVolumes
)


class PayloadLostError(EngineRefusedError):
    """The bytes of a secret or config are not in the database, or are not those of its digest."""

    code: ClassVar[str] = "app.payload-lost"


class NotOursError(EngineRefusedError):
    """Something of that name is there already that is not of this cluster: it is not touched."""

    code: ClassVar[str] = "app.not-ours"


class ExternalMissingError(EngineRefusedError):
    """A secret or config that the file calls external is not there."""

    code: ClassVar[str] = "app.external-missing"


def payload_context(app: str, digest: str) -> str:
    """Return what a sealed payload is bound to."""
    return f"payload/{app}/{digest.removeprefix('sha256:')}"


class EngineActs:
    """Does steps at the engine. Raises the engine's errors, and ``GroundMissingError``: then observe again."""

    def __init__(
        self, engine: WatchedEngine, store: AppStore, images: Images, seal: Seal, volumes: Volumes, *, cluster: str
    ) -> None:
        self._engine = engine
        self._store = store
        self._images = images
        self._seal = seal
        self._digests = Digests(seal)
        self._volumes = volumes
        self._log_driver: str | None = None
        self.cluster: Final = cluster

    async def do(self, step: EngineStep, at: Situation) -> None:
        """Do one step on what ``at`` has observed."""
        match step:
            case CreateNetwork():
                await self._create_network(step, at)
            case CreatePayload():
                await self._create_payload(step, at)
            case PutService():
                await self._put_service(step, at)
            case ScaleService():
                await self._scale(step, at)
            case RemoveService():
                service = at.snapshot.services.get(step.name)
                if service is not None:
                    with suppress(NotFoundError):
                        await self._engine.services.remove(service.id)
            case RemoveNetwork():
                network = at.snapshot.networks.get(step.name)
                if network is not None:
                    with suppress(NotFoundError):
                        await self._engine.networks.remove(network.id)
            case RemovePayload():
                there = at.snapshot.secrets if step.kind == "secret" else at.snapshot.configs
                if step.name in there:
                    with suppress(NotFoundError):
                        await self._payloads(step.kind).remove(there[step.name].id)
            case RemoveVolumes():
                await self._volumes.remove(at.app.name)
            case _:
                assert_never(step)

    async def body(
        self, at: Situation, revision: Revision, spec: ServiceSpec, *, node: str | None, replicas: int
    ) -> Mapping[str, Any]:
        """Return what the engine is sent for a service."""
        body = service_body(
            revision,
            spec,
            at.snapshot,
            cluster=self.cluster,
            replicas=replicas,
            node=node,
            external=await self._external(revision, spec),
        )
        if self._log_driver is None:
            self._log_driver = (await self._engine.system.info()).log_driver
        return with_rotation(body) if self._log_driver == FILES else body

    async def _create_network(self, step: CreateNetwork, at: Situation) -> None:
        network = at.revisions[step.revision].spec.networks[step.network]
        body = network_body(at.app.name, network, cluster=self.cluster)
        subnets = [each["Subnet"] for each in body.get("IPAM", {}).get("Config", ())]
        try:
            await self._engine.networks.create(
                body["Name"],
                labels=body["Labels"],
                internal=body["Internal"],
                subnet=subnets[0] if subnets else None,
                options=body["Options"],
            )
        except ConflictError as error:
            there = await self._engine.networks.inspect(step.name)
            if there.labels.get(LABEL_CLUSTER) != self.cluster:
                raise NotOursError(
                    f"a network {step.name} that is not ours is there: remove it, or call it external"
                ) from error

    async def _create_payload(self, step: CreatePayload, at: Situation) -> None:
        sealed = await self._store.payload(at.app.name, step.digest.removeprefix("sha256:"))
        if sealed is None:
            raise PayloadLostError(f"the content of {step.name} is not in the database: deploy its file again")
        content = self._seal.open(sealed, context=payload_context(at.app.name, step.digest))
        if not self._digests.fits(at.app.name, step.digest, content):
            raise PayloadLostError(f"the content of {step.name} is not what its digest says: deploy its file again")
        labels = labels_of(self.cluster, at.app.name, step.kind)
        spec = at.revisions[step.revision].spec
        template = (spec.secrets if step.kind == "secret" else spec.configs)[step.key].template or ""
        with suppress(ConflictError):
            await self._payloads(step.kind).create(step.name, content, labels=labels, template=template)

    async def _put_service(self, step: PutService, at: Situation) -> None:
        revision = at.revisions[step.revision]
        spec = revision.spec.services[step.service]
        body = await self.body(at, revision, spec, node=step.node, replicas=step.replicas)
        there = at.snapshot.services.get(step.name)
        if there is None:
            await self._create_service(body, step.name)
        else:
            login = self._images.registry_auth()
            await self._engine.services.update(there.id, there.version, body, registry_auth=login)

    async def _create_service(self, body: Mapping[str, Any], name: str) -> None:
        try:
            await self._engine.services.create(body, registry_auth=self._images.registry_auth())
        except ConflictError as error:
            there = await self._engine.services.inspect(name)
            if there.labels.get(LABEL_CLUSTER) != self.cluster:
                raise NotOursError(f"a service {name} that is not ours is there: remove or rename it") from error
            raise

    async def _scale(self, step: ScaleService, at: Situation) -> None:
        there = at.snapshot.services.get(step.name)
        if there is None:
            return
        spec: dict[str, Any] = copy.deepcopy(dict(there.spec))
        spec["Mode"] = {"Replicated": {"Replicas": step.replicas}}
        await self._engine.services.update(there.id, there.version, spec)

    async def _external(self, revision: Revision, spec: ServiceSpec) -> dict[str, Target]:
        """Find the secrets and configs that a service uses and that Docker's own commands made."""
        found: dict[str, Target] = {}
        wanted = [
            *(("secret", revision.spec.secrets[each.source]) for each in spec.secrets),
            *(("config", revision.spec.configs[each.source]) for each in spec.configs),
        ]
        for kind, payload in wanted:
            if payload.digest is None:
                name = payload_name(revision.app, payload)
                try:
                    held = await self._payloads(kind).inspect(name)
                except NotFoundError as error:
                    raise ExternalMissingError(
                        f"there is no {kind} {name}: set it with hunqi secret, or in the file"
                    ) from error
                found[name] = Target(id=held.id, name=name)
        return found

    def _payloads(self, kind: str) -> PayloadsPort:
        return self._engine.secrets if kind == "secret" else self._engine.configs
