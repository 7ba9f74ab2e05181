"""Bots: `async def bot(turn, message)` that yields replies."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..events import UserUttered
from ..imports import raised_at
from ..settings.section import hint
from ..tracker.state import empty_message
from ..turn import Turn

#: The documented start of the text of a message for an intent.
EXTERNAL = "EXTERNAL: "
#: The documented name, as an output channel, of the channel of the user's last message.
LATEST = "latest"


@dataclass(frozen=True)
class Message:
    """A message of a user.

    Attributes:
        text: what the user wrote.
        sender_id: id of the conversation.
        message_id: unique within the conversation: a message with the same id is a duplicate, and
            gets the first reply. A generated id is unique.
        input_channel: its channel.
        metadata: any data of the channel.
        parse_data: the result of an earlier parser: `intent`, `entities` and so on.
        together: with `coalesce`, the messages that this one joins, in order: its text has theirs,
            one per line, and its other fields are those of the last one.
        attempt: calls of the bot with it, this one included: above 1 if an earlier turn failed,
            was too slow, or lost its process.
        may_repeat: whether it may be sent again with its id; False if only the server knows the id.
        reminder: the name of the reminder that fires; None: it is none.
    """

    text: str
    sender_id: str = "default"
    message_id: str = field(default_factory=lambda: os.urandom(16).hex())
    input_channel: str = "rest"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parse_data: Mapping[str, Any] = field(default_factory=dict)
    together: tuple[Message, ...] = ()
    attempt: int = 1
    may_repeat: bool = True
    reminder: str | None = None

    def as_text(self) -> str:
        """The message as text, without sender and id; for `from_text`."""
        fields = {
            "text": self.text, "input_channel": self.input_channel, "metadata": self.metadata,
            "parse_data": self.parse_data,
        }  # fmt: skip
        if self.reminder is not None:  # 0.5.0 does not read it: it would not ask the history
            fields["reminder"] = self.reminder
        return json.dumps(fields)

    @classmethod
    def from_text(cls, text: str, sender_id: str, message_id: str) -> Message:
        """The message from the text of `as_text`."""
        return cls(sender_id=sender_id, message_id=message_id, **json.loads(text))

    @classmethod
    def joined(cls, messages: Sequence[Message]) -> Message:
        """One message that joins several."""
        if len(messages) == 1:
            return messages[0]
        text = "\n".join(message.text for message in messages)
        return replace(messages[-1], text=text, together=tuple(messages))

    def event(self) -> UserUttered:
        """The event of the message, with the current time."""
        known = {"text": self.text, "message_id": self.message_id, "metadata": dict(self.metadata)}
        return UserUttered(
            self.text,
            parse_data={**empty_message(), **known, **self.parse_data},
            input_channel=self.input_channel,
            message_id=self.message_id,
            metadata=dict(self.metadata),
        )


#: A text, or a mapping with some of `events.reply.REPLY_KEYS`; `{"action": name}` runs an action.
Reply = str | Mapping[str, Any]
#: Called in the turn of the message, whose event is already in the tracker. The replies that it
#: yields, and the events that it adds, are written when it ends; none if it raises.
Bot = Callable[[Turn, Message], AsyncIterator[Reply]]


async def echo(turn: Turn, message: Message) -> AsyncIterator[Reply]:
    """A bot that repeats each message."""
    yield message.text


def load_bot(path: str, folder: Path | None = None) -> Bot:
    """The bot at `module:function`; `folder` (default: the current one) is searched too.

    Raises ConfigurationError, which names the wrong part of the path.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ConfigurationError(
            f"--bot: {path!r} is not of the form module:function, such as my_bot:bot for the function bot "
            "of my_bot.py"
        )
    if (place := str(folder or Path.cwd())) not in sys.path:
        sys.path.insert(0, place)
    if os.sep in module_name:
        file = Path(module_name).name.removesuffix(".py")
        raise ConfigurationError(
            f"--bot: {module_name} is a path: run this in its folder with --bot {file}:{name}"
        )
    try:
        module = import_module(module_name)
    except ImportError as error:
        todo = _hint(module_name, error) or raised_at(error)
        raise ConfigurationError(f"--bot: {module_name}: {error}{todo}") from error
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {error}{raised_at(error)}"
        raise ConfigurationError(f"--bot: {module_name} cannot be run: {said}") from error
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        there = [
            key
            for key, one in vars(module).items()
            if getattr(one, "__module__", "") == module_name
        ]
        raise ConfigurationError(
            f"--bot: {module_name} has no {name}; {hint(name, there, 'it has')}"
        )
    return check_bot(found, f"--bot: {path}")


def _hint(module_name: str, error: ImportError) -> str:
    """What to do if the module itself is not found, and not one that it imports."""
    if module_name.endswith(".py"):
        return f": leave out .py ({module_name.removesuffix('.py')}:...)"
    missing = isinstance(error, ModuleNotFoundError) and error.name is not None
    if missing and f"{module_name}.".startswith(f"{error.name}."):
        return ": run this in the folder that has it"
    return ""


def check_bot(bot: Any, where: str = "bot") -> Bot:
    """Return the bot. Raises ConfigurationError, with the right signature, if it is invalid."""
    if problem := _problem(bot):
        raise ConfigurationError(
            f"{where}: {problem}; a bot is `async def bot(turn, message)` that yields its replies"
        )
    return bot  # type: ignore[no-any-return]  # of unknown type until now


def _problem(bot: Any) -> str | None:
    """The problem of a bot; None if none shows before it is called."""
    if inspect.isclass(bot):
        return "is a class, give an object of it"
    if not callable(bot):
        return f"is {type(bot).__name__}, not a function"
    signature = inspect.signature(bot)
    names = [*signature.parameters]
    if names[:2] == ["message", "turn"]:
        return f"takes {signature}, in the wrong order"
    try:
        signature.bind("turn", "message")
    except TypeError:
        return f"takes {signature}"
    call = getattr(bot, "__call__", None)  # noqa: B004  # the method itself
    if inspect.isasyncgenfunction(bot) or inspect.isasyncgenfunction(call):
        return None
    if inspect.iscoroutinefunction(bot) or inspect.iscoroutinefunction(call):
        return "yields nothing: write `yield reply` in place of `return reply`"
    return "is not asynchronous"
