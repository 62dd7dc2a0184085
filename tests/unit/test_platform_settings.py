"""What hunqi up chooses is kept, and read again as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hunqi.platform.errors import SettingsError
from hunqi.platform.settings import (
    FILE_NAME,
    Address,
    PlatformSettings,
    load,
    save,
    shared_settings,
    with_shared,
)


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    chosen = PlatformSettings(
        data_dir=tmp_path,
        docker_socket=tmp_path / "docker.sock",
        control=Address("::1", 7700),
        mirror=Address("127.0.0.1", 5500),
        tcp_ports=(30000, 30009),
        trusted_proxies=("10.0.0.0/24", "fd00::/64"),
        proxy_protocol=True,
        advertise="10.0.0.1",
        database_url="postgresql://hunqi:secret@db/hunqi",
        has_control=False,
    )

    save(chosen)

    assert load(tmp_path) == chosen
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o077 == 0


def test_a_moved_data_directory_is_found_where_it_is(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    save(PlatformSettings(data_dir=first))
    first.rename(second)

    held = load(second)

    assert held is not None
    assert held.data_dir == second


def test_no_settings_are_none(tmp_path: Path) -> None:
    assert load(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"control": 7}', '{"tcp_ports": 5}', '{"trusted_proxies": ["everyone"]}', '{"mirror": "nowhere"}'],
)
def test_damaged_settings_say_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)

    with pytest.raises(SettingsError):
        load(tmp_path)


def test_settings_of_a_newer_version_are_read_as_far_as_they_are_known(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"http_port": 8080, "of_the_future": {"a": 1}}')

    held = load(tmp_path)

    assert held is not None
    assert held.http_port == 8080


def test_the_password_of_the_database_is_not_shown() -> None:
    assert "secret" not in repr(PlatformSettings(database_url="postgresql://hunqi:secret@db/hunqi"))


def test_without_an_advertised_address_everything_listens_on_loopback() -> None:
    alone = PlatformSettings()
    one_of_many = replace(alone, advertise="10.0.0.1")

    assert {alone.agent.host, alone.mirror_peers.host, alone.control.host, alone.mirror.host} == {"127.0.0.1"}
    assert {one_of_many.agent.host, one_of_many.mirror_peers.host} == {"10.0.0.1"}
    assert {one_of_many.control.host, one_of_many.mirror.host} == {"127.0.0.1"}


def test_a_machine_that_joins_takes_over_what_is_the_same_everywhere_and_nothing_else(tmp_path: Path) -> None:
    first = PlatformSettings(mirror=Address("127.0.0.1", 5500), http_port=8080, tcp_ports=(1, 2), advertise="10.0.0.1")
    second = PlatformSettings(data_dir=tmp_path, advertise="10.0.0.2", agent_port=7777)

    joined = with_shared(second, shared_settings(first))

    assert (joined.mirror, joined.http_port, joined.tcp_ports) == (first.mirror, 8080, (1, 2))
    assert (joined.data_dir, joined.advertise, joined.agent_port) == (tmp_path, "10.0.0.2", 7777)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7000", Address("127.0.0.1", 7000)),
        (":7000", Address("127.0.0.1", 7000)),
        ("7000", Address("127.0.0.1", 7000)),
        ("[::1]:7000", Address("::1", 7000)),
    ],
)
def test_an_address_is_host_and_port(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("text", ["", "host", "host:", "host:0", "host:65536", "host:-1", "host:7 0"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="no address"):
        Address.parse(text, name="--control")
