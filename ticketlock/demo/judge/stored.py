"""Turns as a tracker store holds them: a user event and, right behind it, the bot's answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...events import LISTEN, SESSION_START, ActionExecuted, BotUttered, SessionStarted, UserUttered
from ...events.event import Event

#: Kind of violation, its message if it is about one, and a text.
Finding = tuple[str, "int | None", str]


@dataclass(frozen=True)
class StoredTurn:
    """A turn as its answer describes it.

    Attributes:
        place: the number of events stored before it.
        seen: the number of events that it had read when it began.
        number: its ticket number.
        replica: the process that wrote it.
    """

    message: int
    place: int
    seen: int
    number: int
    fence: int
    replica: str


def read_turns(
    events: Sequence[Event], texts: Mapping[int, str]
) -> tuple[list[StoredTurn], set[int], list[Finding]]:
    """The turns of a conversation in stored order, and the events that are not of a whole turn.

    Args:
        texts: the texts of the messages that were sent, by id.

    Returns:
        The turns; the messages that are stored without their answer, which would not be handled
        again; and the violations: half a turn is `torn`, an event that the bot did not write is
        `damaged`.
    """
    names = {str(message): message for message in texts}
    turns: list[StoredTurn] = []
    halves: set[int] = set()
    found: list[Finding] = []
    answered = -1  # place of the last answer that belongs to a turn
    begun = -1  # place after the events that start a session, added by the turn after them
    start = 0
    for place, event in enumerate(events):
        if place == answered:
            continue
        if _starts_session(event):
            start = start if place == begun else place
            begun = place + 1
        elif isinstance(event, BotUttered):
            text = f"event {place}: an answer without its message"
            found.append(("torn", _integer(event.metadata.get("message")), text))
        elif not isinstance(event, UserUttered):
            found.append(("damaged", None, f"event {place} was not written by the demo: {event}"))
        elif (message := names.get(event.message_id or "")) is None:
            text = f"event {place}: message_id {event.message_id!r} was never sent here"
            found.append(("damaged", None, text))
            if _answers(events[place + 1 : place + 2], event):
                answered = place + 1
        else:
            if event.text != texts[message]:
                text = f"event {place}: {event.text!r:.100} is not what was sent"
                found.append(("damaged", message, text))
            before = start if place == begun else place
            turn = _turn(message, before, event, events[place + 1 : place + 2])
            if turn is None:
                halves.add(message)
                found.append(("torn", message, f"event {place}: a message without its answer"))
            else:
                turns.append(turn)
                answered = place + 1
    return turns, halves, found


def _starts_session(event: Event) -> bool:
    """Whether it is one of the events with which the server starts a session."""
    names = (SESSION_START, LISTEN)
    return isinstance(event, SessionStarted) or (
        isinstance(event, ActionExecuted) and event.name in names
    )


def _integer(value: object) -> int | None:
    return value if type(value) is int else None


def _answers(behind: Sequence[Event], user: UserUttered) -> bool:
    """Whether the next event can be its answer."""
    return any(isinstance(event, BotUttered) and event.text == user.text for event in behind)


def _turn(
    message: int, place: int, user: UserUttered, behind: Sequence[Event]
) -> StoredTurn | None:
    """The turn of a user's event; None if its answer does not follow."""
    if not _answers(behind, user):
        return None
    facts = behind[0].metadata
    whose, *numbers = [_integer(facts.get(key)) for key in ("message", "seen", "number", "fence")]
    replica = facts.get("replica")
    if whose != message or None in numbers or not isinstance(replica, str):
        return None
    seen, number, fence = (number or 0 for number in numbers)
    return StoredTurn(message, place, seen, number, fence, replica)
