"""Calls are sent as the bytes that the driver would make of their words."""

from __future__ import annotations

import tracemalloc
from typing import Any

import hiredis
import pytest

from ticketlock.locks.concurrent.requests import Requests
from ticketlock.locks.concurrent.scripts import Scripts, Timing
from ticketlock.locks.grant import Grant
from ticketlock.locks.waiter import Waiter
from ticketlock.redis.settings import RedisSettings

NAMES = ("anna", "Zoë 😀 {a}%7D", "", "c" * 300, "é" * 3000, "line\r\nbreak")


@pytest.fixture(params=[{}, {"key_prefix": "préfix"}])
def requests(request: pytest.FixtureRequest) -> Requests:
    timing = Timing(lease=4321, waiter_ttl=1234, idle=98765)
    scripts = Scripts(RedisSettings.of(request.param), timing, "0123456789abcdef", "host:7")
    return Requests(scripts, 0.5)


def waiter(name: str, **options: Any) -> Waiter:
    made = Waiter(name, options.pop("lock_lifetime", 60.0), **options)
    made.member = f"0123456789abcdef.12-secret~7{made.suffix}"
    return made


def grant(name: str, fence: int) -> Grant:
    return Grant(name, 3, fence, 0.0, 60.0, member="0123456789abcdef.13-secret.la%20bel")


def subjects() -> list[Waiter | Grant]:
    """Each kind, and each number that differs between calls."""
    found: list[Waiter | Grant] = [waiter(name) for name in NAMES]
    found += [grant(name, 1795753256294437) for name in NAMES]
    found += [waiter("a", lock_lifetime=0.25), waiter("a", lock_lifetime=1e6), grant("a", 1)]
    found += [waiter("a", max_waiting=0), waiter("a", max_waiting=12345), waiter("a", label="ö x")]
    found += [waiter("a", wait_timeout=0, max_waiting=5)]
    return found


def test_a_call_for_one(requests: Requests) -> None:
    for subject in subjects() * 2:  # from the cache too
        assert requests.packed([subject]) == hiredis.pack_command(requests.alone(subject))


def test_a_call_for_several(requests: Requests) -> None:
    """Keys and arguments in the order of the subjects, acquires and releases mixed."""
    several = subjects()
    keys: list[str] = []
    args: list[Any] = []
    for subject in several:
        words = requests.alone(subject)
        count = int(words[2])
        counter = requests._scripts.keys.of(subject.conversation_id)[:1]
        keys += words[3:7] if count == 4 else (*counter, *words[3:6])
        args += (words[7], words[12], words[14]) if count == 4 else (*words[6:8], "")
    expected = hiredis.pack_command(requests._scripts.batch(keys, args))
    assert requests.packed(several) == expected


def test_long_ids_are_not_kept(requests: Requests) -> None:
    """A thousand of 64 KB, as a caller may invent them, held 320 MB."""
    tracemalloc.start()
    try:
        for i in range(100):
            requests.packed([waiter(f"{i}" + "x" * 65536)])
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()


def test_keys_of_ten_thousand_conversations_are_made_once(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has so many at once uses them in turn, which a smaller cache never hits."""
    waiters = [waiter(f"conversation-{i}") for i in range(10_000)]
    first = [requests.packed([one]) for one in waiters]
    monkeypatch.setattr(requests, "_ends", [])
    assert [requests.packed([one]) for one in waiters] == first
