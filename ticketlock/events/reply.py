"""Replies of a bot: from what it says to events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidEvent
from . import BotUttered
from .codec import certainly_stored, encode_events

#: Keys of a reply.
REPLY_KEYS = ("text", "buttons", "image", "attachment", "custom", "metadata")
#: Keys of a response that channels show, beside its text.
_SHOWN = ("elements", "quick_replies", "buttons", "attachment", "image", "custom")


def reply_event(reply: str | Mapping[str, Any]) -> BotUttered:
    """The event of a reply: a text, or a mapping with some of `REPLY_KEYS`.

    Raises InvalidEvent if it is neither, or cannot be stored.
    """
    if isinstance(reply, str):
        reply = {"text": reply}
    if not isinstance(reply, Mapping):
        raise InvalidEvent(f"a reply is a text or a mapping, not {type(reply).__name__}")
    if unknown := [key for key in reply if key not in REPLY_KEYS]:
        known = ", ".join(REPLY_KEYS)
        raise InvalidEvent(f"a reply has the key {unknown[0]!r:.80}; known: {known}")
    said = {key: value for key, value in reply.items() if value is not None}
    text, metadata = said.pop("text", None), said.pop("metadata", {})
    if text is not None and not isinstance(text, str):
        raise InvalidEvent(f"the text of a reply is not text, but {type(text).__name__}")
    if not isinstance(metadata, Mapping):
        raise InvalidEvent("the metadata of a reply is not a mapping")
    if not said and not metadata and certainly_stored(text or ""):
        return BotUttered(text)
    return _checked(BotUttered(text, data=said, metadata=dict(metadata)), "a reply")


def utterance(message: Mapping[str, Any]) -> BotUttered:
    """The event of a response, of a domain or an action, in the documented shape.

    What a channel shows is `text` and `data`, all else is metadata. An image is an attachment too,
    for old clients. Raises InvalidEvent if it cannot be stored.
    """
    data = {key: message[key] for key in _SHOWN if message.get(key) is not None}
    if data.get("image") and not data.get("attachment"):
        data["attachment"] = data["image"]
    about = {key: value for key, value in message.items() if key not in ("text", *_SHOWN)}
    return _checked(BotUttered(message.get("text"), data=data, metadata=about), "a response")


def _checked(event: BotUttered, what: str) -> BotUttered:
    try:
        encode_events([event.as_dict()])
    except InvalidEvent as error:
        raise InvalidEvent(f"{what} cannot be stored: {error}") from error
    return event
