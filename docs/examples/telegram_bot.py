"""A Telegram bot on any number of replicas, with aiogram: `python telegram_bot.py`.

TELEGRAM_TOKEN is the bot's token, TELEGRAM_SECRET what was given to `setWebhook` as
`secret_token`: aiogram refuses requests without it.
"""

import asyncio
import os

from aiogram import Bot, Dispatcher, F
from aiogram.types import Message, Update
from aiogram.webhook.aiohttp_server import SimpleRequestHandler, setup_application
from aiohttp import web

from ticketlock import Conversations, DuplicateMessage, Incoming, Turn

conversations = Conversations(
    lock_store={
        "type": "concurrent_redis",
        "url": os.environ.get("REDIS_URL", "redis://localhost:6379/1"),
    },
    tracker_store={"type": "sql", "db": "bot.db"},
)
bot = Bot(os.environ["TELEGRAM_TOKEN"])
dispatcher = Dispatcher()
working: set[asyncio.Task[None]] = set()


@dispatcher.message(F.text)
async def message(message: Message, event_update: Update) -> None:
    """Take the message's place, and leave the rest to the background."""
    turn = conversations.turn(
        f"telegram {bot.id} {message.chat.id} {message.message_thread_id or ''}",
        max_waiting=100,
        # Telegram goes on retrying for a day.
        incoming=Incoming(str(event_update.update_id), window=24 * 3600),
    )
    await turn.queue()
    task = asyncio.create_task(answer(turn, message))
    working.add(task)
    task.add_done_callback(working.discard)


async def answer(turn: Turn, message: Message) -> None:
    """Reply in the message's turn."""
    try:
        async with turn:
            count = turn.tracker.slots.get("count", 0) + 1
            reply = f"message {count}: {message.text}"
            turn.add(
                {"event": "user", "text": message.text},
                {"event": "slot", "name": "count", "value": count},
                {"event": "bot", "text": reply},
            )
            turn.ensure_held()
            await message.answer(reply)
            turn.answer("")  # a retry of this message has nothing more to do
    except DuplicateMessage:
        pass  # this was one


async def drain(app: web.Application) -> None:
    if working:  # Telegram has its 200 for these
        await asyncio.wait(working, timeout=20)
    await conversations.close()


def create_app() -> web.Application:
    app = web.Application()
    app.on_shutdown.append(drain)
    # Telegram is answered when the handler has returned; if it raises that is 500, and it retries.
    handler = SimpleRequestHandler(
        dispatcher, bot, handle_in_background=False, secret_token=os.environ["TELEGRAM_SECRET"]
    )
    handler.register(app, "/telegram")
    setup_application(app, dispatcher, bot=bot)
    return app


if __name__ == "__main__":
    web.run_app(create_app(), port=int(os.environ.get("PORT", "8080")))
