"""A conversation as a story in YAML, in the documented form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..aio.slices import sliced
from ..endpoints.file import yaml_text
from ..events import (
    LISTEN,
    SESSION_START,
    ActionExecuted,
    ActiveLoop,
    BotUttered,
    SlotSet,
    UserUttered,
)
from ..events.event import Event


async def stories(name: str, sessions: Iterable[Sequence[Event]]) -> str:
    """A document with a story for each session that has steps."""
    found = [
        steps for steps in await sliced(list(_steps(session)) for session in sessions) if steps
    ]
    lines = ['version: "3.1"', "stories:" if found else "stories: []"]
    for number, steps in enumerate(found, 1):
        title = name if len(found) == 1 else f"{name}, story {number}"
        lines += [f"- story: {yaml_text(title)}", "  steps:", *(f"  - {step}" for step in steps)]
    return "\n".join(lines) + "\n"


def _steps(events: Sequence[Event]) -> Iterator[str]:
    acted = False  # what the bot says is part of the action before it
    for event in events:
        if isinstance(event, UserUttered):
            acted = False
            said = "" if event.text is None else f"user: {yaml_text(event.text)}"
            meant = f"intent: {yaml_text(event.intent_name)}" if event.intent_name else ""
            if meant or said:
                yield "\n    ".join(filter(None, (meant, said)))
        elif isinstance(event, BotUttered) and event.text and not acted:
            yield f"bot: {yaml_text(event.text)}"
        elif isinstance(event, ActionExecuted):
            acted = bool(event.name) and event.name not in (LISTEN, SESSION_START)
            if acted:
                yield f"action: {yaml_text(event.name)}"
        elif isinstance(event, SlotSet) and isinstance(event.name, str):
            yield f"slot_was_set: [{yaml_text({event.name: event.value})}]"
        elif isinstance(event, ActiveLoop):
            yield f"active_loop: {yaml_text(event.name)}"
