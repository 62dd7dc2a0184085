"""The users file: changes are seen at once, writers never lose each other's work, a broken file changes nothing."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from hunqi.mirror.access.model import ANONYMOUS, Grant, GrantError, User
from hunqi.mirror.access.passwords import PARALLEL_CHECKS, REMEMBER_ENTRIES, REMEMBER_S, Passwords, new_hasher
from hunqi.mirror.access.users import (
    MAX_PASSWORD_BYTES,
    PasswordError,
    UnknownUserError,
    UserExistsError,
    UsersFile,
)
from hunqi.mirror.access.users_json import UserNameError, UsersFileError

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
TEAM = Grant.parse("team:pull,push")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "users.json"


def users_file(path: Path) -> UsersFile:
    return UsersFile(path, hasher=CHEAP)


def test_no_file_means_no_users(path: Path) -> None:
    users = users_file(path)
    assert not users.load().exist
    assert users.list() == ()
    assert users.load() is users.load()


def test_a_change_is_seen_by_another_reader_at_its_next_look(path: Path) -> None:
    reader, writer = users_file(path), users_file(path)
    assert not reader.load().exist
    writer.add("alice", "secret", [TEAM])
    assert reader.load().by_name["alice"].grants == (TEAM,)
    assert reader.load() is reader.load()
    writer.set_grants("alice", [Grant.parse("other:pull")])
    assert reader.load().by_name["alice"].grants == (Grant.parse("other:pull"),)
    old = reader.load().by_name["alice"].password_hash
    writer.set_password("alice", "other")
    user = reader.load().by_name["alice"]
    assert user.password_hash != old
    assert user.grants == (Grant.parse("other:pull"),)
    writer.remove("alice")
    assert not reader.load().exist


def test_a_removed_file_means_no_users(path: Path) -> None:
    users = users_file(path)
    users.add("alice", "secret")
    assert users.load().exist
    path.unlink()
    assert not users.load().exist


def test_the_file_is_private_and_holds_no_password(path: Path) -> None:
    users_file(path).add("alice", "correct horse", [TEAM])
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_name("users.json.lock").stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert "correct horse" not in text
    entry = json.loads(text)["users"]["alice"]
    assert entry["password"].startswith("$argon2id$")
    assert CHEAP.verify(entry["password"], "correct horse")
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["users.json", "users.json.lock"]


def test_leftovers_of_a_crash_are_collected_by_the_next_writer(path: Path) -> None:
    users = users_file(path)
    users.add("alice", "secret")
    leftover = path.parent / ".users.json.abc.tmp"
    leftover.write_text("{")
    users.add("bob", "secret")
    assert not leftover.exists()
    assert [user.name for user in users.list()] == ["alice", "bob"]


def test_no_secret_in_any_repr(path: Path) -> None:
    users = users_file(path)
    users.add("alice", "secret", [TEAM])
    user = users.load().by_name["alice"]
    assert user.password_hash is not None
    for text in (repr(user), repr(users.list()), repr(users.load())):
        assert user.password_hash not in text


@pytest.mark.parametrize("name", ["", "a:b", "a b", "é", "-a", "a\n", "x" * 65, "../x", ".a"])
def test_names_that_cannot_be_typed_in_a_header_are_refused(path: Path, name: str) -> None:
    with pytest.raises(UserNameError):
        users_file(path).add(name, "secret")
    assert not path.exists()


@pytest.mark.parametrize("name", ["a", "alice", "ci-bot", "a.b@example.com", "x" * 64])
def test_usual_names_are_taken(path: Path, name: str) -> None:
    users_file(path).add(name, "secret")
    assert name in users_file(path).load().by_name


@pytest.mark.parametrize("password", ["", "x" * (MAX_PASSWORD_BYTES + 1), "\udcff"])
def test_passwords_have_bounds(path: Path, password: str) -> None:
    with pytest.raises(PasswordError):
        users_file(path).add("alice", password)


def test_what_cannot_be_done_to_users_says_so(path: Path) -> None:
    users = users_file(path)
    users.add("alice", "secret")
    before = path.read_bytes()
    with pytest.raises(UserExistsError):
        users.add("alice", "other")
    with pytest.raises(UserExistsError):
        users.add(ANONYMOUS, "secret")
    for change in (
        lambda: users.remove("bob"),
        lambda: users.set_password("bob", "x"),
        lambda: users.set_grants("b", []),
    ):
        with pytest.raises(UnknownUserError):
            change()
    assert path.read_bytes() == before


def test_anonymous_can_be_given_pulls_of_local_repositories_only(path: Path) -> None:
    users = users_file(path)
    for text in ("open:pull,push", "docker.io/acme:pull", "*:delete"):
        with pytest.raises(GrantError):
            users.set_grants(ANONYMOUS, [Grant.parse(text)])
    users.set_grants(ANONYMOUS, [Grant.parse("open:pull"), Grant.parse("*:pull")])
    assert not users.load().exist
    assert users.list() == (User(ANONYMOUS, None, (Grant.parse("open:pull"), Grant.parse("*:pull"))),)
    users.set_grants(ANONYMOUS, [])
    assert users.list() == ()


def _entry(**changes: object) -> bytes:
    entry: dict[str, object] = {"password": CHEAP.hash("secret"), "grants": []} | changes
    return json.dumps({"version": 1, "users": {"alice": entry}}).encode()


BROKEN = {
    "empty": b"",
    "cut": b'{"version": 1, "us',
    "binary": b"\xff\xfe\x00",
    "list": b"[]",
    "deep": b"[" * 100_000,
    "no users": b'{"version": 1}',
    "version": b'{"version": 2, "users": {}}',
    "user is a list": b'{"version": 1, "users": {"alice": []}}',
    "name": b'{"version": 1, "users": {"a:b": {"password": "x", "grants": []}}}',
    "clear password": _entry(password="secret"),
    "argon2i": _entry(password=CHEAP.hash("secret").replace("argon2id", "argon2i")),
    "no password": _entry(password=None),
    "number": _entry(password=5),
    "no grants": _entry(grants=None),
    "grant": _entry(grants=[{"prefix": "team"}]),
    "action": _entry(grants=[{"prefix": "team", "actions": ["own"]}]),
    "prefix": _entry(grants=[{"prefix": "/", "actions": ["pull"]}]),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_an_error_at_the_start_and_keeps_the_last_good_later(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    running = users_file(path)
    running.add("alice", "secret", [TEAM])
    good = running.load()
    path.write_bytes(content)
    with pytest.raises(UsersFileError, match=r"users\.json.*hunqi mirror user add") as caught:
        users_file(path).load()
    assert "$argon2" not in str(caught.value)
    with caplog.at_level(logging.ERROR):
        assert [running.load() for _ in range(3)] == [good] * 3
    assert len(caplog.records) == 1
    with pytest.raises(UsersFileError):
        running.add("bob", "secret")
    assert path.read_bytes() == content
    path.unlink()
    assert not running.load().exist


def test_a_repaired_file_is_in_force_again(path: Path) -> None:
    running = users_file(path)
    running.add("alice", "secret")
    running.load()
    text = path.read_bytes()
    path.write_bytes(b"{")
    assert "alice" in running.load().by_name
    path.write_bytes(text.replace(b"alice", b"carol"))
    assert list(running.load().by_name) == ["carol"]


def test_a_file_that_cannot_be_read_for_a_while_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    running = users_file(path)
    running.add("alice", "secret")
    good = running.load()
    text = path.read_bytes()
    path.unlink()
    path.mkdir()
    with caplog.at_level(logging.ERROR):
        assert running.load() is good
        assert running.load() is good
    assert len(caplog.records) == 1
    with pytest.raises(UsersFileError):
        users_file(path).load()
    path.rmdir()
    path.write_bytes(text.replace(b"alice", b"carol"))
    assert list(running.load().by_name) == ["carol"]


def test_a_directory_that_cannot_be_written_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsersFileError):
        users_file(tmp_path / "file" / "users.json").add("alice", "secret")


_WRITER = """
import sys
from pathlib import Path
from argon2 import PasswordHasher
from hunqi.mirror.access.users import UsersFile
users = UsersFile(Path(sys.argv[1]), hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
for number in range(10):
    users.add(f"user-{sys.argv[2]}-{number}", "secret")
users.remove(f"user-{sys.argv[2]}-0")
"""


def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(path), str(number)]) for number in range(4)]
    reader = users_file(path)
    try:
        while any(writer.poll() is None for writer in writers):
            reader.load()
        assert [writer.wait(60) for writer in writers] == [0] * len(writers)
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert sorted(reader.load().by_name) == sorted(f"user-{w}-{n}" for w in range(4) for n in range(1, 10))


def test_threads_that_read_while_another_writes_see_whole_states(path: Path) -> None:
    shared = users_file(path)
    shared.add("alice", "secret")
    faults: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                if "alice" not in shared.load().by_name:
                    faults.append("alice is missing")
            except Exception as error:
                faults.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(30):
        users_file(path).add(f"u{number}", "secret")
    done.set()
    for reader in readers:
        reader.join()
    assert not faults
    assert len(shared.load().by_name) == 31


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_leaves_the_file_to_who_owns_the_directory(path: Path) -> None:
    path.parent.mkdir()
    os.chown(path.parent, 12345, 12346)
    users_file(path).add("alice", "secret")
    for file in (path, path.with_name("users.json.lock")):
        assert (file.stat().st_uid, file.stat().st_gid) == (12345, 12346)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def a_user(name: str = "alice", password: str = "secret") -> User:
    return User(name, CHEAP.hash(password))


def test_right_and_wrong_passwords() -> None:
    passwords = Passwords(CHEAP)
    user = a_user()
    assert passwords.verify(user, "secret")
    assert not passwords.verify(user, "Secret")
    assert not passwords.verify(user, "")
    assert not passwords.verify(None, "secret")
    assert not passwords.verify(User(ANONYMOUS, None), "secret")
    assert not passwords.verify(user, "\udcff")
    assert passwords.verify(a_user("bob", "pä:ss\0"), "pä:ss\0")


def test_only_right_passwords_are_remembered_and_for_a_time() -> None:
    clock = Clock()
    passwords = Passwords(CHEAP, clock=clock)
    user = a_user()
    assert not passwords.recall(user, "secret")
    passwords.verify(user, "wrong")
    assert not passwords.recall(user, "wrong")
    passwords.verify(user, "secret")
    clock.now = REMEMBER_S - 1
    assert passwords.recall(user, "secret")
    assert not passwords.recall(user, "wrong")
    clock.now = REMEMBER_S
    assert not passwords.recall(user, "secret")


def test_a_changed_password_is_not_remembered_as_right() -> None:
    passwords = Passwords(CHEAP)
    passwords.verify(a_user(), "secret")
    changed = a_user(password="other")
    assert not passwords.recall(changed, "secret")
    assert not passwords.verify(changed, "secret")


def test_what_is_remembered_is_bounded_and_holds_no_password() -> None:
    passwords = Passwords(CHEAP)
    users = [User(f"u{number}", CHEAP.hash("secret")) for number in range(REMEMBER_ENTRIES + 1)]
    for user in users:
        assert passwords.verify(user, "secret")
    assert not passwords.recall(users[0], "secret")
    assert passwords.recall(users[-1], "secret")
    assert passwords.recall(users[1], "secret")


class CountingHasher(PasswordHasher):
    """Argon2 itself, which also counts how many run at a time."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=1024, parallelism=1)
        self.running = 0
        self.most = 0
        self.checks = 0
        self._lock = threading.Lock()

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]  # noqa: A002
        with self._lock:
            self.running += 1
            self.checks += 1
            self.most = max(self.most, self.running)
        try:
            return super().verify(hash, password)  # type: ignore[arg-type]
        finally:
            with self._lock:
                self.running -= 1


def test_an_unknown_user_costs_the_same_check() -> None:
    hasher = CountingHasher()
    passwords = Passwords(hasher)
    user = User("alice", hasher.hash("secret"))
    passwords.verify(user, "wrong")
    assert hasher.checks == 1
    passwords.verify(None, "wrong")
    assert hasher.checks == 2
    passwords.verify(user, "secret")
    passwords.verify(user, "secret")
    assert hasher.checks == 3


def test_few_checks_run_at_a_time() -> None:
    hasher = CountingHasher()
    passwords = Passwords(hasher)
    threads = [threading.Thread(target=passwords.verify, args=(None, f"wrong {number}")) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hasher.checks == 20
    assert hasher.most <= PARALLEL_CHECKS


def test_new_passwords_are_argon2id_of_19_mib() -> None:
    assert new_hasher().hash("secret").startswith("$argon2id$v=19$m=19456,t=2,p=1$")
