"""A message that comes due later: its name, when it comes due, and what is shown of it."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

from ..checks import check_seconds
from ..locks.incoming import MAX_ID

#: Seconds that a message may come due ahead: a year.
MAX_AHEAD = 366 * 86_400.0
#: Bytes of the longest message that comes due later.
MAX_DUE_MESSAGE = 65_536
#: Messages of a conversation, and of all, that may wait until they are due; bytes of all.
MAX_OF_CONVERSATION, MAX_DUE, MAX_DUE_BYTES = 1000, 1_000_000, 1 << 30

#: What cancelling has found; `submitted`: it has come due, or comes due just now.
Cancelled = Literal["cancelled", "submitted", "unknown"]


@dataclass(frozen=True)
class When:
    """When a message comes due, and under which name it waits until then.

    Attributes:
        at: seconds since the epoch, by the clock of Redis; in the past: now.
        after: seconds from now on; either this or `at`.
        name: a message with the name of one that is not due yet takes its place; None: it has none.
        generation: tells messages of one name apart; default: a new one. Submitting the same
            generation again changes nothing.
    """

    at: float | None = None
    after: float | None = None
    name: str | None = None
    generation: str = field(default_factory=lambda: uuid.uuid4().hex[:16])

    def __post_init__(self) -> None:
        if (self.at is None) == (self.after is None):
            raise ValueError("give one of at and after")
        if self.after is not None and check_seconds("after", self.after) > MAX_AHEAD:
            raise ValueError(f"after is at most {MAX_AHEAD:.0f} seconds, not {self.after!r:.80}")
        number = isinstance(self.at, (int, float)) and not isinstance(self.at, bool)
        if self.at is not None and not (number and math.isfinite(self.at) and self.at >= 0):
            raise ValueError(f"at is a number of seconds since the epoch, not {self.at!r:.80}")
        if self.name is not None and (not isinstance(self.name, str) or not self.name):
            raise ValueError(f"the name of a message must be non-empty text, not {self.name!r:.80}")
        if self.name is not None and "@" in self.generation:
            raise ValueError("the message id of a message with a name must not contain @")
        if len(self.message_id) > MAX_ID:
            raise ValueError(f"name and message id have more than {MAX_ID} characters together")
        self.message_id.encode()  # a lone surrogate is not valid text

    @property
    def message_id(self) -> str:
        """The id of the message: `<name>@<generation>`, or the generation of one without a name."""
        return self.generation if self.name is None else f"{self.name}@{self.generation}"

    @property
    def key(self) -> str:
        """What no other message of the conversation that waits to be due has."""
        return self.message_id if self.name is None else self.name


@dataclass(frozen=True)
class Due:
    """A message that comes due later, for operators.

    Attributes:
        name: by which it is cancelled.
        at: seconds since the epoch.
        submitting: it is being submitted, or was and is about to leave.
    """

    conversation_id: str
    name: str
    message_id: str
    at: float
    submitting: bool
    mode: str
    text: str

    def as_dict(self, *, texts: bool = True) -> dict[str, Any]:
        """For JSON; `texts`: with the message, which is personal data."""
        return {key: value for key, value in vars(self).items() if texts or key != "text"}


def scheduled(
    at: float | None, after: float | None, name: str | None, message_id: str | None = None
) -> When | None:
    """When a message comes due; None: now. Raises ValueError."""
    if at is None and after is None:
        if name is not None:
            raise ValueError("a message with a name comes due later: give at or after")
        return None
    if message_id is None:
        return When(at, after, name)
    return When(at, after, name, message_id)


def names(message_id: str) -> tuple[str, ...]:
    """The names under which a message with that id may wait."""
    name, _, _ = message_id.rpartition("@")
    return (message_id, name) if name else (message_id,)


def check_text(text: str) -> None:
    """Raise ValueError if a message is too long to wait until it is due."""
    if len(text.encode()) > MAX_DUE_MESSAGE:
        raise ValueError(f"a message that comes due later has at most {MAX_DUE_MESSAGE} bytes")


def too_far(now: float) -> ValueError:
    """The error of a time that is too far ahead."""
    return ValueError(
        f"at is more than {MAX_AHEAD:.0f} seconds ahead of the clock: it is {now:.0f}"
    )
