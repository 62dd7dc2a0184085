"""The three layers of settings as a started mirror has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testbed.client import fetch
from testbed.images import opaque
from testbed.mirror import RunningMirror
from testbed.zoo import ZooRegistry

pytestmark = pytest.mark.real
IMAGE = opaque([1000], seed="settings")


def test_flags_are_stronger_than_variables_and_those_than_the_file(tmp_path: Path) -> None:
    with ZooRegistry([IMAGE]) as zoo:
        config = (
            '[mirror]\nworkers = 1\nspace.cache-max = "1GiB"\ntags.ttl = "1h"\ndefault-upstream = "quay.io"\n'
            '[mirror.upstreams]\n"quay.io" = "http://127.0.0.1:9"\n"ghcr.io" = "http://127.0.0.1:9"\n'
        )
        env = {"HUNQI_MIRROR_WORKERS": "3", "HUNQI_MIRROR_SPACE_CACHE_MAX": "2GiB", "QUAY_IO": zoo.url}
        with RunningMirror(tmp_path, config=config, env=env, args=["--workers", "2"]) as mirror:
            assert len(mirror.children()) == 3  # the fetcher and two workers
            stat: Any = mirror.cli_json("stat")
            assert stat["cache_max_bytes"] == 2 * 1024**3
            status: Any = mirror.cli_json("status")
            assert status["default_upstream"] == "quay.io"
            assert {one["name"]: one["url"] for one in status["upstreams"]} == {
                "quay.io": zoo.url,
                "ghcr.io": "http://127.0.0.1:9",
            }
            assert fetch(f"{mirror.base_url}/v2/team/app/manifests/latest").status == 200


def test_without_settings_it_has_the_six_well_known_registries(tmp_path: Path) -> None:
    with RunningMirror(tmp_path) as mirror:
        names = ["docker.io", "ghcr.io", "quay.io", "registry.k8s.io", "gcr.io", "mcr.microsoft.com"]
        status: Any = mirror.cli_json("status")
        assert [one["name"] for one in status["upstreams"]] == names
        assert status["default_upstream"] == "docker.io"
        log = mirror.log.read_text()
        for text in (*names, mirror.base_url, f"docker pull {mirror.host}/docker.io/library/nginx", "mirror setup"):
            assert text in log
