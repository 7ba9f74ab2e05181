"""How long the turns of a conversation pause when its master fails."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from servers.redis_sets import RedisCluster, SentinelSet
from servers.turns import Turns

from ticketlock import ConcurrentRedisLockStore
from ticketlock.process import clock
from ticketlock.redis.embedded import EmbeddedRedis

#: Seconds that our part may take, on top of the servers' own.
OURS = 1.0
SIGNALS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}


class Promotion(threading.Thread):
    """Notes when a replica takes writes, and a sentinel names it; a thread asks all the time."""

    def __init__(self, server: EmbeddedRedis, key: str, sentinels: list[str]) -> None:
        super().__init__()
        self._port, self._key = server.port, key
        self._sentinels = [
            redis.Redis(port=int(place.split(":")[1]), decode_responses=True) for place in sentinels
        ]
        self.at = 0.0

    def run(self) -> None:
        end = clock() + 40
        while clock() < end and not self.at:
            with suppress(OSError):  # it closes connections when it is promoted
                self._ask(end)
            time.sleep(0.005)

    def _ask(self, end: float) -> None:
        with socket.create_connection(("127.0.0.1", self._port), 1) as asking:
            while clock() < end:
                asking.sendall(f"SET {self._key} 1 PX 1000\r\n".encode())
                answer = asking.recv(1000)
                if answer.startswith(b"+OK") and self._named():
                    self.at = clock()
                if self.at or not answer:
                    return
                time.sleep(0.005)

    def _named(self) -> bool:
        said = [
            sentinel.sentinel_get_master_addr_by_name("mymaster") for sentinel in self._sentinels
        ]
        return not said or any(address[1] == self._port for address in said)


@pytest.fixture
def sets(tmp_path: Path) -> Iterator[Any]:
    """Starts a set with a replica; returns its store's settings, the master and the replica."""
    with ExitStack() as stack:

        def start(mode: str) -> tuple[dict[str, Any], EmbeddedRedis, EmbeddedRedis, str]:
            if mode == "cluster":
                cluster = stack.enter_context(RedisCluster(replicas=True))
                (name,) = cluster.conversations(0, 1)
                settings = {"deployment_mode": mode, "endpoints": cluster.endpoints}
                return settings, cluster.servers[0], cluster.replicas[0], name
            trio = stack.enter_context(SentinelSet(tmp_path, sentinels=3))
            settings = {"deployment_mode": mode, "endpoints": trio.endpoints}
            settings |= {"sentinel_service": "mymaster"}
            return settings, trio.master, trio.replica, "c"

        yield start


@pytest.mark.quiet
@pytest.mark.bound(90)
@pytest.mark.parametrize("how", SIGNALS)
@pytest.mark.parametrize("mode", ["cluster", "sentinel"])
async def test_a_failover_costs_the_servers_time_and_a_second(
    sets: Any, mode: str, how: str
) -> None:
    """A conversation with several waiters goes on within a second of the moment from
    which its new master can be found and takes writes."""
    settings, master, replica, name = sets(mode)
    async with (
        ConcurrentRedisLockStore(**settings) as one,
        ConcurrentRedisLockStore(**settings) as two,
    ):
        turns = Turns([name], losing=True)  # a grant that was not replicated is forgotten
        sentinels = settings["endpoints"] if mode == "sentinel" else []
        promotion = Promotion(replica, f"{{{name}}}probe", sentinels)

        async def work() -> None:
            turns.gaps.clear()
            since = clock()
            assert master.process is not None
            master.process.send_signal(SIGNALS[how])
            promotion.start()
            await asyncio.to_thread(promotion.join)
            assert promotion.at, "there was no failover"
            await turns.all_take(10)
            own, longest = promotion.at - since, turns.gaps[name]
            print(f"{mode}, {how}: longest gap {longest:.2f} s, the servers' own {own:.2f} s")
            assert longest < own + OURS

        await turns.during([one, two], work)
