"""The push half of the registry and the lists of local repositories: distribution-spec 1.1 with what main adds.

Endpoints raise :class:`~hunqi.errors.HunqiError`; the caller, who has checked the right to the repository, makes
replies of them (:mod:`hunqi.mirror.serve.wire`). ``repo`` is a repository's key in the store, ``name`` what the client
wrote.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Final

from hunqi.mirror.serve.push_lists import ListEndpoints
from hunqi.mirror.serve.push_manifests import ManifestEndpoints
from hunqi.mirror.serve.push_ports import AfterCommit, AfterDelete, Bring, LocationBase, MayRead, PushPorts, SourceOf
from hunqi.mirror.serve.uploading import UploadEndpoints
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.uploads import Uploads

STALL_TIMEOUT_S: Final = 120.0
"""How long a client may send nothing in the middle of a body; its upload stays and can be resumed."""


class PushEndpoints(UploadEndpoints, ManifestEndpoints, ListEndpoints):
    """Everything that a client may do to a local repository, and the lists it may read there."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        uploads: Uploads,
        may_read: MayRead,
        source_of: SourceOf,
        after_commit: AfterCommit,
        after_delete: AfterDelete,
        bring: Bring,
        location_base: LocationBase,
        executor: Executor,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        """``executor`` runs disk and hashing work; the rest is told at the types in ``push_ports``."""
        super().__init__(
            PushPorts(
                catalogue=catalogue,
                uploads=uploads,
                may_read=may_read,
                source_of=source_of,
                after_commit=after_commit,
                after_delete=after_delete,
                bring=bring,
                location_base=location_base,
                executor=executor,
                stall_timeout_s=stall_timeout_s,
            )
        )
