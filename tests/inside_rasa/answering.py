"""The bot of step 3, for `ticketlock run --bot answering:bot`: it asks the same action server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import httpx

from ticketlock import Turn
from ticketlock.server import Message


async def bot(turn: Turn, message: Message) -> AsyncIterator[str]:
    body = {
        "sender_id": message.sender_id,
        "tracker": {"latest_message": {"text": message.text}},
    }
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(os.environ["ACTIONS_URL"], json=body)
    for reply in answer.raise_for_status().json()["responses"]:
        yield reply["text"]
