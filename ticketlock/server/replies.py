"""Replies of a bot: from events to objects of the REST channel.

The first answer to a message and the answer to a duplicate are made from the same events, so they
are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..events import BotUttered, UserUttered
from ..events.event import Event


def replies_in(events: Iterable[Event], recipient: str) -> list[dict[str, Any]]:
    """The replies among the events behind a message, up to the next message."""
    found: list[dict[str, Any]] = []
    for event in events:
        if isinstance(event, UserUttered):
            break
        found += rest_objects(event, recipient)
    return found


def rest_objects(event: Event, recipient: str) -> Iterator[dict[str, Any]]:
    """The documented objects of an event; none if it is not an utterance of the bot.

    A text without buttons is split at blank lines.
    """
    if not isinstance(event, BotUttered):
        return
    data = event.data if isinstance(event.data, Mapping) else {}
    buttons = data.get("quick_replies") or data.get("buttons")
    if buttons:
        yield {"recipient_id": recipient, "text": event.text or "", "buttons": buttons}
    elif event.text and isinstance(event.text, str):  # a stored one may have any type
        for part in paragraphs(event.text):
            yield {"recipient_id": recipient, "text": part}
    for key in ("image", "attachment", "custom"):
        if data.get(key) is not None and not (
            key == "attachment" and data[key] == data.get("image")  # stored twice, as documented
        ):
            yield {"recipient_id": recipient, key: data[key]}

    elements = data.get("elements")
    for one in elements if isinstance(elements, list) else ():
        if isinstance(one, Mapping):
            text = f"{one.get('title', '')} : {one.get('subtitle', '')}"
            yield {"recipient_id": recipient, "text": text, "buttons": one.get("buttons", [])}


def paragraphs(text: str) -> Iterable[str]:
    """The parts between blank lines; at least one, also if the text is only space."""
    stripped = text.strip()
    return [part for part in stripped.split("\n\n") if part.strip()] or [text]
