"""The details of one conversation: its lock, its transcript, its dead letters, its errors."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Sequence
from dataclasses import asdict
from typing import Any

from ...aio.running import result
from ...conversations import Conversations
from ...events import LISTEN, SESSION_START, ActionExecuted, BotUttered, SlotSet, UserUttered
from ...events.event import Event
from ...inbox.submission import Letter
from ...inbox.submission import SubmittedMessage as Message
from ...locks.inspection import Inspection, Waiting
from .dead_letters import DeadLetters
from .messages import letter_row
from .probes import problem
from .view import View, holder_row, process_of, state

#: Events of the transcript, and most characters of a text.
EVENTS, TEXT = 30, 500
#: Most waiting tickets that are shown.
_TICKETS = 50
#: Seconds in which a store must answer.
_PATIENCE = 3.0


async def details(
    conversations: Conversations, letters: DeadLetters, view: View, conversation_id: str
) -> dict[str, Any]:
    """The details of a conversation. A part that cannot be read has a `problem` instead."""
    inbox = conversations.inbox
    lock, transcript, dead, messages, given_up = await asyncio.gather(
        _part(conversations.lock_store.inspect(conversation_id, _TICKETS), _lock),
        _part(result(conversations.tracker_store.retrieve(conversation_id)), _transcript),
        _part(letters.listed(conversation_id), dict),
        _part(inbox.waiting(conversation_id, _TICKETS), _messages),
        _part(inbox.letters(conversation_id), _given_up),
    )
    known = next((row for row in view.rows if row["id"] == conversation_id), None)
    if (holder := lock.get("holder")) is not None:
        # The lock store knows every holder; its lifetime is in the reports of the replicas.
        reported = known["holder"] if known else None
        if reported is not None and reported["fence"] == holder["fence"]:
            holder["lifetime"] = reported["lifetime"]
        lock["state"] = state({"holder": holder, "longest_wait": 0.0})
    submitted = {row["number"]: row for row in messages.get("rows", ())}
    for ticket in lock.get("waiting", ()):
        ticket["message"] = submitted.get(ticket["number"])
    return {
        "id": conversation_id,
        "lock": lock,
        "given_up": given_up,
        "transcript": transcript,
        "letters": dead,
        "errors": [e for e in view.errors if e["conversation"] == conversation_id],
    }


async def _part(question: Awaitable[Any], shown: Any) -> dict[str, Any]:
    try:
        found = await asyncio.wait_for(question, _PATIENCE)
    except Exception as error:  # noqa: BLE001  # of a custom store it may be any; it is shown
        return {"problem": problem(error)}
    made: dict[str, Any] = shown(found)
    return {**made, "problem": ""}


def _lock(found: Inspection) -> dict[str, Any]:
    holder = holder_row(found.holder)
    if found.holder is not None and holder is not None:
        holder["lease"] = found.holder.lease
    return {
        "holder": holder,
        "waiting": [_ticket(ticket) for ticket in found.waiting],
        "waiting_count": found.waiting_count,
        "last_issued": found.last_issued,
    }


def _ticket(ticket: Waiting) -> dict[str, Any]:
    fields = asdict(ticket)
    kept = {key: fields[key] for key in ("number", "waiting_for", "alive", "label")}
    return {**kept, "process": process_of(ticket)}


def _messages(found: Sequence[Message]) -> dict[str, Any]:
    """Messages without their texts, which are personal data."""
    return {"rows": [message.as_dict(texts=False) for message in found]}


def _given_up(found: Sequence[Letter]) -> dict[str, Any]:
    return {"rows": [letter_row(letter, time.time()) for letter in reversed(found)]}


def _transcript(tracker: Any) -> dict[str, Any]:
    """The last events of the latest session."""
    events = [] if tracker is None else tracker.events
    shown = [line for event in events[-2 * EVENTS :] if (line := _line(event)) is not None]
    cut = len(events) > 2 * EVENTS or len(shown) > EVENTS
    return {"events": shown[-EVENTS:], "stored": len(events), "cut": cut}


def _line(event: Event) -> dict[str, Any] | None:
    """An event as a line of the transcript; None for technical events."""
    if isinstance(event, UserUttered):
        who, text = "user", event.text
    elif isinstance(event, BotUttered):
        who, text = "bot", event.text or "(a reply without text)"
    elif isinstance(event, ActionExecuted):
        if event.name in (LISTEN, SESSION_START):
            return None
        who, text = "action", event.name
    elif isinstance(event, SlotSet):
        who, text = "slot", f"{event.name} = {json.dumps(event.value, default=str)}"
    else:
        who, text = "event", str(event.as_dict().get("event"))
    text = text if isinstance(text, str) else str(text)
    moment = event.timestamp
    ago = time.time() - moment if isinstance(moment, (int, float)) else None
    cut = text if len(text) <= TEXT else text[:TEXT] + "…"
    # Lone surrogates cannot be encoded.
    return {"who": who, "text": cut.encode(errors="replace").decode(), "ago": ago}
