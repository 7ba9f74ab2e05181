"""The inbox on bad days: Redis killed with its data, all replicas gone again and again, floods."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest
from integration.test_inbox import accept, outcome
from integration.test_server import said, texts
from servers.bot_server import replicas, write_files

from ticketlock.redis.embedded import EmbeddedRedis

#: Rolls within one turn; ten take a minute and a half.
ROLLS = int(os.environ.get("TICKETLOCK_ROLLS") or 5)

FSYNC = ["--appendonly", "yes", "--appendfsync", "always"]

#: Like the bot of other tests; it notes each call.
NOTING = """
import asyncio
from pathlib import Path

async def bot(turn, message):
    with Path("calls").open("a") as file:
        print(message.text, message.attempt, file=file)
    yield f"begun: {message.text}"
    await asyncio.sleep(message.metadata.get("seconds", 0))
    yield f"done: {message.text}"
"""


@pytest.mark.slow
async def test_redis_is_killed_and_restarted(tmp_path: Path) -> None:
    """With its data: what was accepted is handled once, in order; what runs goes on or comes back."""
    with EmbeddedRedis(FSYNC) as server:
        write_files(tmp_path, server.url, retry_time=1)
        async with httpx.AsyncClient(timeout=30) as http:
            with replicas(tmp_path, [], []) as (one, two):
                slow = {"metadata": {"seconds": 1}}
                accepted = [await accept(http, one, "r", text, **slow) for text in "123"]
                assert {each["durability"] for each in accepted} == {"appendonly"}
                await asyncio.sleep(0.3)
                server.stop(kill=True)
                await asyncio.sleep(1)
                server.start()
                found = [await outcome(http, two, each, 30) for each in accepted]
                assert [each["state"] for each in found] == ["replied"] * 3
                assert await texts(http, two, "r") == said("1", "2", "3")


@pytest.mark.slow
@pytest.mark.bound(150)
async def test_rolls_within_one_long_turn(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """Deploys do not use attempts up: the message is handled, and no letter is dead."""
    write_files(tmp_path, redis_server.url, max_attempts=2, drain_timeout=0.1)
    (tmp_path / "slow_bot.py").write_text(NOTING)
    async with httpx.AsyncClient(timeout=30) as http:
        accepted = None
        for _ in range(ROLLS):
            with replicas(tmp_path, []) as [one]:
                if accepted is None:
                    accepted = await accept(http, one, "t", "1", metadata={"seconds": 2.5})
                await asyncio.sleep(1)
                one.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(one.process.wait, 20)
        assert accepted is not None
        with replicas(tmp_path, []) as [last]:
            assert (await outcome(http, last, accepted, 30))["state"] == "replied"
            assert await texts(http, last, "t") == said("1")
        calls = (tmp_path / "calls").read_text().split("\n")[:-1]
        assert len(calls) > ROLLS / 2
        assert set(calls) == {"1 1"}


@pytest.mark.slow
async def test_a_message_that_kills_its_replica(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """It is tried as often as `max_attempts` says, then set apart; the others are handled."""
    write_files(tmp_path, redis_server.url, max_attempts=2)
    killing = "\n    if message.text == 'poison':\n        import os; os.kill(os.getpid(), 9)\n"
    head = '    yield f"begun: {message.text}"\n'
    (tmp_path / "slow_bot.py").write_text(NOTING.replace(head, head + killing))
    async with httpx.AsyncClient(timeout=30) as http:
        with replicas(tmp_path, [], [], []) as (one, two, three):
            slow = {"metadata": {"seconds": 1}}  # all are accepted before the second one's turn
            accepted = [
                await accept(http, one, "p", text, **slow) for text in ("good", "poison", "last")
            ]
            alive = three
            for _ in range(100):
                living = [each for each in (one, two, three) if each.process.poll() is None]
                alive = living[0]
                if len(living) == 1:
                    break
                await asyncio.sleep(0.2)
            found = [await outcome(http, alive, each, 20) for each in accepted]
            assert [each["state"] for each in found] == ["replied", "dead", "replied"]
            assert await texts(http, alive, "p") == said("good", "last")


@pytest.mark.slow
async def test_a_flood_in_one_conversation_costs_the_others_little(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """With room for two turns, conversations with many messages give their places to others."""
    write_files(tmp_path, redis_server.url, max_turns=2, max_waiting=200)
    gate = "\n    while not Path('open').exists():\n        await asyncio.sleep(0.01)\n"
    head = '    yield f"begun: {message.text}"\n'
    (tmp_path / "slow_bot.py").write_text(NOTING.replace(head, head + gate))
    async with httpx.AsyncClient(timeout=60) as http:
        with replicas(tmp_path, []) as [one]:
            flood = [await accept(http, one, f"flood{i % 4}", f"flood {i}") for i in range(100)]
            singles = [await accept(http, one, f"single{i}", f"single {i}") for i in range(10)]
            (tmp_path / "open").touch()
            found = [await outcome(http, one, each, 60) for each in [*singles, *flood]]
            assert {each["state"] for each in found} == {"replied"}
        calls = (tmp_path / "calls").read_text().splitlines()
        assert len(calls) == 110
        last = max(place for place, call in enumerate(calls) if call.startswith("single"))
        assert last < 30, calls
