"""Turns in the endpoints of a FastAPI app: `uvicorn fastapi_turns:app --workers 4`."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from ticketlock import Conversations, DuplicateMessage, Incoming, LockTimeout, QueueFull

conversations = Conversations(
    lock_store={
        "type": "concurrent_redis",
        "url": os.environ.get("REDIS_URL", "redis://localhost:6379/1"),
    },
    tracker_store={"type": "sql", "db": "bot.db"},  # SQLite; or a dialect, url, db of a server
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with conversations:
        yield


app = FastAPI(lifespan=lifespan)


class Message(BaseModel):
    message_id: str
    text: str


@app.post("/conversations/{sender_id}/messages")
async def message(sender_id: str, message: Message) -> dict[str, str]:
    """Handle one message of a conversation at a time, and each of them once."""
    incoming = Incoming(message.message_id)
    async with conversations.turn(
        sender_id, wait_timeout=10, max_waiting=100, incoming=incoming
    ) as turn:
        count = turn.tracker.slots.get("count", 0) + 1
        reply = f"message {count}: {message.text}"
        turn.add(
            {"event": "user", "text": message.text},
            {"event": "slot", "name": "count", "value": count},
            {"event": "bot", "text": reply},
        )
        turn.answer(reply)
    return {"reply": reply}  # here all three events are written


@app.exception_handler(DuplicateMessage)
async def duplicate(request: Request, error: DuplicateMessage) -> JSONResponse:
    """The message was sent again: it gets the reply of the first time."""
    return JSONResponse({"reply": error.reply})


@app.exception_handler(LockTimeout)
@app.exception_handler(QueueFull)
async def busy(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 429, {"Retry-After": "1"})
