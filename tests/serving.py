"""The bot server in this process, spoken to over ASGI, and bots for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from ticketlock import Conversations
from ticketlock.server import Message, Settings, create_app
from ticketlock.server.channels.channel import Channel
from ticketlock.turn import Turn


@asynccontextmanager
async def client(
    bot: Any = None,
    stores: tuple[Any, Any] = (None, None),
    channels: Sequence[Channel] = (),
    actions: str | None = None,
    **settings: Any,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server; `client.app` is the server.

    Args:
        stores: lock store and tracker store, or their sections; None: in memory.
        actions: where the action server is called.
    """
    endpoint = None if actions is None else {"url": actions}
    async with Conversations(*stores, action_endpoint=endpoint) as conversations:
        given = {} if bot is None else {"bot": bot}
        app = create_app(conversations, settings=Settings(**settings), channels=channels, **given)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://bot") as made:
            made.app = app  # type: ignore[attr-defined]  # for the test
            yield made


async def send(http: httpx.AsyncClient, text: str, **body: Any) -> httpx.Response:
    """A message over the REST channel."""
    return await http.post("/webhooks/rest/webhook", json={"message": text, **body})


def talk(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events without those that start a session."""
    starts = ("action_session_start", "action_listen", "session_started_metadata")
    return [e for e in events if e["event"] != "session_started" and e.get("name") not in starts]


class Gate:
    """A bot that stands still in each message until it is let through, and counts its calls."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.texts: list[str] = []

    async def __call__(self, turn: Turn, message: Message) -> AsyncIterator[str]:
        self.texts.append(message.text)
        self.entered.set()
        yield "begun"
        await self.open.wait()
        yield f"done: {message.text}"
