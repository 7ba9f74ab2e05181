"""A Slack bot on any number of replicas: `uvicorn slack_bot:api --port 3000`.

Bolt takes SLACK_BOT_TOKEN and SLACK_SIGNING_SECRET from the environment, and refuses requests
whose signature is wrong.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from slack_bolt.adapter.starlette.async_handler import AsyncSlackRequestHandler
from slack_bolt.async_app import AsyncApp, AsyncSay
from starlette.applications import Starlette
from starlette.routing import Route

from ticketlock import Conversations, DuplicateMessage, Incoming, Turn

conversations = Conversations(
    lock_store={
        "type": "concurrent_redis",
        "url": os.environ.get("REDIS_URL", "redis://localhost:6379/1"),
    },
    tracker_store={"type": "sql", "db": "bot.db"},
)
# Slack is answered when the listener has returned; if it raises that is 500, and Slack retries.
app = AsyncApp(process_before_response=True)
working: set[asyncio.Task[None]] = set()


@app.event("message")
async def message(body: dict[str, Any], event: dict[str, Any], say: AsyncSay) -> None:
    """Take the message's place, and leave the rest to the background."""
    turn = conversations.turn(
        f"slack {body['team_id']} {event['channel']} {event.get('thread_ts', '')}",
        max_waiting=100,
        # Not the event_id: a message that mentions the bot may come as two events.
        incoming=Incoming(event["ts"]),
    )
    await turn.queue()
    task = asyncio.create_task(answer(turn, event, say))
    working.add(task)
    task.add_done_callback(working.discard)


async def answer(turn: Turn, event: dict[str, Any], say: AsyncSay) -> None:
    """Reply in the message's turn."""
    try:
        async with turn:
            count = turn.tracker.slots.get("count", 0) + 1
            reply = f"message {count}: {event['text']}"
            turn.add(
                {"event": "user", "text": event["text"]},
                {"event": "slot", "name": "count", "value": count},
                {"event": "bot", "text": reply},
            )
            turn.ensure_held()
            await say(reply, thread_ts=event.get("thread_ts"))
            turn.answer("")  # a retry of this message has nothing more to do
    except DuplicateMessage:
        pass  # this was one


@asynccontextmanager
async def lifespan(api: Starlette) -> AsyncIterator[None]:
    async with conversations:
        yield
        if working:  # Slack has its 200 for these
            await asyncio.wait(working, timeout=20)


events = Route("/slack/events", AsyncSlackRequestHandler(app).handle, methods=["POST"])
api = Starlette(routes=[events], lifespan=lifespan)
