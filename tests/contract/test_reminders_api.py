"""Reminders and intents over the endpoints of conversations."""

from __future__ import annotations

import json

import pytest
from contract.test_reminders import CANCEL, HOUR, World, world
from servers.deliveries import Receiver
from servers.reminding import Steps, id_of, reminder, script
from serving import client, send

__all__ = ["world"]  # the fixture
pytestmark = pytest.mark.anyio


async def test_side_effects_of_events(world: World) -> None:
    """POST tracker/events with execute_side_effects schedules and cancels."""
    url = "/conversations/c/tracker/events?execute_side_effects=true"
    late, now = reminder("late", HOUR), reminder()
    assert (await world.http.post(url, json=[late, now])).status_code == 200
    assert await world.fired(now)
    assert await world.jobs() == []  # the reminder that fired is a message of the user
    late = reminder("late", HOUR)
    await world.http.post(url, json=late)
    assert await world.jobs() == [id_of(late)]
    await world.http.post(url, json=CANCEL)
    assert await world.jobs() == []
    answer = await world.http.post(url, json=reminder(date_time="x"))
    assert answer.status_code == 400
    assert "reminder 'tea': date_time is 'x'" in answer.json()["message"]
    long = reminder(entities=[{"entity": "e", "value": "x" * 65_536}])
    answer = await world.http.post(url, json=long)
    assert "reminder 'tea': a message that comes due later has at most" in answer.json()["message"]


async def test_a_message_that_is_only_stored(world: World) -> None:
    """It takes reminders as one for the bot does, and their jobs with them."""
    tea, milk = reminder(after=HOUR), reminder("milk", after=HOUR, kill_on_user_msg=False)
    await world.say(tea, milk)
    body = {"sender": "user", "text": "hi"}
    answer = await world.http.post("/conversations/c/messages", json=body)
    assert answer.status_code == 200
    assert await world.jobs() == [id_of(milk)]


async def test_an_action_that_is_executed() -> None:
    """POST execute schedules and cancels what the action server answers."""
    late, kept = reminder(after=HOUR), reminder("kept", HOUR)
    async with Receiver().serving() as server:
        for events in ([late, kept], [{**CANCEL, "name": "tea"}]):
            text = json.dumps({"events": events, "responses": []}).encode()
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\n\r\n"
            server.replies.append(head.encode() + text)
        async with client(Steps(), actions=server.url) as http:
            app = http.app  # type: ignore[attr-defined]  # set by the client
            await send(http, script(), sender="c")
            wanted = [{id_of(late), id_of(kept)}, {id_of(kept)}]
            for jobs in wanted:
                url = "/conversations/c/execute"
                assert (await http.post(url, json={"name": "action_x"})).status_code == 200
                due = await app.handler.conversations.due("c")
                assert {one.message_id for one in due} == jobs
            await app.drain()


async def test_an_intent_is_triggered_once(world: World) -> None:
    """With a message id, or the header; in the channel of the user's last message."""
    await world.say(input_channel="app")
    url, body = "/conversations/c/trigger_intent?output_channel=latest", {"name": "greet"}
    headers = {"idempotency-key": "1"}
    answers = [await world.http.post(url, json=body, headers=headers) for _ in range(2)]
    answers.append(await world.http.post(url, json={**body, "message_id": "1"}))
    wanted = [{"recipient_id": "c", "text": "fired: greet"}]
    assert [answer.json()["messages"] for answer in answers] == [wanted] * 3
    assert len(world.bot.fired) == 1
    external = [event for event in await world.history() if event["event"] == "user"][1]
    assert (external["text"], external["input_channel"]) == ("EXTERNAL: greet", "app")
