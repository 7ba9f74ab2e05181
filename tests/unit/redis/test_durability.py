"""The keys of `durability`: what they mean, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from ticketlock import ConcurrentRedisLockStore, ConfigurationError, InMemoryLockStore, LockStore
from ticketlock.redis.durability import Durability

SENTINEL = {"deployment_mode": "sentinel", "endpoints": ["s:26379"]}


def asked(**keys: Any) -> Durability:
    return ConcurrentRedisLockStore(**keys).durability


def test_what_is_asked() -> None:
    assert asked() == Durability("none", 1, 2.0, False)
    assert not asked().waits
    assert not asked(durability="server").waits
    assert asked(durability="replicas", durability_replicas="2").replicas == 2  # as from ${NAME}
    assert asked(durability="aof", durability_degraded="refuse").refuse
    assert asked(durability="none", durability_timeout=1).timeout == 1
    assert asked(durability="majority", **SENTINEL).waits


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"durability": "quorum"}, "durability"),
        ({"durability": "majority"}, "needs deployment_mode sentinel or cluster"),
        ({"durability": "aof", "durability_replicas": 2}, "is for durability: replicas"),
        (
            {"durability": "majority", "durability_replicas": 2, **SENTINEL},
            "is for durability: replicas",
        ),
        ({"durability_replicas": 2}, "does nothing without durability"),
        ({"durability_degraded": "refuse"}, "does nothing without durability"),
        ({"durability_timeout": 1}, "does nothing without durability"),
        ({"durability": "replicas", "durability_replicas": 0}, "durability_replicas"),
    ],
)
def test_what_is_refused(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        ConcurrentRedisLockStore(**keys)


def test_other_lock_stores_have_no_such_key() -> None:
    for kind in ("in_memory", "redis"):
        with pytest.raises(ConfigurationError, match="durability"):
            LockStore.create({"type": kind, "durability": "replicas"})
    assert isinstance(LockStore.create({"type": "in_memory"}), InMemoryLockStore)


@pytest.mark.parametrize(
    ("replicas", "needed"), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3)]
)
def test_with_the_master_they_are_the_majority(replicas: int, needed: int) -> None:
    assert Durability("majority").needed(replicas) == needed
    assert needed + 1 > (replicas + 1) / 2
    assert needed == 1 or needed <= (replicas + 1) / 2  # and not one more


def test_answers() -> None:
    assert Durability("replicas").missing(1, 1) == ""
    assert Durability("replicas").missing(0, 1) == "0 of 1 replica acknowledged"
    assert Durability("replicas").missing(2, 3) == "2 of 3 replicas acknowledged"
    assert Durability("aof").missing([1, 0], 1) == ""
    assert Durability("aof").missing([0, 2], 1) == "its log was not synced to the disk"
