"""The three layers of configuration, what they mean, and that every fault is told at once."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from hunqi.config import ConfigError, FlagValue, Inputs, load_mirror_settings, load_places
from hunqi.mirror.settings import (
    GIB,
    MIB,
    WELL_KNOWN_UPSTREAMS,
    Address,
    MirrorSettings,
    OnDisconnect,
    RetentionRule,
)
from testbed.authority import Authority, Credential


class Desk:
    """A working directory with a file, an environment and flags."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def inputs(
        self,
        *,
        file: str | None = None,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, FlagValue] | None = None,
        is_root: bool = False,
    ) -> Inputs:
        path = None
        if file is not None:
            path = self.directory / "etc" / "hunqi.toml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(file)
        return Inputs(
            flags=flags or {},
            environ=environ or {},
            config_file=path,
            cwd=self.directory,
            home=Path("/home/ada"),
            is_root=is_root,
            cores=4,
            system_file=self.directory / "none.toml",
        )

    def load(self, **layers: object) -> MirrorSettings:
        return load_mirror_settings(self.inputs(**layers))  # type: ignore[arg-type]

    def faults(self, **layers: object) -> list[tuple[str, str, str]]:
        with pytest.raises(ConfigError) as caught:
            self.load(**layers)
        return [(Path(fault.key).name, fault.rule, fault.remedy) for fault in caught.value.faults]

    def file(self, name: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        made = real_certificate()
        path.write_bytes((made.key_file if path.suffix == ".key" else made.cert_file).read_bytes())
        return path


@cache
def real_certificate() -> Credential:
    """A real certificate and its key."""
    return Authority(Path(tempfile.mkdtemp())).issue("any")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_nothing_written_means_the_defaults(desk: Desk) -> None:
    settings = desk.load()
    assert settings.listen == Address("127.0.0.1", 5000)
    assert {origin.name: origin.url for origin in settings.upstreams} == dict(WELL_KNOWN_UPSTREAMS)
    assert settings.default_upstream == "docker.io"
    assert settings.workers == 4
    assert settings.tls is None
    assert settings.space.cache_max == 50 * GIB
    assert settings.data_dir == Path("/home/ada/.local/share/hunqi/mirror")
    assert desk.load(is_root=True).data_dir == Path("/var/lib/hunqi/mirror")
    assert desk.load(environ={"XDG_DATA_HOME": "/x"}).data_dir == Path("/x/hunqi/mirror")


def test_a_flag_is_stronger_than_the_environment_and_that_than_the_file(desk: Desk) -> None:
    file = '[mirror]\nlisten = "127.0.0.1:1"\nworkers = 1\ndrain = "1s"\n'
    environ = {"HUNQI_MIRROR_LISTEN": "127.0.0.1:2", "HUNQI_MIRROR_WORKERS": "2"}
    settings = desk.load(file=file, environ=environ, flags={"listen": "127.0.0.1:3"})
    assert (settings.listen.port, settings.workers, settings.drain_s) == (3, 2, 1.0)


def test_the_file_is_found_by_variable_and_in_its_usual_place(desk: Desk) -> None:
    (desk.directory / "a.toml").write_text("[mirror]\nworkers = 3\n")
    assert desk.load(environ={"HUNQI_CONFIG": "a.toml"}).workers == 3
    (desk.directory / "none.toml").write_text("[mirror]\nworkers = 5\n")
    assert desk.load().workers == 5
    assert desk.load(environ={"HUNQI_CONFIG": "a.toml"}).workers == 3


def test_every_group_of_the_file_arrives(desk: Desk) -> None:
    settings = desk.load(
        file="""
        [mirror]
        listen = "[::1]:5000"
        access-log = "log/access"
        [mirror.space]
        cache-max = "1.5GiB"
        low-percent = "80%"
        [[mirror.space.retention]]
        pattern = "team/*"
        keep-newest = 10
        max-age = "30d"
        [mirror.tags]
        ttl = "30s"
        patterns = ["library/*:latest=5m", "*=0"]
        [mirror.fetch]
        on-disconnect = "finish-if-over=75%"
        range-threshold = "8MiB"
        read-ahead = false
        [mirror.deadlines]
        stall = "1m"
        [mirror.access]
        local = ["team", "shop/web"]
        """
    )
    assert settings.listen == Address("::1", 5000)
    assert settings.access_log == desk.directory / "etc/log/access"
    assert (settings.space.cache_max, settings.space.low_percent) == (3 * GIB // 2, 80)
    assert settings.space.retention == (RetentionRule(pattern="team/*", keep_newest=10, max_age_s=30 * 86400.0),)
    assert settings.tags.ttl_of("library/nginx", "latest") == 300
    assert settings.tags.ttl_of("a/b", "1") == 0
    assert (settings.fetch.on_disconnect, settings.fetch.finish_percent) == (OnDisconnect.FINISH_IF_OVER, 75)
    assert (settings.fetch.range_threshold, settings.fetch.read_ahead) == (8 * MIB, False)
    assert settings.deadlines.stall_s == 60
    assert settings.access.local == ("team", "shop/web")


def test_lists_are_separated_by_commas_in_the_environment(desk: Desk) -> None:
    settings = desk.load(
        environ={
            "HUNQI_MIRROR_UPSTREAMS": "docker.io=https://r.example, ghcr.io=http://127.0.0.1:5001",
            "HUNQI_MIRROR_PEERS_URLS": "http://127.0.0.1:7001,http://127.0.0.1:7002",
            "HUNQI_MIRROR_DRAIN": "",
        }
    )
    assert [(o.name, o.url) for o in settings.upstreams] == [
        ("docker.io", "https://r.example"),
        ("ghcr.io", "http://127.0.0.1:5001"),
    ]
    assert len(settings.peers.urls) == 2
    assert settings.drain_s == 30


def test_a_variable_points_an_upstream_elsewhere(desk: Desk) -> None:
    settings = desk.load(environ={"DOCKER_IO": "http://127.0.0.1:5001/", "MCR_MICROSOFT_COM": "https://m.example:444"})
    urls = {origin.name: origin.url for origin in settings.upstreams}
    assert urls["docker.io"] == "http://127.0.0.1:5001"
    assert urls["mcr.microsoft.com"] == "https://m.example:444"
    assert urls["ghcr.io"] == "https://ghcr.io"
    assert len(urls) == 6


def test_a_variable_changes_only_the_url_of_what_the_file_says(desk: Desk) -> None:
    ca = desk.file("etc/ca.pem")
    file = '[mirror.upstreams."registry.corp"]\nurl = "https://registry.corp"\nca-file = "ca.pem"\nallow = ["a/*"]\n'
    settings = desk.load(file=file, environ={"REGISTRY_CORP": "http://127.0.0.1:9"})
    (origin,) = settings.upstreams
    assert (origin.url, origin.ca_file, origin.allow) == ("http://127.0.0.1:9", ca, ("a/*",))
    assert settings.default_upstream == "registry.corp"


def test_upstream_flags_are_the_whole_list_and_stronger_than_variables(desk: Desk) -> None:
    flags: dict[str, FlagValue] = {"upstreams": ["docker.io=https://flag.example"]}
    settings = desk.load(flags=flags, environ={"DOCKER_IO": "http://127.0.0.1:5001", "GHCR_IO": "http://127.0.0.1:1"})
    assert [(o.name, o.url) for o in settings.upstreams] == [("docker.io", "https://flag.example")]


def test_an_upstream_of_the_file_may_be_only_its_url(desk: Desk) -> None:
    settings = desk.load(
        file='[mirror.upstreams]\n"quay.io" = "https://q.example"\n"docker.io" = {max-connections = 4}'
    )
    assert [(o.name, o.url, o.max_connections) for o in settings.upstreams] == [
        ("quay.io", "https://q.example", 32),
        ("docker.io", "https://registry-1.docker.io", 4),
    ]


def test_relays_stand_before_an_upstream_or_all(desk: Desk) -> None:
    file = '[[mirror.relays]]\nurl = "https://near.example"\n[[mirror.relays]]\nname = "quay.io"\nurl = "http://q:1"\n'
    settings = desk.load(file=file)
    assert [(o.name, o.url) for o in settings.relays] == [("*", "https://near.example"), ("quay.io", "http://q:1")]
    assert desk.load(file=file, flags={"relays": ["ghcr.io=https://g.example"]}).relays[0].name == "ghcr.io"
    assert "not among the upstreams" in desk.faults(flags={"relays": ["other.io=https://g.example"]})[0][1]


def test_proxies_come_from_either_case_and_lower_is_stronger(desk: Desk) -> None:
    settings = desk.load(
        environ={"HTTPS_PROXY": "proxy:3128", "https_proxy": "http://low:1", "HTTP_PROXY": "p:2", "no_proxy": "a,b"}
    )
    assert settings.proxies == {"https_proxy": "http://low:1", "http_proxy": "http://p:2", "no_proxy": "a,b"}


@pytest.mark.parametrize("proxy", ["https://proxy:3128", "socks5://proxy:1", "http://:1"])
def test_a_proxy_that_cannot_be_spoken_to_is_a_fault_and_no_crash_later(desk: Desk, proxy: str) -> None:
    (fault,) = desk.faults(environ={"HTTPS_PROXY": proxy})
    assert "http://[user:password@]host:port" in fault[1]


def test_a_password_in_a_wrong_proxy_is_never_shown(desk: Desk) -> None:
    with pytest.raises(ConfigError) as caught:
        desk.load(environ={"HTTPS_PROXY": "socks5://ada:geheim@proxy:1"})
    assert "HTTPS_PROXY" in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_all_faults_are_told_together_with_place_rule_and_remedy(desk: Desk) -> None:
    faults = desk.faults(
        file='[mirror]\nlisten = "5000"\nlistne = "x"\n[mirror.tags]\nttl = 60\n[gateway]\nx = 1\n',
        environ={"HUNQI_MIRROR_WORKERS": "0", "HUNQI_MIRROR_TAG_STALE": "1s", "GHCR_IO": "ghcr"},
        flags={"space.cache-max": "lots", "fetch.on-disconnect": "finish-if-over=200"},
    )
    by_key = {key: (rule, remedy) for key, rule, remedy in faults}
    assert set(by_key) == {
        "hunqi.toml: mirror.listen",
        "hunqi.toml: mirror.listne",
        "hunqi.toml: mirror.tags.ttl",
        "hunqi.toml: gateway",
        "HUNQI_MIRROR_WORKERS",
        "HUNQI_MIRROR_TAG_STALE",
        "GHCR_IO",
        "--cache-max",
        "--on-disconnect",
    }
    assert by_key["hunqi.toml: mirror.listne"][1] == "did you mean listen?"
    assert by_key["HUNQI_MIRROR_TAG_STALE"][1] == "did you mean HUNQI_MIRROR_TAGS_STALE?"
    assert by_key["--cache-max"][1] == "write for example 50GiB"
    assert by_key["HUNQI_MIRROR_WORKERS"][0] == "a whole number from 1 to 64"


@pytest.mark.parametrize(
    "text",
    ["5000", ":5000", "host", "host:70000", "::1:5000", "[::1]", "a b:1", "host:-1", "http://host:1", "[host]:1"],
)
def test_nonsense_is_no_address(desk: Desk, text: str) -> None:
    assert [key for key, _, _ in desk.faults(flags={"listen": text})] == ["--listen"]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "x",
        "https://",
        "https://u:p@x",
        "https://x/path",
        "https://x?y",
        "https://x:99999",
        "https://[::1",
        "",
    ],
)
def test_nonsense_is_no_upstream(desk: Desk, url: str) -> None:
    assert [key for key, _, _ in desk.faults(flags={"upstreams": [f"docker.io={url}"]})] == ["--upstream"]


@pytest.mark.parametrize("name", ["Docker.io", "docker io", "", "*", "a/b"])
def test_nonsense_is_no_name_of_an_upstream(desk: Desk, name: str) -> None:
    assert [key for key, _, _ in desk.faults(flags={"upstreams": [f"{name}=https://x"]})] == ["--upstream"]


def test_an_upstream_named_twice_is_a_fault(desk: Desk) -> None:
    flags: dict[str, FlagValue] = {"upstreams": ["docker.io=https://a", "docker.io=https://b"]}
    assert desk.faults(flags=flags)[0][1] == "an upstream has one URL"


def test_the_default_upstream_must_be_one(desk: Desk) -> None:
    flags: dict[str, FlagValue] = {"default-upstream": "ghcr.io", "upstreams": ["docker.io=https://a"]}
    assert desk.faults(flags=flags) == [
        ("--default-upstream", "must be one of the upstreams", "name one of docker.io, or add it with --upstream")
    ]


@pytest.mark.parametrize("namespace", ["library", "library/x"])
def test_a_local_namespace_cannot_be_an_upstreams(desk: Desk, namespace: str) -> None:
    assert "could be an upstream's" in desk.faults(flags={"access.local": [namespace]})[0][1]


def test_certificates_come_in_pairs_and_exist(desk: Desk) -> None:
    cert, key = desk.file("m.pem"), desk.file("m.key")
    assert desk.faults(flags={"tls.cert": "m.pem"})[0][2] == "give --tls-key as well"
    assert "does not exist" in desk.faults(flags={"tls.cert": "gone.pem", "tls.key": "m.key"})[0][1]
    tls = desk.load(flags={"tls.cert": "m.pem", "tls.key": "m.key"}).tls
    assert tls is not None
    assert (tls.cert_file, tls.key_file, tls.ca_file) == (cert, key, None)


def test_paths_of_the_file_start_at_the_file_and_home_is_known(desk: Desk) -> None:
    settings = desk.load(file='[mirror]\ndata = "../data"\n[mirror.access]\nusers-file = "~/users.json"\n')
    assert settings.data_dir == desk.directory / "data"
    assert settings.access.users_file == Path("/home/ada/users.json")
    assert desk.load(flags={"data": "x"}).data_dir == desk.directory / "x"


def test_peers_beyond_loopback_need_mutual_tls(desk: Desk) -> None:
    assert desk.load(flags={"peers.listen": "127.0.0.1:7001"}).peers.listen == Address("127.0.0.1", 7001)
    rules = [rule for _, rule, _ in desk.faults(flags={"peers.listen": "10.0.0.1:7001"})]
    assert rules == ["peers speak plain HTTP on loopback only"]
    for name in ("n.pem", "n.key", "ca.pem"):
        desk.file(name)
    flags: dict[str, FlagValue] = {
        "peers.listen": "0.0.0.0:7001",
        "peers.tls.cert": "n.pem",
        "peers.tls.key": "n.key",
    }
    rules = [rule for _, rule, _ in desk.faults(flags=flags)]
    assert rules == ["peers must show a certificate of the cluster"]
    peers = desk.load(flags={**flags, "peers.tls.ca": "ca.pem", "peers.urls": ["https://10.0.0.2:7001"]}).peers
    assert peers.tls is not None


@pytest.mark.parametrize("url", ["http://10.0.0.2:7001", "https://10.0.0.2:7001", "https://127.0.0.1:7001"])
def test_no_peer_is_asked_without_the_clusters_certificates(desk: Desk, url: str) -> None:
    assert [rule for _, rule, _ in desk.faults(flags={"peers.urls": [url]})] == [
        "peers speak mutual TLS, or plain HTTP on loopback"
    ]
    assert desk.load(flags={"peers.urls": ["http://127.0.0.1:7001"]}).peers.urls == ("http://127.0.0.1:7001",)


def test_clients_and_peers_need_an_address_each(desk: Desk) -> None:
    flags: dict[str, FlagValue] = {"peers.listen": "127.0.0.1:5000"}
    assert desk.faults(flags=flags)[0][1] == "clients and peers need an address each"


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("mirror = 1", "mirror"),
        ("[mirror]\nlisten = ['a:1']", "mirror.listen"),
        ("[mirror]\nworkers = 1.5", "mirror.workers"),
        ("[mirror]\nupstreams = 'x'", "mirror.upstreams"),
        ("[mirror]\nrelays = 'x'", "mirror.relays"),
        ("[mirror.upstreams]\n'ghcr.io' = {urll = 'https://x'}", 'mirror.upstreams."ghcr.io".urll'),
        ("[mirror.upstreams]\n'x.io' = {allow = ['a']}", 'mirror.upstreams."x.io".url'),
        ("[mirror.upstreams]\n'x.io' = 5", 'mirror.upstreams."x.io"'),
        ("[[mirror.relays]]\nname = '*'", "mirror.relays[1].url"),
        ("[mirror.space]\nretention = 'x'", "mirror.space.retention"),
        ("[[mirror.space.retention]]\nkeep-newest = 1", "mirror.space.retention[1].pattern"),
        ("[[mirror.space.retention]]\npattern = '*'", "mirror.space.retention[1]"),
        ("[mirror.access]\nlocal = [['a']]", "mirror.access.local"),
    ],
)
def test_a_file_of_the_wrong_shape_is_a_fault_at_its_place(desk: Desk, file: str, place: str) -> None:
    assert [key.removeprefix("hunqi.toml: ") for key, _, _ in desk.faults(file=file)] == [place]


def test_a_client_certificate_needs_its_key(desk: Desk) -> None:
    desk.file("etc/c.pem")
    file = "[mirror.upstreams.'x.io']\nurl = 'https://x.io'\nclient-cert-file = 'c.pem'\n"
    assert desk.faults(file=file)[0][1] == "client-cert-file and client-key-file belong together"


def test_a_file_that_cannot_be_read_says_why(desk: Desk) -> None:
    assert "is not TOML" in desk.faults(file="[mirror\n")[0][1]
    with pytest.raises(ConfigError, match="No such file"):
        desk.load(environ={"HUNQI_CONFIG": "/nowhere/hunqi.toml"})


def test_a_directory_is_no_key(desk: Desk) -> None:
    desk.file("m.pem")
    assert "is a directory" in desk.faults(flags={"tls.cert": "m.pem", "tls.key": "."})[0][1]


def test_commands_find_the_data_directory_even_when_other_settings_are_wrong(desk: Desk) -> None:
    inputs = desk.inputs(file='[mirror]\ndata = "/srv/m"\nworkers = 0\nnope = 1\n')
    places = load_places(inputs)
    assert (places.data_dir, places.users_file) == (Path("/srv/m"), Path("/srv/m/users.json"))
    places = load_places(desk.inputs(environ={"HUNQI_MIRROR_DATA": "/e"}, flags={"data": "/f"}))
    assert places.data_dir == Path("/f")
    places = load_places(desk.inputs(flags={"access.users-file": "u.json"}))
    assert places.users_file == desk.directory / "u.json"


def test_a_proxy_that_would_not_be_spoken_to_is_a_fault_before_anything_starts(desk: Desk) -> None:
    for url in ("https://proxy:3128", "socks5h://proxy:1080", "http://proxy:0", "http://"):
        assert [key for key, _, _ in desk.faults(environ={"HTTPS_PROXY": url})] == ["HTTPS_PROXY"], url


def test_files_that_are_no_certificates_are_faults_before_anything_starts(desk: Desk) -> None:
    desk.file("m.pem")
    desk.file("m.key")
    (desk.directory / "junk.pem").write_text("junk")
    other = Authority(desk.directory / "other").issue("other")
    for cert, key in (("junk.pem", "m.key"), ("m.pem", "junk.pem"), ("m.pem", str(other.key_file))):
        found = desk.faults(flags={"tls.cert": cert, "tls.key": key})
        assert [(place, rule.startswith("cannot be used: ")) for place, rule, _ in found] == [("--tls-cert", True)]
    assert desk.faults(flags={"tls.cert": "m.pem", "tls.key": "m.key", "tls.ca": "junk.pem"})[0][0] == "--tls-ca"
    file = f'[mirror.upstreams."x.io"]\nurl = "https://x.io"\nca-file = "{desk.directory / "junk.pem"}"\n'
    assert desk.faults(file=file)[0][0] == 'hunqi.toml: mirror.upstreams."x.io".ca-file'


@pytest.mark.parametrize("name", ["pass.sh", "-pass", "../pass", "a b", "x" * 65])
def test_nonsense_is_no_credential_helper(desk: Desk, name: str) -> None:
    file = f'[mirror.upstreams."x.io"]\nurl = "https://x.io"\ncredential-helper = "{name}"\n'
    assert [key for key, _, _ in desk.faults(file=file)] == ['hunqi.toml: mirror.upstreams."x.io".credential-helper']


@pytest.mark.parametrize("key", ["allow", "deny"])
def test_patterns_are_the_upstreams_and_not_a_relays(desk: Desk, key: str) -> None:
    file = f'[[mirror.relays]]\nurl = "https://relay"\n{key} = ["team/*"]\n'
    assert [place for place, _, _ in desk.faults(file=file)] == [f"hunqi.toml: mirror.relays[1].{key}"]
