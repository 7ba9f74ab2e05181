"""Events that flow while the instances that store them are killed: each is there once."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from servers.consumers import Consumer, publish, query, stored, write_endpoints
from servers.event_flows import broker_section

from ticketlock.publishing.message import BrokerMessage

#: Events of each combination, one a broker; TICKETLOCK_EVENT_COUNT sets another number for all.
#: What brokers promise and what databases store does not depend on each other.
COUNTS = {
    ("pika", "sqlite"): 20_000,
    ("kafka", "postgres"): 20_000,
}
#: Seconds before a test counts as hung; a rate of 1000 a second is a very slow machine.
LIMIT = 300 + int(os.environ.get("TICKETLOCK_EVENT_COUNT") or 0) / 1000
CONVERSATIONS = 500
#: Messages that are published in one go, and how many earlier ones are sent again after it.
ROUND, AGAIN = 5000, 200
KILLS = 5


def flow(count: int, dice: random.Random) -> list[list[BrokerMessage]]:
    """All events in rounds, in order within a conversation, and earlier ones again."""
    bodies = {"event": "user", "timestamp": 1.5, "text": "hello", "parse_data": {"intent": {}}}
    names = [f"conversation {number} ä" for number in range(CONVERSATIONS)]
    messages = [
        BrokerMessage(names[i % CONVERSATIONS], i // CONVERSATIONS, bodies) for i in range(count)
    ]
    rounds = []
    for start in range(0, count, ROUND):
        end = min(count, start + ROUND)
        rounds.append(messages[start:end] + dice.sample(messages[:end], min(end, AGAIN)))
    return rounds


class Storm:
    """Two instances; while events are published one of them is killed and started again."""

    def __init__(self, endpoints: list[Path], dice: random.Random) -> None:
        self._endpoints = endpoints
        self._dice = dice
        self.all: list[list[Consumer]] = [[] for _ in endpoints]
        self.consumers = [self._start(which) for which in range(len(endpoints))]

    def _start(self, which: int) -> Consumer:
        started = Consumer(self._endpoints[which])
        self.all[which].append(started)
        return started

    def rage(self, progress: Callable[[], int], count: int) -> None:
        """Kill one at random whenever another part of the events is stored."""
        end = time.monotonic() + 120
        for kill in range(1, KILLS + 1):
            wanted = kill * count // (KILLS + 3)  # some is left for both after the last one
            while progress() < wanted:
                assert time.monotonic() < end, [consumer.log for consumer in self.consumers]
                time.sleep(0.05)
            time.sleep(self._dice.uniform(0, 0.1))
            which = self._dice.randrange(len(self.consumers))
            self.consumers[which].kill()
            self.consumers[which] = self._start(which)

    def wait_for(self, sign: str) -> None:
        """Wait until the log of every instance has a line with this."""
        end = time.monotonic() + 60
        while not all(re.search(sign, consumer.log) for consumer in self.consumers):
            assert time.monotonic() < end, [consumer.log for consumer in self.consumers]
            time.sleep(0.05)

    def end(self) -> None:
        for consumer in self.consumers:
            consumer.__exit__()


@pytest.mark.slow
@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize(("broker", "database"), list(COUNTS))
def test_each_event_once(
    request: pytest.FixtureRequest,
    tracker_sections: Any,
    tmp_path: Path,
    broker: str,
    database: str,
) -> None:
    """Repeats are dropped, nothing is missing, and both instances had work."""
    count = int(os.environ.get("TICKETLOCK_EVENT_COUNT") or COUNTS[broker, database])
    seed = int(os.environ.get("TICKETLOCK_SEED") or random.randrange(10**6))
    print(f"TICKETLOCK_SEED={seed}")
    dice = random.Random(seed)
    section, service = broker_section(request, broker), tracker_sections(database)
    paths = [
        write_endpoints(tmp_path / f"{name}.yml", section, {**service, "instance": name})
        for name in ("a", "b")
    ]
    rounds = flow(count, dice)
    publishing = threading.Thread(target=publish, args=(section, [m for r in rounds for m in r]))
    storm = Storm(paths, dice)

    def progress() -> int:
        ledgers = "SELECT SUM(next_sequence - missing_count) FROM ticketlock_service_histories"
        try:
            return int(query(service, ledgers)[0][0] or 0)
        except (sa.exc.DBAPIError, OSError):  # there is no table, or no database, yet
            return 0

    try:
        storm.wait_for("INFO reading from" if broker == "pika" else r"assigned partitions \d")
        publishing.start()
        storm.rage(progress, count)
        publishing.join()
        end = time.monotonic() + 120
        while progress() < count and time.monotonic() < end:
            time.sleep(0.05)
        storm.wait_for("INFO reading from")  # the last one started may not listen to signals yet
        summaries = [consumer.stop() for consumer in storm.consumers]
    finally:
        storm.end()
    print(summaries)
    names = stored(service)
    expected = [(m.conversation_id, 0, m.sequence) for one in rounds for m in one]
    assert len(names) == count
    assert names == sorted(set(expected))
    assert query(service, "SELECT * FROM ticketlock_service_rejects") == []
    assert [summary["gaps"] for summary in summaries] == [0, 0]
    for instances in storm.all:
        assert any("events are stored" in consumer.log for consumer in instances)
    # What the killed ones had stored is not stored again.
    assert sum(summary["stored"] for summary in summaries) < count
