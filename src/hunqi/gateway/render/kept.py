"""Renders table after table for one Envoy, and anew only what is not as it was in the last one.

What is kept is text. A resource's objects live only until they are encoded, so that a table of thousands of them gives
the cyclic garbage collector nothing to walk: it took up to two thirds of the time when all of them were held at once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final

import orjson

from hunqi.gateway.model import Cluster, Place, RouteTable
from hunqi.gateway.render.clusters import (
    ClusterKind,
    cluster_head,
    cluster_kind,
    cluster_rest,
    render_endpoints,
    static_cluster,
)
from hunqi.gateway.render.common import ACME, JSON, address, file_name
from hunqi.gateway.render.hold import hold_clusters
from hunqi.gateway.render.internal import group_internal, internal_name, render_inside
from hunqi.gateway.render.listeners import listener_needs, render_listeners
from hunqi.gateway.render.routes import PUBLIC, group_hosts, lanes_of, public_frame, render_host
from hunqi.gateway.render.tls import render_secret, secret_name

CLUSTERS: Final = "cds.json"
LISTENERS: Final = "lds.json"

_escaped: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Renderer:
    """Remembers the last table's texts. May be called in any thread: one cannot be stopped when its caller is."""

    def __init__(self, place: Place) -> None:
        """Render for the Envoy at ``place``."""
        self._place = place
        self._kept: dict[Hashable, tuple[object, tuple[str, ...]]] = {}
        self._fresh: dict[Hashable, tuple[object, tuple[str, ...]]] = {}
        self._lock = threading.Lock()

    def render(self, table: RouteTable) -> dict[str, tuple[str, ...]]:
        """Return each file's resources, encoded, by its path below the place's folder.

        ``cds.json``, ``lds.json``, and one file for each cluster's endpoints (``eds/``), each route configuration
        (``rds/``) and each certificate (``sds/``). What did not change is the very object that was returned before.
        """
        with self._lock:
            files = self._files(table)
            self._kept, self._fresh = self._fresh, {}
            return files

    def _files(self, table: RouteTable) -> dict[str, tuple[str, ...]]:
        files = {
            CLUSTERS: self._clusters(table),
            LISTENERS: self._once(
                LISTENERS, listener_needs(table), lambda: map(_encode, render_listeners(table, self._place))
            ),
        }
        for name, cluster in table.clusters.items():
            basis = (cluster.protocol, cluster.health, cluster.hold_s, cluster.endpoints)
            texts = self._once(("eds", name), basis, lambda each=cluster: [_encode(render_endpoints(each))])
            files[f"eds/{file_name(name)}"] = texts
        files[f"rds/{file_name(PUBLIC)}"] = self._public(table)
        for (port, subnet), routes in group_internal(table).items():
            name = internal_name(port, subnet)
            texts = self._once(name, routes, lambda name=name, routes=routes: [_encode(render_inside(name, routes))])
            files[f"rds/{file_name(name)}"] = texts
        for each in table.certificates:
            name = secret_name(each)
            texts = self._once(("sds", name), each, lambda each=each: [_encode(render_secret(each))])
            files[f"sds/{file_name(name)}"] = texts
        return files

    def _clusters(self, table: RouteTable) -> tuple[str, ...]:
        texts: list[str] = []
        texts += self._once("own", table.edge, lambda: map(_encode, _own(table, self._place)))
        for name in sorted(table.clusters):
            cluster = table.clusters[name]
            kind = cluster_kind(cluster)
            basis = (kind, cluster.app, cluster.service, cluster.revision)
            texts += self._once(("cds", name), basis, lambda each=cluster, kind=kind: [self._cluster(each, kind)])
        return self._same(CLUSTERS, tuple(texts))

    def _cluster(self, cluster: Cluster, kind: ClusterKind) -> str:
        (rest,) = self._once(kind, None, lambda: [_encode(cluster_rest(kind))])
        return f"{_encode(cluster_head(cluster, self._place))[:-1]},{rest[1:]}"

    def _public(self, table: RouteTable) -> tuple[str, ...]:
        everywhere = (table.edge, table.challenges)
        texts: list[str] = []
        for host, routes in group_hosts(table).items():
            texts += self._once(
                ("host", host),
                (everywhere, routes, lanes_of(routes, table)),
                lambda host=host, routes=routes: [_encode(render_host(host, routes, table))],
            )
        hosts = self._same("hosts", tuple(texts))
        return self._once(PUBLIC, hosts, lambda: [_framed(public_frame(), "virtual_hosts", hosts)])

    def _once(self, key: Hashable, basis: object, make: Callable[[], Any]) -> tuple[str, ...]:
        """Return what was made of an equal ``basis``, or make it."""
        kept = self._fresh.get(key) or self._kept.get(key)
        texts = kept[1] if kept is not None and kept[0] == basis else tuple(make())
        # The newer of two equal ones, or the whole of an old table would be kept for it.
        self._fresh[key] = (basis, texts)
        return texts

    def _same(self, key: Hashable, texts: tuple[str, ...]) -> tuple[str, ...]:
        """Return the kept object if it is equal, so that who compares need not read it."""
        kept = self._kept.get(key)
        if kept is None or kept[1] != texts:
            kept = (None, texts)
        self._fresh[key] = kept
        return kept[1]


def _encode(part: JSON) -> str:
    try:
        return orjson.dumps(part).decode()
    except orjson.JSONEncodeError:
        # Half a pair of surrogates in what somebody named: it must not keep all other routes out.
        return _escaped(part)


def _own(table: RouteTable, place: Place) -> Iterator[JSON]:
    yield from hold_clusters(place, table.edge)
    if table.edge.acme_challenge:
        host, _, port = table.edge.acme_challenge.rpartition(":")
        yield static_cluster(ACME, address(host, int(port)))


def _framed(frame: JSON, key: str, texts: tuple[str, ...]) -> str:
    """Return ``frame`` encoded, with ``texts`` as the list at ``key``."""
    return f'{_encode(frame)[:-1]},"{key}":[{",".join(texts)}]}}'
