"""A bot with slots: it asks for a name once, and knows it from then on.

ticketlock run --bot slots_bot:bot
"""

from collections.abc import AsyncIterator
from typing import Any

from ticketlock import Turn
from ticketlock.server import Message, Reply


def slot(name: str, value: Any) -> dict[str, Any]:
    return {"event": "slot", "name": name, "value": value}


async def bot(turn: Turn, message: Message) -> AsyncIterator[Reply]:
    """Its slots are in the tracker; what is added is written with the turn, or not at all."""
    slots = turn.tracker.slots
    if message.text == "forget me":
        turn.add({"event": "reset_slots"})
        yield "Who was that?"
    elif slots.get("name"):
        yield {"text": f"{slots['name']}, you said: {message.text}"}
    elif slots.get("asked"):
        turn.add(slot("name", message.text))
        buttons = [{"title": "Forget me", "payload": "forget me"}]
        yield {"text": f"Hello {message.text}!", "buttons": buttons}
    else:
        turn.add(slot("asked", True))
        yield "What is your name?"
