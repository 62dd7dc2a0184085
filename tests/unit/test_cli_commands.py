"""The commands as a user runs them: exit codes, what is printed where, and what reaches the running mirror."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from hunqi.cli.main import run
from hunqi.config.table import ALL
from hunqi.kit.rpc import Call, Payload, RpcError, RpcServer, Session
from hunqi.mirror.access.users import UsersFile

Op = Callable[[Session, Call, Payload], Awaitable[Payload]]


class Instance:
    """A real RPC server on a data directory's socket, which answers what a test says."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.calls: list[tuple[str, Payload]] = []
        self.answers: dict[str, Any] = {}
        self.events: dict[str, list[Payload]] = {}
        self.errors: dict[str, RpcError] = {}

    def _op(self, name: str) -> Op:
        async def answer(_: Session, call: Call, payload: Payload) -> Payload:
            self.calls.append((name, payload))
            for event in self.events.get(name, []):
                await call.emit(event)
            if name in self.errors:
                raise self.errors[name]
            answers: Any = self.answers.get(name, {})
            return answers(payload) if callable(answers) else answers

        return answer

    async def run(self, stop: asyncio.Event) -> None:
        names = ["ls", "stat", "pin", "unpin", "rm", "gc", "verify", "export", "import", "warm", "reload", "describe"]
        ops = {f"operate.{name}": self._op(f"operate.{name}") for name in names}
        server = asyncio.create_task(RpcServer(self.directory / "fetcher.sock", ops).run())
        await stop.wait()
        server.cancel()
        await asyncio.wait([server])


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    running = Instance(tmp_path)
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(running.run(stop),))
    thread.start()
    deadline = time.monotonic() + 5
    while not (tmp_path / "fetcher.sock").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield running
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


@pytest.fixture
def mirror(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def command(*words: str) -> tuple[int, str, str]:
        code = run(["mirror", *words, "--data", str(tmp_path)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


Command = Callable[..., tuple[int, str, str]]


def test_without_an_instance_every_command_names_the_next_step(mirror: Command, tmp_path: Path) -> None:
    for words in (["ls"], ["stat"], ["gc"], ["pin", "a/b"], ["warm", "nginx"], ["reload"], ["status"]):
        code, out, err = mirror(*words)
        assert (code, out) == (1, "")
        assert f"no mirror runs on {tmp_path}" in err
        assert f"hunqi mirror serve --data {tmp_path}" in err


def test_status_without_an_instance_is_one_and_json(mirror: Command) -> None:
    code, out, _ = mirror("status", "--json")
    assert code == 1
    assert json.loads(out)["running"] is False


def test_status_says_where_it_listens(instance: Instance, mirror: Command) -> None:
    instance.answers["operate.describe"] = {
        "listen": "127.0.0.1:5000",
        "tls": False,
        "upstreams": ["docker.io", "ghcr.io"],
        "default_upstream": "docker.io",
    }
    code, out, _ = mirror("status")
    assert code == 0
    assert "running at http://127.0.0.1:5000" in out
    assert "ghcr.io" in out


def test_ls_asks_page_by_page(instance: Instance, mirror: Command) -> None:
    names = [f"team/app{number:04}" for number in range(1001)]

    def page(payload: Payload) -> Payload:
        rest = [name for name in names if name > (payload["after"] or "")][: payload["limit"]]
        return {"repositories": [{"name": name, "kind": "local", "bytes": 1} for name in rest]}

    instance.answers["operate.ls"] = page  # type: ignore[assignment]
    code, out, _ = mirror("ls", "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)["repositories"]] == names
    assert len(instance.calls) == 3


def test_ls_of_a_repository_shows_its_tags(instance: Instance, mirror: Command) -> None:
    def answer(payload: Payload) -> Payload:
        if payload.get("repo") == "docker.io/library/nginx":
            return {"tags": [{"tag": "1.27", "digest": "sha256:ab", "size": 2048, "last_used": None, "pinned": True}]}
        return {"repositories": [{"name": "docker.io/library/nginx"}, {"name": "docker.io/library/nginx-extra"}]}

    instance.answers["operate.ls"] = answer  # type: ignore[assignment]
    code, out, _ = mirror("ls", "docker.io/library/nginx")
    assert code == 0
    for text in ("1.27", "sha256:ab", "2.00 KiB", "never", "yes"):
        assert text in out
    _, out, _ = mirror("ls", "docker.io/library/")
    assert "nginx-extra" in out


def test_stat_shows_facts_and_tables(instance: Instance, mirror: Command) -> None:
    instance.answers["operate.stat"] = {
        "hits": 12345,
        "sizes": {"cached_bytes": 1024**3},
        "sources": [{"id": "docker.io", "up": True, "speed": 2 * 1024**2}],
        "fetches": [],
    }
    code, out, _ = mirror("stat")
    assert code == 0
    for text in ("12,345", "1.00 GiB", "2.00 MiB/s", "yes", "fetches: none"):
        assert text in out


def test_images_are_pinned_unpinned_and_removed_one_by_one(instance: Instance, mirror: Command) -> None:
    assert mirror("pin", "a/b:1", "c/d:2", "--reason", "prod")[0] == 0
    assert mirror("unpin", "a/b:1")[0] == 0
    assert mirror("rm", "a/b:1")[0] == 0
    assert instance.calls == [
        ("operate.pin", {"image": "a/b:1", "reason": "prod"}),
        ("operate.pin", {"image": "c/d:2", "reason": "prod"}),
        ("operate.unpin", {"image": "a/b:1"}),
        ("operate.rm", {"image": "a/b:1"}),
    ]


def test_the_mirrors_own_error_is_shown_and_the_code_is_one(instance: Instance, mirror: Command) -> None:
    instance.errors["operate.rm"] = RpcError("store.unknown", "there is no image a/b:1")
    code, out, err = mirror("rm", "a/b:1")
    assert (code, out) == (1, "")
    assert "error: there is no image a/b:1" in err


def test_gc_lists_what_went_and_sums_it(instance: Instance, mirror: Command) -> None:
    instance.events["operate.gc"] = [
        {"removed": "sha256:a", "reason": "orphan", "bytes": 1024},
        {"removed": "sha256:b", "reason": "retention", "bytes": 3072},
    ]
    code, out, _ = mirror("gc", "--dry-run")
    assert code == 0
    assert instance.calls == [("operate.gc", {"dry_run": True})]
    assert "2 would be removed, 4.00 KiB would be freed" in out
    assert len(json.loads(mirror("gc", "--json")[1])["events"]) == 2


def test_a_reload_waits_for_another_process_and_tells_a_refusal(instance: Instance, mirror: Command) -> None:
    processes = iter([1, 1, 2])
    instance.answers["operate.describe"] = lambda _: {"process": next(processes)}
    assert mirror("reload")[:2] == (0, "reloaded\n")

    def refuse(_: Payload) -> Payload:
        (instance.directory / "reload.refused").write_text("mirror.workers is no number")
        return {}

    instance.answers |= {"operate.describe": {"process": 2}, "operate.reload": refuse}
    code, _, err = mirror("reload")
    assert code == 1
    assert "mirror.workers is no number" in err


BAD = {"digest": "sha256:a", "fault": "wrong bytes", "action": "dropped", "repositories": ["team/app"]}


@pytest.mark.parametrize(("bad", "code"), [([], 0), ([BAD], 1), (0, 0), (2, 1)])
def test_verify_fails_when_anything_was_bad(instance: Instance, mirror: Command, bad: object, code: int) -> None:
    instance.events["operate.verify"] = [{"done": 10, "total": 10, "bytes": 10, "bad": 0}]
    instance.answers["operate.verify"] = {"bad": bad}
    found, out, _ = mirror("verify")
    assert found == code
    assert ("wrong bytes" in out) == (bad == [BAD])


def test_archives_are_named_by_absolute_paths(
    instance: Instance, mirror: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.tar").write_bytes(b"x")
    instance.events["operate.export"] = [{"done": 1, "total": 2}]
    instance.answers["operate.import"] = {"images": [{"image": "team/app:1", "visibility": "local"}]}
    assert mirror("export", "a/b:1", "-o", "out.tar")[0] == 0
    code, out, _ = mirror("import", "in.tar", "--as", "team/app")
    assert (code, out) == (0, "imported team/app:1\n")
    assert instance.calls == [
        ("operate.export", {"images": ["a/b:1"], "path": str(tmp_path / "out.tar")}),
        ("operate.import", {"path": str(tmp_path / "in.tar"), "private": False, "as": "team/app"}),
    ]


def test_archives_that_cannot_be_are_told_before_the_mirror_is_asked(instance: Instance, mirror: Command) -> None:
    assert "is no directory" in mirror("export", "a/b", "-o", "/nowhere/x.tar")[2]
    assert "does not exist" in mirror("import", "/nowhere/x.tar")[2]
    assert instance.calls == []


def test_warm_counts_each_blob_once(instance: Instance, mirror: Command) -> None:
    event = {"image": "nginx", "digest": "sha256:" + "a" * 64, "total": 2048, "source": "docker.io"}
    instance.events["operate.warm"] = [{**event, "done": 1024}, {**event, "done": 2048}]
    code, out, err = mirror("warm", "nginx", "--platform", "linux/amd64")
    assert code == 0
    assert instance.calls == [("operate.warm", {"images": ["nginx"], "platforms": ["linux/amd64"]})]
    assert "1 image warm: 1 blobs, 2.00 KiB" in out
    assert err == ""


def _hunqi(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **options.pop("env", {})}
    command = [sys.executable, "-m", "hunqi", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ, **options)


def test_serve_tells_all_faults_with_exit_code_two(tmp_path: Path) -> None:
    config = tmp_path / "hunqi.toml"
    config.write_text("[mirror]\nlistne = 1\n")
    done = _hunqi(
        "mirror", "serve", "--config", str(config), "--cache-max", "lots", env={"HUNQI_MIRROR_TAGS_TTL": "60"}
    )
    assert done.returncode == 2
    assert done.stdout == ""
    for text in ("3 faults", "did you mean listen?", "--cache-max", "HUNQI_MIRROR_TAGS_TTL", "write for example 60s"):
        assert text in done.stderr


def test_serve_help_teaches_every_flag() -> None:
    done = _hunqi("mirror", "serve", "--help", env={"COLUMNS": "200"})
    assert done.returncode == 0
    for setting in ALL:
        for flag in (setting.flag, setting.off_flag):
            assert flag is None or flag in done.stdout
    assert "hunqi mirror serve --data /srv/mirror --cache-max 500GiB" in done.stdout
    assert "[default: 127.0.0.1:5000]" in done.stdout


def test_wrong_use_is_exit_code_two() -> None:
    assert _hunqi("mirror", "serve", "--nope").returncode == 2
    assert _hunqi("mirror", "pin").returncode == 2
    assert _hunqi("--version").stdout.startswith("hunqi 0.")


def test_users_are_added_changed_listed_and_removed(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    add = ("mirror", "user", "add", "ada", "--grant", "team:pull,push", "--password-stdin", *data)
    assert _hunqi(*add, input="geheim\n").returncode == 0
    assert "already" in _hunqi(*add, input="geheim\n").stderr
    assert _hunqi("mirror", "user", "grant", "ada", "shop:pull", *data).returncode == 0
    listed = json.loads(_hunqi("mirror", "user", "ls", "--json", *data).stdout)
    assert listed == {"users": [{"name": "ada", "grants": ["shop:pull"]}]}
    assert _hunqi("mirror", "user", "passwd", "ada", "--password-stdin", *data, input="neu\n").returncode == 0
    users = UsersFile(tmp_path / "users.json").list()
    assert users[0].password_hash is not None
    assert "geheim" not in (tmp_path / "users.json").read_text()
    assert _hunqi("mirror", "user", "rm", "ada", *data).returncode == 0
    assert UsersFile(tmp_path / "users.json").list() == ()


def test_a_password_is_never_taken_from_nowhere(tmp_path: Path) -> None:
    done = _hunqi("mirror", "user", "add", "ada", "--data", str(tmp_path), input="")
    assert done.returncode == 1
    assert "--password-stdin" in done.stderr
    assert not (tmp_path / "users.json").exists()
    assert _hunqi("mirror", "user", "add", "ada", "--grant", "x", "--data", str(tmp_path), input="").returncode == 1


def test_a_clusters_certificates_make_a_mutual_handshake(tmp_path: Path) -> None:
    ca = ("--dir", str(tmp_path))
    assert _hunqi("mirror", "certs", "init", *ca).returncode == 0
    for node in ("n1", "n2"):
        done = _hunqi("mirror", "certs", "issue", node, "--host", "127.0.0.1", "--host", "localhost", *ca)
        assert done.returncode == 0, done.stderr
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert "is not overwritten" in _hunqi("mirror", "certs", "init", *ca).stderr
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.pem"))
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(tmp_path / "n1.pem", tmp_path / "n1.key")
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    client.load_cert_chain(tmp_path / "n2.pem", tmp_path / "n2.key")
    assert _shake_hands(server, client, "127.0.0.1") == "n2"
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(server, client, "127.0.0.2")


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> str:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(to_server, to_client, server_side=True)
    here = client.wrap_bio(to_client, to_server, server_hostname=host)
    for end in (here, there) * 4:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    certificate = x509.load_der_x509_certificate(there.getpeercert(binary_form=True) or b"")
    return str(certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


def test_setup_docker_merges_backs_up_and_reloads_what_runs(tmp_path: Path) -> None:
    daemon = tmp_path / "etc/docker/daemon.json"
    daemon.parent.mkdir(parents=True)
    daemon.write_text('{\n    "debug": false\n}\n')
    daemon.chmod(0o640)
    with _fake_dockerd(tmp_path) as docker:
        words = ("mirror", "setup", "docker", "--listen", "127.0.0.1:5000", "--root", str(tmp_path))
        printed = _hunqi(*words)
        assert (printed.returncode, daemon.read_text()) == (0, '{\n    "debug": false\n}\n')
        assert "registry-mirrors" in printed.stdout
        written = _hunqi(*words, "--write")
        assert written.returncode == 0, written.stderr
        assert '+    "registry-mirrors"' in written.stdout
        assert "was not restarted" in written.stdout
        assert docker.wait(10) == 0  # it ends when it is told to reload
    assert json.loads(daemon.read_text()) == {"debug": False, "registry-mirrors": ["http://127.0.0.1:5000"]}
    assert daemon.stat().st_mode & 0o777 == 0o640
    (backup,) = daemon.parent.glob("daemon.json.before-hunqi-*")
    assert backup.read_text() == '{\n    "debug": false\n}\n'
    again = _hunqi(*words, "--write")
    assert "Everything is in place already." in again.stdout
    assert len(list(daemon.parent.glob("*before-hunqi*"))) == 1


def _fake_dockerd(root: Path) -> subprocess.Popen[bytes]:
    """Start a process named dockerd that ends well on SIGHUP, with its pid file."""
    program = root / "dockerd"
    program.write_text(f"#!{sys.executable}\nimport signal\nprint(flush=True)\nsignal.sigwait([signal.SIGHUP])\n")
    program.chmod(0o755)
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        process = subprocess.Popen([program], stdout=subprocess.PIPE)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    (root / "run").mkdir()
    (root / "run/docker.pid").write_text(str(process.pid))
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_setup_of_a_broken_daemon_json_changes_nothing(tmp_path: Path) -> None:
    daemon = tmp_path / "etc/docker/daemon.json"
    daemon.parent.mkdir(parents=True)
    daemon.write_text('{"debug": tru')
    done = _hunqi("mirror", "setup", "docker", "--listen", "127.0.0.1:5000", "--root", str(tmp_path), "--write")
    assert done.returncode == 1
    assert "Nothing was changed" in done.stderr
    assert daemon.read_text() == '{"debug": tru'
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["daemon.json"]


def test_setup_asks_the_running_mirror(instance: Instance, mirror: Command, tmp_path: Path) -> None:
    instance.answers["operate.describe"] = {
        "listen": "127.0.0.1:6000",
        "tls": False,
        "upstreams": [{"name": "quay.io"}],
        "default_upstream": "quay.io",
    }
    root = tmp_path / "root"
    assert mirror("setup", "containerd", "--write", "--root", str(root))[0] == 0
    assert mirror("setup", "podman", "--write", "--root", str(root))[0] == 0
    hosts = (root / "etc/containerd/certs.d/quay.io/hosts.toml").read_text()
    assert 'server = "https://quay.io"' in hosts
    assert '[host."http://127.0.0.1:6000"]' in hosts
    assert "127.0.0.1:6000/quay.io" in (root / "etc/containers/registries.conf.d/050-hunqi.conf").read_text()


def test_install_prints_a_unit_for_this_interpreter(tmp_path: Path) -> None:
    done = _hunqi("mirror", "install", "--print", "--data", "/srv/my mirror")
    assert done.returncode == 0
    assert f'ExecStart={sys.executable} -m hunqi mirror serve --data "/srv/my mirror"' in done.stdout
    assert "ExecReload=/bin/kill -HUP $MAINPID" in done.stdout
    assert 'ReadWritePaths="/srv/my mirror"' in done.stdout
    done = _hunqi("mirror", "install", "--root", str(tmp_path), "--data", "/srv/m")
    assert done.returncode == 0
    assert (tmp_path / "etc/systemd/system/hunqi-mirror.service").read_text().startswith("# Written by")
    assert (tmp_path / "srv/m").is_dir()
