"""What happens to the servers of a storm."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis

from ticketlock.process import clock
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.stress.starting import until
from ticketlock.stress.targets import One, asks, client

from .events import Event, Events, shuffled


class Trouble:
    """Troubles one server at a time, and waits until all is well again.

    Args:
        mild: only what leaves servers running and what they have: connections that are closed,
            and pauses.
    """

    def __init__(
        self, target: One, events: Events, rng: random.Random, *, mild: bool = False
    ) -> None:
        self._target, self._events, self._rng = target, events, rng
        deeds: list[Callable[[int], None]] = [self._connections, self._pause]
        if not mild:
            deeds += [self._stop, self._stop_briefly, self._kill, self._out_of_memory]
        if not mild and target.replicated:
            deeds += [self._fail_over, self._kill_replica]
        self._deeds = shuffled(deeds, rng)

    def one(self) -> None:
        """One random piece of trouble, to its end."""
        next(self._deeds)(self._rng.randrange(self._target.shards))

    def _connections(self, shard: int) -> None:
        master = self._master(shard)
        with self._events.of_shard("connections killed", shard), client(master) as asking:
            connections: list[dict[str, Any]] = asking.client_list()
            for connection in self._rng.sample(connections, min(3, len(connections))):
                # A replica's connection ends its replication, which is other trouble.
                if connection["id"] != str(asking.client_id()) and "S" not in connection["flags"]:
                    asking.client_kill_filter(_id=connection["id"])

    def _pause(self, shard: int) -> None:
        milliseconds = self._rng.randrange(50, 800)
        with self._events.of_shard("clients paused", shard):
            asks(self._master(shard), "CLIENT", "PAUSE", milliseconds)
            time.sleep(milliseconds / 1000)

    def _stop_briefly(self, shard: int) -> None:
        """Too short for another one to take over."""
        with self._events.of_shard("server stopped briefly", shard):
            with _stopped(self._master(shard)):
                time.sleep(self._rng.uniform(0.1, 0.7))
            self._well()

    def _stop(self, shard: int) -> None:
        """A replica takes over, where there is one, and what was written last may be gone."""
        loses = self._target.replicated
        with self._events.of_shard("server stopped", shard, loses=loses):
            with _stopped(self._master(shard)):
                time.sleep(self._rng.uniform(1, 7))
            self._well()

    def _kill(self, shard: int) -> None:
        master = self._master(shard)
        with self._events.of_shard("server killed", shard, loses=True):
            master.stop(kill=True)
            if self._target.replicated:
                until(lambda: self._target.master(shard) is not None, "a replica takes over")
            time.sleep(self._rng.uniform(0.2, 3))
            self._target.start_again(master, shard)
            self._well()

    def _kill_replica(self, shard: int) -> None:
        """What a master does without is no trouble of its conversations."""
        replica = self._rng.choice(self._target.replicas(shard))
        with self._events.of_shard("replica killed", shard):
            replica.stop(kill=True)
            time.sleep(self._rng.uniform(0.2, 3))
            self._target.start_again(replica, shard)
            self._well()

    def _fail_over(self, shard: int) -> None:
        before = self._master(shard)
        with self._events.of_shard("failover asked for", shard, loses=True):
            if self._target.fail_over(shard):
                until(lambda: self._target.master(shard) not in (None, before), "a failover")
            self._well()

    def _out_of_memory(self, shard: int) -> None:
        """As `noeviction` answers it: whatever may need memory is denied."""
        master = self._master(shard)
        with self._events.of_shard("out of memory", shard):
            asks(master, "CONFIG", "SET", "maxmemory", 1)
            time.sleep(self._rng.uniform(1, 9))
            asks(master, "CONFIG", "SET", "maxmemory", 0)

    def _master(self, shard: int) -> EmbeddedRedis:
        master = self._target.master(shard)
        assert master is not None  # all is well between two pieces of trouble
        return master

    def _well(self) -> None:
        until(self._target.healthy, "all servers are as before")


@contextmanager
def _stopped(server: EmbeddedRedis) -> Iterator[None]:
    process = server.process
    assert process is not None  # it runs
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextmanager
def watched(target: One, events: Events) -> Iterator[None]:
    """Note during the block when shards refuse commands because of others: a cluster does while
    one of its masters is dead and not yet replaced."""
    over = threading.Event()

    def watch() -> None:
        down: dict[int, Event] = {}
        while not over.wait(0.2):
            refusing = target.refusing()
            for shard in refusing - down.keys():
                down[shard] = events.add(Event("cluster down", clock(), shard=shard))
            for shard in down.keys() - refusing:
                down.pop(shard).until = clock()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def check_keys(target: One) -> list[str]:
    """Keys of the shards' masters that would stay for ever."""
    found = []
    for shard in range(target.shards):
        master = target.master(shard)
        assert master is not None
        with redis.Redis(port=master.port, db=_database(target), decode_responses=True) as asking:
            found += [key for key in asking.scan_iter(count=1000) if asking.ttl(key) < 0]
    return found


def _database(target: One) -> int:
    return 0 if target.store.get("deployment_mode") == "cluster" else 1
