"""The demo on every kind of tracker store that processes can share, each on its real server."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ticketlock.cli import EXIT_SIGNAL
from ticketlock.demo.judge.turns import KINDS
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.events import UserUttered
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.tracker.tracker import Tracker

Sections = Callable[[str], dict[str, Any]]

#: One of each kind. SQLite is what the demo has by itself; the contract tests have all of them.
KINDS_OF_STORES = ("postgres", "redis-cluster", "mongo", "dynamo")


def command(folder: Path, endpoints: dict[str, Any], *words: str) -> list[str]:
    """`ticketlock demo --json` with a file of these sections."""
    file = folder / "endpoints.yml"
    file.write_text(json.dumps(endpoints))  # JSON is YAML
    demo = [sys.executable, "-m", "ticketlock", "demo", "--json", "--endpoints", str(file)]
    return [*demo, *words]


def demo(folder: Path, endpoints: dict[str, Any], *words: str) -> dict[str, Any]:
    """What it says."""
    line = command(folder, endpoints, *words)
    ended = subprocess.run(line, capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode == 0, ended.stderr
    values: dict[str, Any] = json.loads(ended.stdout)
    return values


def keys(section: dict[str, Any]) -> list[str]:
    async def read() -> list[str]:
        async with create_tracker_store(section) as store:
            return await store.keys()

    return asyncio.run(read())


def assert_kept(values: dict[str, Any], count: int) -> None:
    assert {kind: values[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0)
    assert values["handled"] == count


@pytest.mark.slow
@pytest.mark.parametrize("backend", KINDS_OF_STORES)
def test_whole_turns_on_every_kind_of_store_and_nothing_left_in_it(
    backend: str, tracker_sections: Sections, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    section = tracker_sections(backend)

    async def prepare() -> None:
        async with create_tracker_store(section) as store:
            await store.save(Tracker("somebody", [UserUttered("hello")]))

    asyncio.run(prepare())
    locks = {"type": "concurrent_redis", "url": redis_server.url}
    endpoints = {"lock_store": locks, "tracker_store": section}
    values = demo(tmp_path, endpoints, "--count", "60", "--kill", "1", "--replicas", "2")
    assert_kept(values, 60)
    assert (values["kills"], values["lock_store"]) == (1, "concurrent_redis")
    assert values["tracker_store"].split()[0] == section["type"]
    assert keys(section) == ["somebody"]


def test_the_polling_lock_store_can_be_shown_too(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    locks = {"type": "redis", "url": redis_server.url}
    values = demo(tmp_path, {"lock_store": locks}, "--count", "100", "--conversations", "20")
    assert_kept(values, 100)
    assert (values["lock_store"], values["tracker_store"]) == ("redis", "sql (sqlite)")


def test_kept_conversations_stay_and_the_next_demo_does_not_mind(tmp_path: Path) -> None:
    section = {"type": "sql", "db": str(tmp_path / "kept.db")}
    for run in (1, 2):
        words = ("--count", "20", "--conversations", "4", "--keep", "--replicas", "1")
        assert_kept(demo(tmp_path, {"tracker_store": section}, *words), 20)
        kept = keys(section)
        assert len(kept) == 4 * run
        assert all(key.startswith("demo-") for key in kept)


def test_an_interrupted_demo_takes_its_conversations_with_it(tmp_path: Path) -> None:
    section = {"type": "sql", "db": str(tmp_path / "shared.db")}
    line = command(tmp_path, {"tracker_store": section}, "--count", "100000")
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 90
            while len(keys(section)) < 5:
                assert time.monotonic() < end, "it does not begin"
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            process.wait(30)
        finally:
            process.kill()
    assert process.returncode == EXIT_SIGNAL + signal.SIGINT
    assert keys(section) == []
