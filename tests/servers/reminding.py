"""A bot that does what its message says, in steps, and answers to reminders; and what it has done."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any

from ticketlock.events import ReminderScheduled
from ticketlock.events.event import Event
from ticketlock.server import Message
from ticketlock.tracker.reminders import message_id
from ticketlock.turn import Turn


def reminder(name: str | None = "tea", after: float = 0.0, **more: Any) -> dict[str, Any]:
    """The event of a reminder that is due after some seconds."""
    at = datetime.fromtimestamp(time.time() + after, timezone.utc).isoformat()
    given = {"event": "reminder", "intent": "drink", "date_time": at, "timestamp": time.time()}
    return {**given, **({} if name is None else {"name": name}), **more}


def id_of(wire: dict[str, Any]) -> str:
    """The id of the message by which a reminder fires."""
    event = Event.from_dict(wire)
    assert isinstance(event, ReminderScheduled)
    return message_id(event)


def script(*steps: Any) -> str:
    """A message whose turn has these steps: events; "commit"; "discard"; "wait" until `Steps.go` is set."""
    return json.dumps(steps)


class Steps:
    """The bot.

    Attributes:
        fired: the messages of reminders and intents, in order.
        waits: is set when a turn waits.
        go: lets it go on.
    """

    def __init__(self) -> None:
        self.fired: list[Message] = []
        self.waits, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, turn: Turn, message: Message) -> AsyncIterator[str]:
        if message.text.startswith("EXTERNAL: "):
            self.fired.append(message)
            if message.text == "EXTERNAL: wait":
                self.waits.set()
                await self.go.wait()
            yield f"fired: {message.parse_data['intent']['name']}"
            return
        for step in json.loads(message.text):
            if step == "commit":
                await turn.commit()
            elif step == "wait":
                self.waits.set()
                await self.go.wait()
            elif step == "discard":
                turn.discard()
            elif step == "fail":
                raise RuntimeError("as it was told")
            else:
                turn.add(step)
        yield "done"
