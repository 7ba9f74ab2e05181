"""The judgement of a storm notices each broken promise, and blames no trouble for what it is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from storms.events import Event, Events
from storms.verdict import Verdict, judge

from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.stress.targets import One


class Two(One):
    """Two shards; nothing of it is started."""

    shards = 2

    def shard_of(self, conversation: str) -> int:
        return int(conversation[-1])


@pytest.fixture
def records(own_redis: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_redis.url, decode_responses=True) as client:
        yield client


def turn(client: redis.Redis, number: int, fence: int, at: float, **more: Any) -> None:
    """One turn of conversation c0."""
    entry = {"e": "begin", "n": number, "f": str(fence), "p": 1, "since": at - 1, "t": at}
    for what in ("begin", "end"):
        written = {**entry, "e": what, "refused": False, **more}
        client.rpush("log:c0", json.dumps(written))


def note(client: redis.Redis, what: str, at: float, **more: Any) -> None:
    client.rpush("notes", json.dumps({"what": what, "p": 1, "t": at, "c": "c0", **more}))


def verdict(client: redis.Redis, *events: Event) -> Verdict:
    known = Events()
    for event in events:
        known.add(event)
    return judge(client, ["c0", "c1"], Two(), known)


def test_what_is_right_is_not_blamed(records: redis.Redis) -> None:
    """Turns in order under growing fences."""
    for number in range(1, 5):
        turn(records, number, 100 + number, 10.0 + number)
    found = verdict(records)
    assert found.problems == {}
    assert found.figures["turns"] == 4
    assert found.longest[0] == 1


def test_fences_are_judged(records: redis.Redis) -> None:
    """An older one after a newer one, and one twice."""
    for number, fence in ((1, 101), (2, 105), (3, 103), (4, 105)):
        turn(records, number, fence, 10.0 + number)
    assert verdict(records).problems.keys() == {"older fence", "fence twice"}


@pytest.mark.parametrize(
    ("event", "excused"),
    [
        (Event("server killed", 11, 13, shard=0, loses=True), True),
        (Event("server killed", 11, 13, shard=1, loses=True), False),
        (Event("server stopped", 11, 13, shard=0), False),
        (Event("process stopped", 11, 13, pid=1), True),
        (Event("process stopped", 11, 13, pid=2), False),
        (Event("process stopped", 1, 2, pid=1), False),
    ],
)
def test_order_is_kept_but_for_what_was_forgotten(
    records: redis.Redis, event: Event, excused: bool
) -> None:
    """By a server that lost what it had, or of a process that stood still."""
    turn(records, 2, 102, 20.0, since=8.0)
    turn(records, 1, 103, 21.0, since=8.0)
    assert verdict(records, event).problems == ({} if excused else {"out of order": 1})


def test_numbers_begin_anew_where_they_were_forgotten(records: redis.Redis) -> None:
    """They are in order again from then on."""
    for number, at in ((7, 5.0), (8, 6.0), (1, 30.0), (3, 31.0), (2, 32.0)):
        turn(records, number, 100 + int(at), at)
    loss = Event("server killed", 11, 13, shard=0, loses=True)
    assert verdict(records, loss).problems == {"out of order": 1}
    elsewhere = Event("server killed", 11, 13, shard=1, loses=True)
    assert verdict(records, elsewhere).problems == {"out of order": 3}


@pytest.mark.parametrize(
    ("event", "excused"),
    [
        (Event("server stopped", 11, 13, shard=0), True),
        (Event("server stopped", 11, 13, shard=1), False),
        (Event("server stopped", 1, 3, shard=0), False),
        (Event("process stopped", 11, 13, pid=1), True),
        (Event("process stopped", 11, 13, pid=2), False),
        (Event("cluster down", 11, 13, shard=0), True),
        (Event("out of memory", 11, 13, shard=0), False),
        (Event("connections killed", 11, 11, shard=0), False),
    ],
)
def test_a_turn_is_lost_by_its_own_trouble_only(
    records: redis.Redis, event: Event, excused: bool
) -> None:
    """That of its server or of its process, within the last lease."""
    note(records, "lost", 14.0, reason="its lease ran out", f="101")
    found = verdict(records, event)
    assert found.problems == ({} if excused else {"turn lost": 1})
    assert sum(found.lost.values()) == 1


def test_an_overlap_is_noticed(records: redis.Redis) -> None:
    """Unless a server has just forgotten the turn: then the fence is what protects."""
    note(records, "overlap", 14.0, f="101")
    assert verdict(records, Event("server stopped", 11, 13, shard=0)).problems == {"overlap": 1}
    assert verdict(records, Event("server killed", 11, 13, shard=0, loses=True)).problems == {}


def test_a_process_that_the_machine_did_not_run_is_excused(records: redis.Redis) -> None:
    """It says so itself, and it is counted."""
    note(records, "lost", 14.0, reason="its lease ran out", f="101")
    note(records, "starved", 13.5, since=11.0)
    found = verdict(records)
    assert found.problems == {}
    assert found.lost == {"process starved": 1}
