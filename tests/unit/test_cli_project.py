"""Contexts are private and obey the environment; texts of the command line become values or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hunqi.cli.cluster import contexts
from hunqi.cli.cluster.contexts import Context, Contexts
from hunqi.cli.cluster.following import explain
from hunqi.cli.cluster.logs import plain
from hunqi.cli.cluster.moments import ago
from hunqi.cli.cluster.operating import route_text


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config/contexts.json"
    monkeypatch.setenv(contexts.FILE_VARIABLE, str(path))
    for variable in (contexts.URL_VARIABLE, contexts.TOKEN_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    return path


def test_a_context_is_kept_for_its_owner_only(file: Path) -> None:
    kept = Context(name="a", url="http://a", token="hq_1", user="ada")

    contexts.save_contexts(Contexts().having(kept))

    assert contexts.effective() == kept
    assert file.stat().st_mode & 0o077 == 0
    assert "hq_1" not in repr(contexts.load_contexts())


def test_without_a_context_it_is_this_machine(file: Path) -> None:
    assert contexts.effective().url == "http://127.0.0.1:7000"
    assert contexts.effective().token is None
    assert not file.exists()


def test_the_environment_is_stronger_and_never_sends_a_token_to_another_address(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts.save_contexts(Contexts().having(Context(name="a", url="http://a", token="hq_1")))

    monkeypatch.setenv(contexts.URL_VARIABLE, "http://elsewhere/")
    assert contexts.effective().url == "http://elsewhere"
    assert contexts.effective().token is None

    monkeypatch.setenv(contexts.TOKEN_VARIABLE, "hq_2")
    assert contexts.effective().token == "hq_2"
    assert file.exists()


def test_a_damaged_file_says_what_to_do(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"current": 1}')

    with pytest.raises(contexts.ContextError, match="hunqi login again"):
        contexts.load_contexts()


def test_forgetting_the_context_in_use_goes_back_to_the_default() -> None:
    held = Contexts().having(Context(name="b", url="http://b"))

    assert held.without("b").current == contexts.DEFAULT_NAME
    with pytest.raises(contexts.ContextError):
        held.without("c")


def test_a_failed_deploy_is_explained_with_all_that_helps() -> None:
    text = explain(
        {
            "state": "failed",
            "sentence": "web never became healthy",
            "problem": {
                "message": "web: the task ended",
                "exit_code": 3,
                "log": ["Traceback", "KeyError: 'DB_HOST'"],
                "health": "connection refused",
                "remedy": "set DB_HOST",
            },
        }
    )

    assert text.splitlines() == [
        "web: the task ended",
        "  exit code 3",
        "  its healthcheck said:",
        "    connection refused",
        "  it wrote last:",
        "    Traceback",
        "    KeyError: 'DB_HOST'",
        "  → set DB_HOST",
    ]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07evil", "]0;titleevil"),
        ("tab\tstays", "tab\tstays"),
        ("back\rover", "backover"),
    ],
)
def test_a_line_of_an_app_does_nothing_to_the_terminal(line: str, shown: str) -> None:
    assert plain(line) == shown


def test_routes_in_a_word() -> None:
    assert route_text({"hosts": ["a.example.com"], "path": "/api"}) == "a.example.com/api"
    assert route_text({"hosts": [], "path": "/"}) == "*"
    assert route_text({"tcp_port": 20001, "protocol": "udp"}) == "udp 20001"


def test_moments_are_told_from_now() -> None:
    assert ago("2020-01-01T00:00:00+00:00").endswith("ago")
    assert ago("2999-01-01T00:00:00").startswith("in ")
    assert ago(None) == "-"
    assert ago("no moment") == "no moment"
