"""A WhatsApp bot on any number of replicas: `uvicorn whatsapp_bot:app --port 8080`."""

import asyncio
import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import PlainTextResponse

from ticketlock import Conversations, DuplicateMessage, Incoming, Turn

GRAPH = os.environ.get("GRAPH_URL", "https://graph.facebook.com/v23.0")
ACCESS_TOKEN = os.environ["WHATSAPP_ACCESS_TOKEN"]
APP_SECRET = os.environ["WHATSAPP_APP_SECRET"].encode()
VERIFY_TOKEN = os.environ["WHATSAPP_VERIFY_TOKEN"]

conversations = Conversations(
    lock_store={
        "type": "concurrent_redis",
        "url": os.environ.get("REDIS_URL", "redis://localhost:6379/1"),
    },
    tracker_store={"type": "sql", "db": "bot.db"},
)
graph = httpx.AsyncClient(headers={"Authorization": f"Bearer {ACCESS_TOKEN}"}, timeout=30)
working: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with graph, conversations:
        yield
        if working:  # WhatsApp has its 200 for these
            await asyncio.wait(working, timeout=20)


app = FastAPI(lifespan=lifespan)


@app.get("/whatsapp")
async def subscribe(
    token: str = Query(alias="hub.verify_token"), challenge: str = Query(alias="hub.challenge")
) -> PlainTextResponse:
    """Meta asks once whether the webhook is ours."""
    if not hmac.compare_digest(token.encode(), VERIFY_TOKEN.encode()):
        raise HTTPException(403)
    return PlainTextResponse(challenge)


# -- shown in docs/how-to --
@app.post("/whatsapp")
async def webhook(request: Request) -> None:
    """Take the places of the messages, and leave the rest to the background."""
    body = await request.body()
    signature = "sha256=" + hmac.new(APP_SECRET, body, "sha256").hexdigest()
    given = request.headers.get("X-Hub-Signature-256", "")
    if not hmac.compare_digest(signature.encode(), given.encode()):
        raise HTTPException(403)
    for entry in (await request.json())["entry"]:
        for change in entry["changes"]:
            number = change["value"]["metadata"]["phone_number_id"]
            for message in change["value"].get("messages", ()):
                if message["type"] == "text":
                    await place(number, message)


async def place(number: str, message: dict[str, Any]) -> None:
    turn = conversations.turn(
        f"whatsapp {number} {message['from']}",
        max_waiting=100,
        # WhatsApp goes on retrying for days.
        incoming=Incoming(message["id"], window=7 * 24 * 3600),
    )
    await turn.queue()
    task = asyncio.create_task(answer(turn, number, message))
    working.add(task)
    task.add_done_callback(working.discard)


async def answer(turn: Turn, number: str, message: dict[str, Any]) -> None:
    """Reply in the message's turn."""
    text = message["text"]["body"]
    try:
        async with turn:
            count = turn.tracker.slots.get("count", 0) + 1
            reply = f"message {count}: {text}"
            turn.add(
                {"event": "user", "text": text},
                {"event": "slot", "name": "count", "value": count},
                {"event": "bot", "text": reply},
            )
            turn.ensure_held()
            sent = await graph.post(
                f"{GRAPH}/{number}/messages",
                json={
                    "messaging_product": "whatsapp",
                    "to": message["from"],
                    "type": "text",
                    "text": {"body": reply},
                },
            )
            sent.raise_for_status()
            turn.answer("")  # a retry of this message has nothing more to do
    except DuplicateMessage:
        pass  # this was one
