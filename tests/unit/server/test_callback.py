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


async def test_an_accepted_message() -> None:
    """With async=true it is answered 202, as by the REST webhook; without, as documented."""
    async with Conversations() as conversations:
        settings = CallbackSettings(url="http://127.0.0.1:1/", allow_private=True)
        app = create_app(conversations, callback=settings)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            body = {"sender": "c", "message": "hi", "message_id": "1"}
            path = "/webhooks/callback/webhook"
            answer = await http.post(f"{path}?async=true", json=body)
            assert (answer.status_code, answer.json()["ticket"]) == (202, 1)
            outcome = await http.get(f"{answer.json()['outcome']}?wait=10")
            assert outcome.json()["replies"] == [{"recipient_id": "c", "text": "hi"}]
            answer = await http.post(path, json=body)
            assert (answer.status_code, answer.text) == (200, "success")
        await app.drain()
