"""A route table becomes Envoy's v3 resources: pure, one module per concern.

``render`` returns the files that an Envoy at a place reads. Equal tables give equal files, so that what did not change
is not written again.
"""

from __future__ import annotations

from hunqi.gateway.model import Place, RouteTable
from hunqi.gateway.render.clusters import render_cluster, render_endpoints, static_cluster
from hunqi.gateway.render.common import ACME, JSON, address, file_name
from hunqi.gateway.render.hold import hold_clusters
from hunqi.gateway.render.internal import render_internal
from hunqi.gateway.render.listeners import render_listeners
from hunqi.gateway.render.routes import PUBLIC, render_public
from hunqi.gateway.render.tls import render_secret, secret_name

CLUSTERS = "cds.json"
LISTENERS = "lds.json"


def render(table: RouteTable, place: Place) -> dict[str, list[JSON]]:
    """Return the resources by the path of their file below ``place.folder``.

    ``cds.json``, ``lds.json``, and one file for each cluster's endpoints (``eds/``), each route configuration
    (``rds/``) and each certificate (``sds/``).
    """
    files: dict[str, list[JSON]] = {CLUSTERS: _clusters(table, place), LISTENERS: render_listeners(table, place)}
    for cluster in table.clusters.values():
        files[f"eds/{file_name(cluster.name)}"] = [render_endpoints(cluster)]
    files[f"rds/{file_name(PUBLIC)}"] = [render_public(table, place)]
    for name, routes in render_internal(table).items():
        files[f"rds/{file_name(name)}"] = [routes]
    for certificate in table.certificates:
        files[f"sds/{file_name(secret_name(certificate))}"] = [render_secret(certificate)]
    return files


def _clusters(table: RouteTable, place: Place) -> list[JSON]:
    clusters = hold_clusters(place, table.edge)
    if table.edge.acme_challenge:
        host, _, port = table.edge.acme_challenge.rpartition(":")
        clusters.append(static_cluster(ACME, address(host, int(port))))
    return clusters + [render_cluster(table.clusters[name], place) for name in sorted(table.clusters)]
