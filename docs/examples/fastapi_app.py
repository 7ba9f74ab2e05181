"""The bot server mounted in a FastAPI app: `uvicorn fastapi_app:app`.

Its webhook is then at /bot/webhooks/rest/webhook.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from slots_bot import bot

from ticketlock import Conversations
from ticketlock.server import Settings, create_app

conversations = Conversations.from_endpoints(os.environ.get("ENDPOINTS", "endpoints.yml"))
bot_server = create_app(conversations, bot, Settings(request_timeout=30))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """A mounted app has no lifespan of its own: the outer one opens and closes the stores."""
    async with conversations:
        yield
        await bot_server.drain()


app = FastAPI(lifespan=lifespan)
app.mount("/bot", bot_server)


@app.get("/conversations/{sender_id}/slots")
async def slots(sender_id: str) -> dict[str, object]:
    """The app's own endpoints use the same stores."""
    tracker = await conversations.tracker_store.retrieve(sender_id)
    return dict(tracker.slots) if tracker else {}
