"""The channel callback takes messages as the REST channel does."""

from __future__ import annotations

import httpx
import pytest
from vendors import channel

from ticketlock import Conversations
from ticketlock.deliveries.settings import CallbackSettings
from ticketlock.server import create_app


@pytest.mark.parametrize("path", ["rest", "callback"])
async def test_no_webhook_writes_into_another_channels_conversation(path: str) -> None:
    """Whichever of those that take any sender it is."""
    async with Conversations() as conversations:
        settings = CallbackSettings(url="http://127.0.0.1:1/", allow_private=True)
        app = create_app(conversations, channels=[channel("slack")], callback=settings)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            for sender, status in (("slack:T1:D1", 403), ("slack", 200)):
                body = {"sender": sender, "message": "hi"}
                answer = await http.post(f"/webhooks/{path}/webhook", json=body)
                assert answer.status_code == status, (sender, answer.text)
        await app.drain()
