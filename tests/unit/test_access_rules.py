"""The rules as tables: who, what, where, and the decision."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.mirror.access.model import (
    ANONYMOUS,
    FOREIGN,
    NOBODY,
    Action,
    Caller,
    Decision,
    Grant,
    GrantError,
    Scope,
    ScopeKind,
    User,
    Users,
)
from hunqi.mirror.access.rules import Rules
from hunqi.mirror.names import Target

PULL, PUSH, DELETE = Action.PULL, Action.PUSH, Action.DELETE
ALLOW, LOGIN, DENIED = Decision.ALLOW, Decision.UNAUTHENTICATED, Decision.DENIED

PUBLIC = Target("docker.io", "library/nginx")
PRIVATE = Target("docker.io", "acme/app")
TEAM = Target(None, "team/app")
TEAMX = Target(None, "teamx/app")
OPEN = Target(None, "open/app")
SCRATCH = Target(None, "scratch/app")

ALICE = Caller(name="alice")
READER = Caller(name="reader")
ADMIN = Caller(name="admin")
GONE = Caller(name="gone")


def user(name: str, *grants: str) -> User:
    return User(name, None if name == ANONYMOUS else "$hash", tuple(Grant.parse(text) for text in grants))


USERS = Users(
    [
        user("alice", "team:pull,push", "docker.io/acme:pull"),
        user("reader", "team:pull"),
        user("admin", "*:pull,push,delete"),
        user(ANONYMOUS, "open:pull"),
    ]
)
NONE = Users()


def decide(users: Users, caller: Caller, action: Action, target: Target, *, anonymous_push: bool = False) -> Decision:
    public = None if target.is_local else target == PUBLIC
    return Rules(users, anonymous_push).decide(caller, action, target, public=public)


@pytest.mark.parametrize("caller", [NOBODY, FOREIGN], ids=["nobody", "foreign"])
@pytest.mark.parametrize(
    ("action", "target", "closed", "anonymous_push"),
    [
        (PULL, PUBLIC, ALLOW, ALLOW),
        (PULL, PRIVATE, DENIED, DENIED),
        (PULL, TEAM, ALLOW, ALLOW),
        (PUSH, TEAM, DENIED, ALLOW),
        (DELETE, TEAM, DENIED, ALLOW),
        (PUSH, PUBLIC, DENIED, DENIED),
        (DELETE, PUBLIC, DENIED, DENIED),
    ],
)
def test_without_users(
    caller: Caller, action: Action, target: Target, closed: Decision, anonymous_push: Decision
) -> None:
    assert decide(NONE, caller, action, target) is closed
    assert decide(NONE, caller, action, target, anonymous_push=True) is anonymous_push


@pytest.mark.parametrize(
    ("caller", "action", "target", "closed", "anonymous_push"),
    [
        (NOBODY, PULL, PUBLIC, ALLOW, ALLOW),
        (FOREIGN, PULL, PUBLIC, ALLOW, ALLOW),
        (NOBODY, PULL, PRIVATE, LOGIN, LOGIN),
        (FOREIGN, PULL, PRIVATE, LOGIN, LOGIN),
        (ALICE, PULL, PRIVATE, ALLOW, ALLOW),
        (READER, PULL, PRIVATE, DENIED, DENIED),
        (ADMIN, PULL, PRIVATE, ALLOW, ALLOW),
        (GONE, PULL, PRIVATE, LOGIN, LOGIN),
        (NOBODY, PULL, TEAM, LOGIN, LOGIN),
        (READER, PULL, TEAM, ALLOW, ALLOW),
        (ALICE, PULL, TEAM, ALLOW, ALLOW),
        (ALICE, PULL, TEAMX, DENIED, ALLOW),
        (NOBODY, PULL, OPEN, ALLOW, ALLOW),
        (READER, PULL, OPEN, ALLOW, ALLOW),
        (NOBODY, PULL, SCRATCH, LOGIN, ALLOW),
        (NOBODY, PUSH, TEAM, LOGIN, LOGIN),
        (FOREIGN, PUSH, TEAM, LOGIN, LOGIN),
        (READER, PUSH, TEAM, DENIED, DENIED),
        (ALICE, PUSH, TEAM, ALLOW, ALLOW),
        (ALICE, PUSH, TEAMX, DENIED, ALLOW),
        (ADMIN, PUSH, SCRATCH, ALLOW, ALLOW),
        (NOBODY, PUSH, SCRATCH, LOGIN, ALLOW),
        (FOREIGN, PUSH, SCRATCH, LOGIN, LOGIN),
        (NOBODY, PUSH, OPEN, LOGIN, ALLOW),
        (ALICE, DELETE, TEAM, DENIED, DENIED),
        (ADMIN, DELETE, TEAM, ALLOW, ALLOW),
        (NOBODY, DELETE, SCRATCH, LOGIN, LOGIN),
        (ADMIN, PUSH, PUBLIC, DENIED, DENIED),
        (ADMIN, DELETE, PRIVATE, DENIED, DENIED),
    ],
)
def test_with_users(caller: Caller, action: Action, target: Target, closed: Decision, anonymous_push: Decision) -> None:
    assert decide(USERS, caller, action, target) is closed
    assert decide(USERS, caller, action, target, anonymous_push=True) is anonymous_push


def bearer(name: str | None, *scopes: tuple[str, Action]) -> Caller:
    carried = frozenset(Scope(ScopeKind.REPOSITORY, key, frozenset({action})) for key, action in scopes)
    return Caller(name=name, scopes=carried)


@pytest.mark.parametrize(
    ("caller", "action", "target", "decision"),
    [
        (bearer("alice", ("team/app", PUSH)), PUSH, TEAM, ALLOW),
        (bearer("alice", ("team/app", PUSH)), PULL, TEAM, LOGIN),
        (bearer("alice", ("team/app", PULL)), PUSH, TEAM, LOGIN),
        (bearer("alice", ("team/other", PULL)), PULL, TEAM, LOGIN),
        (bearer("alice"), PULL, PRIVATE, LOGIN),
        (bearer("alice", ("docker.io/acme/app", PULL)), PULL, PRIVATE, ALLOW),
        (bearer("alice", ("docker.io/acme/app", PUSH)), PUSH, PRIVATE, DENIED),
        (bearer("alice"), PULL, PUBLIC, ALLOW),
        (bearer("reader", ("team/app", PUSH)), PUSH, TEAM, DENIED),
        (bearer("gone", ("team/app", PULL)), PULL, TEAM, LOGIN),
        (bearer(None, ("team/app", PULL)), PULL, TEAM, LOGIN),
        (bearer(None, ("open/app", PULL)), PULL, OPEN, ALLOW),
    ],
)
def test_a_token_is_good_for_its_scopes_while_its_user_has_them(
    caller: Caller, action: Action, target: Target, decision: Decision
) -> None:
    assert decide(USERS, caller, action, target) is decision


def test_only_the_name_anonymous_with_grants_is_not_a_user() -> None:
    users = Users([user(ANONYMOUS, "open:pull")])
    assert not users.exist
    assert decide(users, NOBODY, PULL, TEAM) is ALLOW
    assert decide(users, NOBODY, PUSH, TEAM) is DENIED


def test_a_grant_of_anonymous_never_opens_a_private_upstream_repository() -> None:
    users = Users([user("alice"), user(ANONYMOUS, "*:pull")])
    assert decide(users, NOBODY, PULL, PRIVATE) is LOGIN
    assert decide(users, NOBODY, PULL, TEAM) is ALLOW


@pytest.mark.parametrize(
    ("caller", "users", "decision"),
    [
        (NOBODY, NONE, ALLOW),
        (NOBODY, USERS, LOGIN),
        (FOREIGN, USERS, LOGIN),
        (ALICE, USERS, ALLOW),
        (ADMIN, USERS, ALLOW),
        (bearer("admin"), USERS, LOGIN),
    ],
)
def test_the_catalogue_is_for_users_where_there_are_any(caller: Caller, users: Users, decision: Decision) -> None:
    assert Rules(users, False).decide_catalogue(caller) is decision


@pytest.mark.parametrize(
    ("caller", "users", "target", "public", "seen"),
    [
        (NOBODY, NONE, PRIVATE, False, False),
        (NOBODY, NONE, PRIVATE, True, True),
        (NOBODY, NONE, TEAM, None, True),
        (NOBODY, USERS, TEAM, None, False),
        (ALICE, USERS, TEAM, None, True),
        (ALICE, USERS, PRIVATE, False, True),
        (bearer("bob"), USERS, PRIVATE, False, False),
        (ADMIN, USERS, PRIVATE, False, True),
        (bearer("alice"), USERS, TEAM, None, True),
    ],
)
def test_the_catalogue_shows_what_may_be_pulled(
    caller: Caller, users: Users, target: Target, public: bool | None, seen: bool
) -> None:
    assert Rules(users, False).may_see(caller, target, public=public) is seen


def test_a_refusal_says_what_would_change_it() -> None:
    without, with_users = Rules(NONE, False), Rules(USERS, False)
    assert "hunqi mirror user add" in without.explain(NOBODY, PUSH, TEAM)
    assert "team/app:pull,push" in without.explain(NOBODY, PUSH, TEAM)
    assert "docker.io/acme/app:pull" in without.explain(NOBODY, PULL, PRIVATE)
    assert "mirrored" in without.explain(NOBODY, PUSH, PUBLIC)
    assert "log in" in with_users.explain(NOBODY, PUSH, TEAM)
    assert with_users.explain(READER, PUSH, TEAM) == "reader has no grant of push on team/app"


@pytest.mark.parametrize(
    ("prefix", "key", "covered"),
    [
        ("team", "team", True),
        ("team", "team/app", True),
        ("team", "team/a/b", True),
        ("team", "teamx", False),
        ("team", "teamx/app", False),
        ("team/app", "team", False),
        ("docker.io/acme", "docker.io/acme/app", True),
        ("docker.io/acme", "acme/app", False),
        ("docker.io", "docker.io/library/nginx", True),
        ("*", "docker.io/library/nginx", True),
        ("*", "team", True),
    ],
)
def test_a_prefix_covers_whole_components(prefix: str, key: str, covered: bool) -> None:
    assert Grant.of(prefix, [PULL]).covers(key) is covered
    if prefix != "*":
        assert Users([user("u", f"{prefix}:pull")]).names(key) is covered


def test_a_grant_on_everything_names_no_namespace() -> None:
    users = Users([user("admin", "*:pull,push")])
    assert not users.names("grafana/grafana")
    assert not users.reserves("grafana/grafana")


@pytest.mark.parametrize("text", ["team:pull", "team:pull,push", "localhost:5001/acme:pull", "*:pull,push,delete"])
def test_grants_as_text_come_back(text: str) -> None:
    assert str(Grant.parse(text)) == text


@pytest.mark.parametrize("text", ["team/:pull", "team/*:pull"])
def test_a_trailing_slash_or_star_means_the_prefix(text: str) -> None:
    assert Grant.parse(text) == Grant.parse("team:pull")


@pytest.mark.parametrize(
    "text",
    ["", "team", "team:", "team:read", ":pull", "/team:pull", "te am:pull", "a//b:pull", "**:pull", "team*:pull"],
)
def test_nonsense_is_no_grant(text: str) -> None:
    with pytest.raises(GrantError):
        Grant.parse(text)


_names = st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3}){0,2}", fullmatch=True)


@given(prefix=_names, key=_names)
def test_a_prefix_covers_exactly_itself_and_what_lies_below(prefix: str, key: str) -> None:
    parts, wanted = key.split("/"), prefix.split("/")
    assert Grant.of(prefix, [PULL]).covers(key) is (parts[: len(wanted)] == wanted)


_callers = st.builds(
    Caller, name=st.sampled_from([None, "alice", "reader", "admin", "gone"]), foreign=st.booleans()
) | st.builds(bearer, st.sampled_from([None, "alice", "admin"]), st.tuples(_names, st.sampled_from(Action)))


@given(caller=_callers, action=st.sampled_from(Action), name=_names, anonymous_push=st.booleans())
def test_a_token_never_allows_more_than_its_user(
    caller: Caller, action: Action, name: str, anonymous_push: bool
) -> None:
    target = Target(None, name)
    if decide(USERS, caller, action, target, anonymous_push=anonymous_push) is ALLOW:
        without_token = Caller(name=caller.name, foreign=caller.foreign)
        assert decide(USERS, without_token, action, target, anonymous_push=anonymous_push) is ALLOW
        assert caller.carries(action, target.key)


@given(caller=_callers, users=st.sampled_from([NONE, USERS]), anonymous_push=st.booleans())
def test_what_is_mirrored_is_never_changed_and_what_is_public_always_pulled(
    caller: Caller, users: Users, anonymous_push: bool
) -> None:
    for action in (PUSH, DELETE):
        assert decide(users, caller, action, PUBLIC, anonymous_push=anonymous_push) is DENIED
    assert decide(users, caller, PULL, PUBLIC, anonymous_push=anonymous_push) is ALLOW
