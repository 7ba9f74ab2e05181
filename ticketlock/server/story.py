"""A conversation as a story in YAML: what was said and done, in the documented form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..event_base import Event
from ..events import (
    LISTEN,
    SESSION_START,
    ActionExecuted,
    ActiveLoop,
    BotUttered,
    SlotSet,
    UserUttered,
)


def stories(name: str, sessions: Iterable[Sequence[Event]]) -> str:
    """A document with one story for each session that has any steps."""
    told = [steps for session in sessions if (steps := list(_steps(session)))]
    lines = ['version: "3.1"', "stories:" if told else "stories: []"]
    for number, steps in enumerate(told, 1):
        title = name if len(told) == 1 else f"{name}, story {number}"
        lines += [f"- story: {_text(title)}", "  steps:", *(f"  - {step}" for step in steps)]
    return "\n".join(lines) + "\n"


def _steps(events: Sequence[Event]) -> Iterator[str]:
    for event in events:
        if isinstance(event, UserUttered):
            key = "intent" if event.intent_name else "user"
            yield f"{key}: {_text(event.intent_name or event.text)}"
        elif isinstance(event, BotUttered) and event.text:
            yield f"bot: {_text(event.text)}"
        elif isinstance(event, ActionExecuted):
            if event.name and event.name not in (LISTEN, SESSION_START):
                yield f"action: {_text(event.name)}"
        elif isinstance(event, SlotSet):
            yield f"slot_was_set: [{_text({event.name: event.value})}]"
        elif isinstance(event, ActiveLoop):
            yield f"active_loop: {_text(event.name)}"


def _text(value: Any) -> str:
    """A YAML scalar or mapping: JSON is YAML, and no text can break out of it.

    JSON writes a character beyond U+FFFF as two escapes, which YAML does not know: those stay
    as they are, and what YAML does not print is escaped.
    """
    return _UNPRINTED.sub(
        lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False)
    )


#: What YAML wants escaped, or reads as the end of a line.
_UNPRINTED = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]")
