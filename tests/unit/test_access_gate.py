"""The gate: credentials become callers, wishes become decisions, and workers of one directory agree."""

from __future__ import annotations

import base64
import logging
import re
import threading
import timeit
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import jwt
import pytest
from argon2 import PasswordHasher
from hypothesis import example, given
from hypothesis import strategies as st

from hunqi.mirror.access.credentials import BadCredentials, Basic, Bearer, parse_authorization
from hunqi.mirror.access.gate import Gate, LoginRefused
from hunqi.mirror.access.model import FOREIGN, NOBODY, Action, Caller, Decision, Grant, Scope, ScopeKind
from hunqi.mirror.access.passwords import Passwords
from hunqi.mirror.access.scopes import MAX_SCOPES, parse_scopes, scope_text
from hunqi.mirror.access.tokens import TokenExpired, TokenInvalid, TokenIssuer
from hunqi.mirror.access.users import UsersFile
from hunqi.mirror.names import Names, NotLocalError, Target
from hunqi.mirror.settings import AccessSettings

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PULL, PUSH, DELETE = Action.PULL, Action.PUSH, Action.DELETE
BASE = "http://127.0.0.1:5000"
PUBLIC = Target("docker.io", "library/nginx")
PRIVATE = Target("docker.io", "acme/app")


class Mirror:
    """What a worker has: a gate, names that ask it, and namespaces that were pushed to."""

    def __init__(
        self, directory: Path, *, clock: Callable[[], float] | None = None, settings: AccessSettings | None = None
    ) -> None:
        self.users = UsersFile(directory / "users.json", hasher=CHEAP)
        self.pushed: set[str] = set()
        self.asked: list[Target] = []
        key = directory / "token.key"
        self.gate = Gate(
            settings or AccessSettings(),
            UsersFile(directory / "users.json", hasher=CHEAP),
            TokenIssuer(key, clock=clock) if clock else TokenIssuer(key),
            passwords=Passwords(CHEAP),
            was_pushed=self.pushed.__contains__,
        )
        self.names = Names(
            upstreams=("docker.io", "quay.io", "plain"),
            default_upstream="docker.io",
            is_local_namespace=self.gate.is_local_namespace,
        )

    def public(self, target: Target) -> bool:
        self.asked.append(target)
        return target.repository != "acme/app"

    def token(self, caller: Caller, *scopes: str) -> str:
        return self.gate.token(caller, parse_scopes(scopes), resolve=self.names.resolve, public=self.public).token

    def bearer(self, caller: Caller, *scopes: str) -> Caller:
        return self.gate.authenticate(f"Bearer {self.token(caller, *scopes)}")

    def check(self, caller: Caller, action: Action, name: str, ns: str | None = None) -> Decision:
        target = self.names.resolve(name, ns) if action is PULL else self.names.resolve_push(name, ns)
        return self.gate.check(caller, action, target, public=None if target.is_local else self.public(target))


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path)


@pytest.fixture
def company(tmp_path: Path) -> Mirror:
    mirror = Mirror(tmp_path)
    mirror.users.add("alice", "secret", [Grant.parse("team:pull,push"), Grant.parse("docker.io/acme:pull")])
    mirror.users.add("admin", "root", [Grant.parse("*:pull,push,delete")])
    return mirror


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def carried(caller: Caller) -> set[str]:
    return {scope_text(scope.name, scope.actions) for scope in caller.scopes or ()}


def test_who_shows_nothing_is_nobody(company: Mirror) -> None:
    assert company.gate.authenticate(None) is NOBODY
    assert company.gate.recall(None) is NOBODY


@pytest.mark.parametrize(
    ("name", "password", "caller"),
    [
        ("alice", "secret", Caller(name="alice")),
        ("alice", "wrong", FOREIGN),
        ("hubuser", "dckr_pat_x", FOREIGN),
        ("", "", FOREIGN),
        ("anonymous", "", FOREIGN),
    ],
)
def test_unknown_and_wrong_credentials_are_foreign(company: Mirror, name: str, password: str, caller: Caller) -> None:
    header = basic(name, password)
    assert company.gate.recall(header) is None
    assert company.gate.authenticate(header) == caller
    assert company.gate.recall(header) == (None if caller.foreign else caller)


@pytest.mark.parametrize(
    "header",
    [
        "",
        " ",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic YQ",
        "Basic YWxpY2U=",
        "Bearer",
        "Bearer ",
        "Bearer a b",
        "Digest YWxpY2U",
        "Basic é",
        "YWxpY2U6c2VjcmV0",
    ],
)
def test_malformed_headers_are_bad_credentials(company: Mirror, header: str) -> None:
    for ask in (company.gate.authenticate, company.gate.recall):
        with pytest.raises(BadCredentials) as caught:
            ask(header)
        assert "YWxpY2U" not in str(caught.value)


def test_schemes_are_read_in_any_case_and_colons_belong_to_the_password(company: Mirror) -> None:
    company.users.add("bob", "a:b")
    header = basic("bob", "a:b")
    assert company.gate.authenticate(header.replace("Basic", "bASIC")).name == "bob"


@given(
    header=st.text(max_size=80) | st.builds(lambda s, t: f"{s} {t}", st.sampled_from(["Basic", "Bearer"]), st.text())
)
@example(header="Basic " + base64.b64encode(b"\xff\xfe:\xff").decode())
def test_any_header_is_a_value_or_bad_credentials(header: str) -> None:
    cause: BaseException | None = None
    try:
        parse_authorization(header)
    except BadCredentials as error:
        cause = error.__cause__
    assert cause is None


@given(name=st.text().filter(lambda text: ":" not in text), password=st.text())
def test_basic_credentials_come_back(name: str, password: str) -> None:
    assert parse_authorization(basic(name, password)) == Basic(name, password)


def test_no_secret_in_a_repr(company: Mirror) -> None:
    assert "hunter2" not in repr(Basic("alice", "hunter2"))
    assert "hunter2" not in repr(Bearer("hunter2"))
    answer = company.gate.token(NOBODY, (), resolve=company.names.resolve, public=company.public)
    assert answer.token not in repr(answer)
    assert answer.issued_at.tzinfo is UTC
    assert answer.expires_in_s == 300


def test_without_users_v2_is_open_and_with_one_it_asks_for_a_token(mirror: Mirror) -> None:
    assert not mirror.gate.login_required()
    assert mirror.gate.check_ping(NOBODY) is Decision.ALLOW
    mirror.users.add("alice", "secret")
    assert mirror.gate.login_required()
    assert mirror.gate.check_ping(NOBODY) is Decision.UNAUTHENTICATED
    assert mirror.gate.check_ping(FOREIGN) is Decision.UNAUTHENTICATED
    assert mirror.gate.check_ping(Caller(name="alice")) is Decision.ALLOW
    assert mirror.gate.check_ping(mirror.bearer(NOBODY)) is Decision.ALLOW


def test_docker_login(company: Mirror) -> None:
    gate = company.gate
    assert company.bearer(gate.login("alice", "secret")).name == "alice"
    with pytest.raises(LoginRefused):
        company.token(gate.login("alice", "wrong"))
    with pytest.raises(LoginRefused):
        company.token(gate.authenticate(basic("hubuser", "x")))


def test_docker_hub_credentials_get_an_anonymous_token_for_a_public_pull(company: Mirror) -> None:
    caller = company.bearer(FOREIGN, "repository:library/nginx:pull")
    assert caller == Caller(
        scopes=frozenset({Scope(ScopeKind.REPOSITORY, "docker.io/library/nginx", frozenset({PULL}))})
    )
    assert company.check(caller, PULL, "library/nginx") is Decision.ALLOW
    assert company.check(caller, PULL, "acme/app") is Decision.UNAUTHENTICATED
    assert not company.bearer(FOREIGN, "repository:acme/app:pull").scopes


@pytest.mark.parametrize(
    "scopes",
    [
        ["repository:team/app:pull,push"],
        ["repository:team/app:push"],
        ["repository:team/app:delete"],
        ["repository:library/nginx:pull", "repository:team/app:pull,push"],
        ["registry:catalog:*"],
        ["nonsense"],
    ],
)
def test_foreign_credentials_get_no_token_for_more_than_pulls(company: Mirror, scopes: list[str]) -> None:
    with pytest.raises(LoginRefused):
        company.token(FOREIGN, *scopes)


def test_foreign_credentials_push_where_anybody_may_and_no_user_exists(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path, settings=AccessSettings(allow_anonymous_push=True))
    assert company_scopes(mirror, FOREIGN) == {"repository:team/app:pull,push"}
    mirror.users.add("alice", "secret")
    with pytest.raises(LoginRefused):
        mirror.token(FOREIGN, "repository:team/app:pull,push")
    assert company_scopes(mirror, NOBODY) == {"repository:team/app:pull,push"}


def company_scopes(mirror: Mirror, caller: Caller) -> set[str]:
    return carried(mirror.bearer(caller, "repository:team/app:pull,push"))


def test_foreign_credentials_are_in_no_log_and_in_no_memory_of_the_gate(
    company: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    password = "dckr_pat_never_to_be_seen"
    with caplog.at_level(logging.DEBUG):
        caller = company.gate.authenticate(basic("hubuser", password))
        company.token(caller, "repository:library/nginx:pull")
    assert caller == FOREIGN
    assert password not in caplog.text
    assert password not in repr(_everything_in(company.gate))


def _everything_in(thing: object, depth: int = 5) -> object:
    """Return the attributes of ``thing``, of these, and so on, as one value to look into."""
    names = [*getattr(thing, "__dict__", {}), *getattr(type(thing), "__slots__", ())]
    if not depth or not names:
        return thing
    return [_everything_in(getattr(thing, name), depth - 1) for name in names if hasattr(thing, name)]


def test_a_token_holds_what_the_rules_give_and_not_what_was_asked(company: Mirror) -> None:
    alice = Caller(name="alice")
    scopes = [
        "repository:team/app:pull,push,delete repository:acme/app:pull",
        "repository:docker.io/acme/app:pull,push",
    ]
    assert carried(company.bearer(alice, *scopes)) == {
        "repository:team/app:pull,push",
        "repository:docker.io/acme/app:pull",
    }
    assert company.asked == []
    assert carried(company.bearer(alice, "repository:other.example/x:pull", "repository:UPPER:pull")) == set()
    assert carried(company.bearer(alice, "repository:library/nginx:push")) == set()


@pytest.mark.parametrize("scope", ["repository:acme/app:pull", "repository:docker.io/acme/app:pull,push"])
def test_private_upstream_repositories_need_a_grant_on_the_key(company: Mirror, scope: str) -> None:
    company.users.add("bob", "b", [Grant.parse("docker.io/acmex:pull")])
    name = scope.split(":")[1]
    for caller in (NOBODY, Caller(name="bob")):
        assert not company.bearer(caller, scope).scopes
    assert company.gate.check(Caller(name="bob"), PULL, PRIVATE, public=False) is Decision.DENIED
    assert company.gate.check(NOBODY, PULL, PRIVATE, public=False) is Decision.UNAUTHENTICATED
    bearer = company.bearer(Caller(name="alice"), f"repository:docker.io/acme/{name.rpartition('/')[2]}:pull")
    assert company.gate.check(bearer, PULL, PRIVATE, public=False) is Decision.ALLOW


def test_a_grant_makes_its_namespace_local_and_a_star_does_not(company: Mirror) -> None:
    gate = company.gate
    assert gate.is_local_namespace("team")
    assert gate.is_local_namespace("team/app/x")
    assert not gate.is_local_namespace("teamx/app")
    assert not gate.is_local_namespace("grafana/grafana")
    assert company.names.resolve("team/app") == Target(None, "team/app")
    assert company.names.resolve("grafana/grafana") == Target("docker.io", "grafana/grafana")
    company.users.add("bob", "b", [Grant.parse("late:push")])
    assert gate.is_local_namespace("late/app")


def test_local_prefixes_and_pushed_namespaces_are_local(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path, settings=AccessSettings(local=("shop", "a/b/*", "c/")))
    for name, local in {"shop": True, "shop/x": True, "shopx": False, "a/b": True, "a": False, "c/d": True}.items():
        assert mirror.gate.is_local_namespace(name) is local
    mirror.pushed.add("new")
    assert mirror.gate.is_local_namespace("new/app")
    assert not mirror.gate.is_local_namespace("newer/app")


def test_one_token_lasts_for_a_push_that_makes_its_namespace_local(company: Mirror) -> None:
    admin = company.bearer(Caller(name="admin"), "repository:fresh/app:pull,push")
    assert carried(admin) == {"repository:fresh/app:pull,push"}
    assert company.asked == []
    assert company.check(admin, PUSH, "fresh/app") is Decision.ALLOW
    company.pushed.add("fresh")
    assert company.check(admin, PULL, "fresh/app") is Decision.ALLOW


def test_a_token_for_a_name_that_no_push_may_take_stays_a_pull(company: Mirror) -> None:
    admin = Caller(name="admin")
    for name, key in {"plain/app": "plain/app", "quay.io/a/b": "quay.io/a/b"}.items():
        assert carried(company.bearer(admin, f"repository:{name}:pull,push")) == {f"repository:{key}:pull"}
    for name in ("plain/app", "library/nginx", "quay.io/a/b"):
        with pytest.raises(NotLocalError):
            company.check(admin, PUSH, name)


def test_a_mount_needs_a_pull_of_the_source(company: Mirror) -> None:
    company.users.set_grants("alice", [Grant.parse("team:pull,push")])
    company.users.add("bob", "b", [Grant.parse("other:pull,push")])
    scopes = ["repository:team/app:pull,push", "repository:other/app:pull"]
    alice = company.bearer(Caller(name="alice"), *scopes)
    assert company.check(alice, PUSH, "team/app") is Decision.ALLOW
    assert company.check(alice, PULL, "other/app") is Decision.DENIED
    company.users.set_grants("alice", [Grant.parse("team:pull,push"), Grant.parse("other:pull")])
    assert company.check(company.bearer(Caller(name="alice"), *scopes), PULL, "other/app") is Decision.ALLOW


def test_basic_works_without_a_token(company: Mirror) -> None:
    alice = company.gate.authenticate(basic("alice", "secret"))
    assert company.check(alice, PUSH, "team/app") is Decision.ALLOW
    foreign = company.gate.authenticate(basic("hubuser", "x"))
    assert company.check(foreign, PULL, "library/nginx") is Decision.ALLOW
    assert company.check(foreign, PULL, "team/app") is Decision.UNAUTHENTICATED
    assert company.check(foreign, PUSH, "team/app") is Decision.UNAUTHENTICATED


def test_a_push_without_any_user_says_how_to_add_one(mirror: Mirror) -> None:
    target = Target(None, "team/app")
    assert mirror.gate.check(NOBODY, PUSH, target, public=None) is Decision.DENIED
    assert "hunqi mirror user add" in mirror.gate.explain(NOBODY, PUSH, target)


def test_the_catalogue_needs_its_scope(company: Mirror) -> None:
    admin = Caller(name="admin")
    assert company.gate.check_catalogue(company.bearer(admin, "registry:catalog:*")) is Decision.ALLOW
    assert company.gate.check_catalogue(company.bearer(admin)) is Decision.UNAUTHENTICATED
    assert company.bearer(Caller(name="alice"), "registry:catalog:*").scopes
    assert not company.bearer(NOBODY, "registry:catalog:*").scopes


def test_challenges(company: Mirror) -> None:
    gate = company.gate
    assert gate.challenge(None, (), BASE + "/") == f'Bearer realm="{BASE}/token",service="hunqi"'
    assert (
        gate.challenge(PUBLIC, [PULL], BASE, written="library/nginx")
        == f'Bearer realm="{BASE}/token",service="hunqi",scope="repository:library/nginx:pull"'
    )
    assert 'scope="repository:docker.io/library/nginx:pull"' in gate.challenge(PUBLIC, [PULL], BASE)
    assert 'scope="repository:team/app:pull,push"' in gate.challenge(Target(None, "team/app"), [PUSH, PULL], BASE)


@pytest.mark.parametrize(
    ("name", "ns"),
    [
        ("acme/app", None),
        ("docker.io/acme/app", None),
        ("acme/app", "docker.io"),
        ("acme/app", "quay.io"),
        ("team/a", None),
    ],
)
def test_the_scope_of_a_challenge_leads_back_to_the_repository(company: Mirror, name: str, ns: str | None) -> None:
    company.users.add("bob", "b", [Grant.parse(prefix + ":pull") for prefix in ("docker.io", "quay.io", "team")])
    bob = Caller(name="bob")
    target = company.names.resolve(name, ns)
    header = company.gate.challenge(target, [PULL], BASE, written=None if ns else name)
    scope = re.search(r'scope="([^"]*)"', header)
    assert scope is not None
    bearer = company.bearer(bob, scope[1])
    public = None if target.is_local else False
    assert company.gate.check(company.bearer(bob), PULL, target, public=public) is Decision.UNAUTHENTICATED
    assert company.gate.check(bearer, PULL, target, public=public) is Decision.ALLOW


@given(written=st.text(), base=st.text())
def test_a_challenge_is_one_line_with_three_quoted_fields(
    written: str, base: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    header = _bare_gate(tmp_path_factory).challenge(PUBLIC, [PULL], base, written=written)
    assert re.fullmatch(r'Bearer realm="[ -~]*/token",service="hunqi",scope="[ -~]*"', header)
    assert header.count('"') == 6
    assert "\\" not in header


def _bare_gate(directories: pytest.TempPathFactory) -> Gate:
    directory = directories.getbasetemp() / "bare"
    return Mirror(directory).gate


def test_workers_of_one_directory_agree(tmp_path: Path) -> None:
    first, second = Mirror(tmp_path), Mirror(tmp_path)
    assert not second.gate.login_required()
    first.users.add("alice", "secret", [Grant.parse("team:pull,push")])
    assert second.gate.login_required()
    token = first.token(first.gate.login("alice", "secret"), "repository:team/app:pull,push")
    caller = second.gate.authenticate(f"Bearer {token}")
    assert caller.name == "alice"
    assert second.check(caller, PUSH, "team/app") is Decision.ALLOW
    second.users.set_grants("alice", [Grant.parse("team:pull")])
    for worker in (first, second):
        assert worker.check(worker.gate.authenticate(f"Bearer {token}"), PUSH, "team/app") is Decision.DENIED
    second.users.remove("alice")
    second.users.add("bob", "b")
    assert first.check(caller, PULL, "teams/app") is Decision.ALLOW  # a public one of docker.io
    first.pushed.add("team")
    assert first.check(caller, PULL, "team/app") is Decision.UNAUTHENTICATED
    assert first.gate.authenticate(basic("alice", "secret")) == FOREIGN


def test_bearer_tokens_that_are_over_or_not_ours_are_told_apart(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    mirror = Mirror(tmp_path, clock=lambda: now[0])
    token = mirror.token(NOBODY, "repository:library/nginx:pull")
    now[0] += 301
    with pytest.raises(TokenExpired):
        mirror.gate.authenticate(f"Bearer {token}")
    payload = jwt.decode(token, options={"verify_signature": False})
    forged = jwt.encode(payload, "another key of thirty-two bytes!", algorithm="HS256")
    with pytest.raises(TokenInvalid) as caught:
        mirror.gate.recall(f"Bearer {forged}")
    assert not isinstance(caught.value, TokenExpired)


def test_opened_from_settings(tmp_path: Path) -> None:
    settings = AccessSettings(users_file=tmp_path / "elsewhere" / "users.json", token_ttl_s=60)
    gate = Gate.open(settings, tmp_path, was_pushed=lambda _namespace: False)
    UsersFile(tmp_path / "elsewhere" / "users.json").add("alice", "secret")
    assert gate.authenticate(basic("alice", "secret")) == Caller(name="alice")
    answer = gate.token(Caller(name="alice"), (), resolve=lambda name: Target(None, name), public=lambda _target: False)
    assert answer.expires_in_s == 60
    assert (tmp_path / "token.key").exists()


def test_threads_may_share_a_gate(company: Mirror) -> None:
    header, faults = basic("alice", "secret"), list[object]()

    def work() -> None:
        try:
            for number in range(50):
                caller = company.gate.authenticate(header if number % 2 else basic("hubuser", str(number)))
                assert caller == (Caller(name="alice") if number % 2 else FOREIGN)
                assert company.check(company.bearer(caller, "repository:library/nginx:pull"), PULL, "library/nginx")
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(10):
        company.users.add(f"u{number}", "x")
    for thread in threads:
        thread.join()
    assert not faults


def test_an_anonymous_pull_of_what_is_public_is_decided_in_under_three_microseconds(company: Mirror) -> None:
    def decide() -> None:
        company.gate.check(NOBODY, PULL, PUBLIC, public=True)

    assert min(timeit.repeat(decide, number=20_000, repeat=7)) / 20_000 < 3e-6


@pytest.mark.parametrize(
    ("parameters", "scopes"),
    [
        (["repository:nginx:pull"], {"nginx": "pull"}),
        (["repository:team/app:pull,push,delete"], {"team/app": "pull,push,delete"}),
        (["repository:localhost:5001/app:pull"], {"localhost:5001/app": "pull"}),
        (["repository:a:pull repository:b:push", "repository:a:push"], {"a": "pull,push", "b": "push"}),
        (["repository:a:*"], {"a": "pull,push,delete"}),
        (["repository(plugin):a/b:pull"], {"a/b": "pull"}),
        (["repository:a:pull,own"], {"a": "pull"}),
        (["repository:a:own", "repository:a", "repository::pull", "repository", "", "  ", ":::", "x:a:pull"], {}),
        (["repository:a:", "registry:catalog:pull", "registry:other:*", "repositoryx:a:pull"], {}),
    ],
)
def test_scopes(parameters: list[str], scopes: dict[str, str]) -> None:
    found = parse_scopes(parameters)
    assert {scope.name: scope_text(scope.name, scope.actions).rpartition(":")[2] for scope in found} == scopes
    assert all(scope.kind is ScopeKind.REPOSITORY for scope in found)


def test_the_catalogue_is_a_scope() -> None:
    assert parse_scopes(["registry:catalog:*"]) == (Scope(ScopeKind.REGISTRY, "catalog", frozenset(Action)),)


def test_the_number_of_scopes_is_bounded() -> None:
    assert len(parse_scopes([" ".join(f"repository:r{number}:pull" for number in range(1000))])) == MAX_SCOPES


_scope_names = st.from_regex(r"([a-z]{1,5}(:[0-9]{1,4})?/)?[a-z]{1,5}(/[a-z]{1,5})?", fullmatch=True)


@given(name=_scope_names, actions=st.sets(st.sampled_from(Action), min_size=1))
def test_scopes_as_text_come_back(name: str, actions: set[Action]) -> None:
    assert parse_scopes([scope_text(name, actions)]) == (Scope(ScopeKind.REPOSITORY, name, frozenset(actions)),)


@given(parameters=st.lists(st.text(alphabet="repositgy:*,() puls/a\t\0é", max_size=60), max_size=5))
def test_any_scopes_parse_to_something_that_means_something(parameters: list[str]) -> None:
    for scope in parse_scopes(parameters):
        assert scope.name
        assert scope.actions
