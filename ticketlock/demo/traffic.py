"""The messages of a demo: read from a transcript, or generated."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checks import check_sender_id
from ..errors import ConfigurationError, InvalidConversationId

#: Conversations with a burst at the same time in generated traffic.
_TYPING_AT_ONCE = 8
_LONGEST_BURST = 6
#: Most bytes of a line of a transcript.
LONGEST = 1024 * 1024


@dataclass(frozen=True)
class Message:
    """One message; its id is its place in the traffic, from 0."""

    id: int
    conversation: str
    text: str


def read_transcript(path: Path) -> list[Message]:
    """The messages of a JSON-lines file, in file order; empty lines are skipped.

    Raises ConfigurationError naming the file, the line and the problem.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from None
    messages: list[Message] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                conversation, text = _parse(line)
            except ValueError as error:
                raise ConfigurationError(f"{path}:{number}: {error}") from None
            messages.append(Message(len(messages), conversation, text))
    if not messages:
        raise ConfigurationError(f"{path}: there is no message in it")
    return messages


def _parse(line: bytes) -> tuple[str, str]:
    """MessageSender and text of a line. Raises ValueError."""
    if len(line) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} bytes")
    try:
        fields: Any = json.loads(line)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if problem := _problem(fields):
        raise ValueError(problem)
    return fields["sender_id"], fields["text"]


def _problem(fields: Any) -> str | None:
    """The problem of a message's fields; None if they are valid."""
    if not isinstance(fields, dict):
        return "is not a JSON object"
    for key in ("sender_id", "text"):
        if key not in fields:
            return f"{key} is missing"
        if not isinstance(fields[key], str):
            return f"{key}: {fields[key]!r} is not text"
    timestamp = fields.get("timestamp")
    if isinstance(timestamp, bool) or not isinstance(timestamp, (int, float, type(None))):
        return f"timestamp: {timestamp!r} is not a number"
    try:
        check_sender_id(fields["sender_id"])
        fields["text"].encode()
    except InvalidConversationId as error:
        return f"sender_id: {error}"
    except UnicodeEncodeError as error:
        return f"text: is not valid Unicode: {error}"
    return None


def generate(conversations: int, count: int, seed: int) -> list[Message]:
    """Generate `count` messages in bursts, with bursts of several conversations mixed.

    Every conversation gets a message if `count` is large enough.
    """
    chance = random.Random(seed)
    silent = dict.fromkeys(chance.sample(range(conversations), conversations))
    typing: list[tuple[int, int]] = []  # conversation, messages left in its burst
    messages: list[Message] = []
    while len(messages) < count:
        while len(typing) < _TYPING_AT_ONCE:
            typing.append((chance.randrange(conversations), chance.randint(1, _LONGEST_BURST)))
        speaker, left = typing.pop(chance.randrange(len(typing)))
        if left > 1:
            typing.append((speaker, left - 1))
        if count - len(messages) <= len(silent):  # the last messages are for these
            speaker = next(iter(silent))
        silent.pop(speaker, None)
        # Real ids have such characters, which must not act as a pattern or end a hash tag.
        conversation = f"caller {speaker} [web]|{{*?}}"
        messages.append(Message(len(messages), conversation, f"message {len(messages)}"))
    return messages
