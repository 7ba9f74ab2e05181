"""Slots of a `RedisCluster` on the move."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import redis
from redis.crc import key_slot

from .redis_sets import RedisCluster


def slot_of(name: str) -> int:
    """The slot of a conversation."""
    return key_slot(f"{{{name}}}".encode())


def same_slot(name: str, count: int) -> list[str]:
    """So many other conversations in the slot of one."""
    slot = slot_of(name)
    found = (f"s{i}" for i in itertools.count() if slot_of(f"s{i}") == slot)
    return list(itertools.islice(found, count))


def begin_move(cluster: RedisCluster, slot: int, source: int, target: int) -> None:
    """Begin to move a slot, and leave it at that."""
    ids = [_call(cluster, i, "CLUSTER", "MYID") for i in (source, target)]
    _call(cluster, target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    _call(cluster, source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])


def move_keys(cluster: RedisCluster, keys: list[str], source: int, target: int) -> None:
    """Move keys of a slot that is on the move."""
    port = cluster.servers[target].port
    _call(cluster, source, "MIGRATE", "127.0.0.1", port, "", 0, 2000, "KEYS", *keys)


def end_move(cluster: RedisCluster, slot: int, target: int) -> None:
    """End the move of a slot whose keys are at the target."""
    set_owner(cluster, [slot], target)


def set_owner(
    cluster: RedisCluster, slots: list[int], owner: int, told: Sequence[int] | None = None
) -> None:
    """Give slots without keys to a node; `told`: those of the nodes that hear of it."""
    node = _call(cluster, owner, "CLUSTER", "MYID")
    for i in (owner, *range(len(cluster.servers))) if told is None else told:
        for slot in slots:
            _call(cluster, i, "CLUSTER", "SETSLOT", slot, "NODE", node)


def move(cluster: RedisCluster, slot: int, source: int, target: int) -> None:
    """Move a slot, key by key, as `redis-cli --cluster reshard` does, also while it is used."""
    begin_move(cluster, slot, source, target)
    while keys := _call(cluster, source, "CLUSTER", "GETKEYSINSLOT", slot, 10):
        move_keys(cluster, keys, source, target)
    end_move(cluster, slot, target)


def _call(cluster: RedisCluster, server: int, *args: object) -> Any:
    return cluster.admin(server).execute_command(*args)


def errors(client: redis.Redis, kind: str) -> int:
    """How often a server has answered with an error that begins with a word."""
    found = client.info("errorstats").get(f"errorstat_{kind}", {"count": 0})
    return int(found["count"])


def calls(client: redis.Redis, command: str) -> int:
    """How often a server was called with a command."""
    return int(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


def move_at_once(cluster: RedisCluster, slots: list[int], source: int, target: int) -> None:
    """Move slots with all their keys in one step, which Valkey can from 9.0 on."""
    node = _call(cluster, target, "CLUSTER", "MYID")
    ranges = [slot for slot in slots for _ in range(2)]
    _call(cluster, source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", node)
    end = time.monotonic() + 30
    while True:
        # The newest is the first; those before it are listed for a while.
        job: Any = _call(cluster, source, "CLUSTER", "GETSLOTMIGRATIONS")[0]
        if job["state"] == "success":
            return
        assert job["state"] not in ("failed", "cancelled"), job
        assert time.monotonic() < end, job
        time.sleep(0.01)
