"""Turns as a tracker store holds them: a user event and, right behind it, the bot's answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..event_base import Event
from ..events import BotUttered, UserUttered

#: Kind of violation, message if it is about one, and words.
Found = tuple[str, "int | None", str]


@dataclass(frozen=True)
class StoredTurn:
    """What a turn's events say.

    Attributes:
        place: how many events are stored before it.
        seen: how many it had read when it began.
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
) -> tuple[list[StoredTurn], list[Found]]:
    """The turns of a conversation in stored order, and what is no whole turn.

    Args:
        texts: of the messages that were sent, by id.

    Half a turn is `torn`; what the bot cannot have written is `damaged`. A user event without
    its answer is among the turns all the same: the message would not be handled again.
    """
    turns: list[StoredTurn] = []
    found: list[Found] = []
    answered = -1  # place of the last answer that belongs to a turn
    for place, event in enumerate(events):
        turn = _turn(event, place)
        if place == answered:
            continue
        if isinstance(event, BotUttered):
            message = turn.message if turn else None
            found.append(("torn", message, f"event {place}: an answer without its message"))
        elif not isinstance(event, UserUttered) or turn is None:
            found.append(("damaged", None, f"event {place} is none of the bot's: {event}"))
        else:
            turns.append(turn)
            found += _problems(event, turn, texts)
            if _answers(events[place + 1 : place + 2], event):
                answered = place + 1
            else:
                found.append(("torn", turn.message, f"event {place}: a message without its answer"))
    return turns, found


def _turn(event: Event, place: int) -> StoredTurn | None:
    """What the event says of its turn; None if it does not say it."""
    facts = event.metadata
    numbers = [facts.get(key) for key in ("message", "seen", "number", "fence")]
    replica = facts.get("replica")
    if not all(type(number) is int for number in numbers) or not isinstance(replica, str):
        return None
    message, seen, number, fence = map(int, numbers)  # type: ignore[arg-type]  # int, see above
    return StoredTurn(message, place, seen, number, fence, replica)


def _problems(user: UserUttered, turn: StoredTurn, texts: Mapping[int, str]) -> Iterator[Found]:
    if user.message_id != str(turn.message):
        text = f"event {turn.place}: message_id {user.message_id!r} is not its own"
        yield "damaged", turn.message, text
    if turn.message not in texts:
        yield "damaged", turn.message, f"event {turn.place}: it was never sent here"
    elif user.text != texts[turn.message]:
        yield (
            "damaged",
            turn.message,
            f"event {turn.place}: {user.text!r:.100} is not what was sent",
        )


def _answers(behind: Sequence[Event], user: UserUttered) -> bool:
    """Whether the next event, if there is one, is the answer of the same turn."""
    return any(
        isinstance(event, BotUttered) and (event.text, event.metadata) == (user.text, user.metadata)
        for event in behind
    )
