"""Retention settings as the store's policy: what a rule says of one team's repositories reaches no other's."""

from __future__ import annotations

import pytest

from hunqi.mirror.operate.upkeep import policy_of
from hunqi.mirror.settings import RetentionRule
from hunqi.mirror.store.retention_plan import ManifestState, RepositoryState, plan_retention
from hunqi.oci.digest import Digest

DAY_S = 86_400.0
OLD = Digest.of(b"an old manifest without a tag")
RULES = (
    RetentionRule(pattern="team/kept", keep_newest=5),
    RetentionRule(pattern="team/*", untagged_after_s=7 * DAY_S),
)


def leaving(repo: str, *, age_days: float, rules: tuple[RetentionRule, ...] = RULES) -> list[Digest]:
    state = RepositoryState(
        repo=repo, tags=(), manifests=(ManifestState(digest=OLD, created_at=0.0),), blobs=(), pinned=frozenset()
    )
    return [removal.digest for removal in plan_retention(state, policy_of(rules), now=age_days * DAY_S)]


def test_untagged_manifests_leave_where_the_rule_says() -> None:
    assert leaving("team/app", age_days=8) == [OLD]
    assert leaving("team/app", age_days=6) == []


@pytest.mark.parametrize("repo", ["other/app", "teamx/app"])
def test_untagged_manifests_of_other_repositories_stay(repo: str) -> None:
    assert leaving(repo, age_days=1000) == []


def test_of_several_rules_the_first_that_matches_applies() -> None:
    assert leaving("team/kept", age_days=1000) == []


def test_a_shorter_time_for_others_does_not_shorten_mine() -> None:
    rules = (*RULES, RetentionRule(pattern="scratch/*", untagged_after_s=60.0))
    assert leaving("team/app", age_days=6, rules=rules) == []
    assert leaving("scratch/x", age_days=1, rules=rules) == [OLD]


def test_without_rules_nothing_leaves() -> None:
    assert leaving("team/app", age_days=1000, rules=()) == []
