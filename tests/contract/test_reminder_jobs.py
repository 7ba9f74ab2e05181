"""The jobs of reminders in *later*: each reminder has its own, as long as its history wants it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from contract.test_reminders import CANCEL, HOUR, World, world
from servers.inboxes import until
from servers.reminding import id_of, reminder

__all__ = ["world"]  # the fixture
pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("more", [{}, {"name": None}, {"name": ""}], ids=str)
async def test_without_a_name(world: World, more: dict[str, Any]) -> None:
    """It has none at each reading: it fires, and a later one does not replace it."""
    first = reminder(None, kill_on_user_msg=False) | more
    second = first | {"intent": "eat"}
    await world.say(first, second)
    await until(lambda: len(world.bot.fired) == 2)
    assert {message.text for message in world.bot.fired} == {"EXTERNAL: drink", "EXTERNAL: eat"}


async def test_reminders_that_differ_by_their_entities(world: World) -> None:
    """An action makes several without a name, within a millisecond: each of them fires."""
    at, kinds = time.time(), ["black", "green", "white"]
    same = {"date_time": "2026-11-26T20:00:00Z", "timestamp": at, "kill_on_user_msg": False}
    await world.say(*[reminder(None, entities={"kind": kind}, **same) for kind in kinds])
    await until(lambda: len(world.bot.fired) == 3)
    fired = [message.parse_data["entities"][0]["value"] for message in world.bot.fired]
    assert sorted(fired) == kinds


async def test_a_cancellation_that_is_discarded(world: World) -> None:
    """It is not stored, so the reminder still fires."""
    tea = reminder(after=HOUR, kill_on_user_msg=False)
    await world.say(tea)
    await world.say(CANCEL, "discard", {"event": "slot", "name": "s", "value": 1})
    assert await world.jobs() == [id_of(tea)]


async def test_all_of_many_are_removed(world: World) -> None:
    """Else the conversation could schedule no more, and cancelling would not help."""
    await world.say(*[reminder(f"r{i}", HOUR, kill_on_user_msg=False) for i in range(250)])
    assert len(await world.conversations.due("c", 1000)) == 250
    await world.say(CANCEL)
    assert await world.jobs() == []


@pytest.mark.parametrize(
    "stored", [{}, {"date_time": "tomorrow"}, {"date_time": "2099-01-01T00:00:00Z"}], ids=str
)
async def test_a_long_session_schedules_nothing(world: World, stored: dict[str, Any]) -> None:
    """What an older version or an import has left in the history does not fire, and stops no turn."""
    left = reminder("left", kill_on_user_msg=False) | stored
    await world.say()
    answer = await world.http.post("/conversations/c/tracker/events", json=left)
    assert answer.status_code == 200
    for _ in range(3):
        answer = await world.say(*[{"event": "slot", "name": "s", "value": 1}] * 30)
        assert answer.status_code == 200, answer.text
    starts = [event["event"] for event in await world.history()].count("session_started")
    assert starts == 2
    assert await world.jobs() == []
    assert world.bot.fired == []
