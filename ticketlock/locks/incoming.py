"""A message that a ticket is taken for: known by its id, so that it is handled once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from ..checks import check_seconds

#: Seconds for which a message id and the reply to it are kept.
WINDOW = 600.0
#: Most characters of a message id.
MAX_ID = 256
#: Bytes of the longest reply that is kept; a duplicate of a longer one gets a turn.
MAX_REPLY = 65_536

Supersede = Literal["interrupt", "rollback"]


@dataclass(frozen=True)
class Incoming:
    """`store.lock(id, incoming=Incoming("message 7"))`: a ticket for a message.

    A message id that has a living ticket, a turn, or a reply gets no second ticket: entering
    the lock waits for the reply and raises DuplicateMessage with it. This is checked in the
    step that issues the ticket. A message whose turn ended without a reply is handled again.

    Attributes:
        message_id: at most 256 characters, unique in the conversation.
        window: seconds for which the id and its reply are kept, counted from the ticket or from
            the reply, whichever is later.
        text: the message, so that an earlier turn can `collect` it; None: it needs its own turn.
        supersede: ask the turns before this one to stop: with `interrupt` they keep what they
            have done, with `rollback` nothing. Their handlers decide how to stop.
    """

    message_id: str
    window: float = WINDOW
    text: str | None = None
    supersede: Supersede | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.message_id, str) or not 0 < len(self.message_id) <= MAX_ID:
            raise ValueError(
                f"a message id must be text of 1 to {MAX_ID} characters, not {self.message_id!r:.80}"
            )
        object.__setattr__(self, "window", check_seconds("window", self.window, above=True))
        if self.supersede not in (None, "interrupt", "rollback"):
            raise ValueError(f"supersede must be interrupt or rollback, not {self.supersede!r}")
        if self.text is not None and not isinstance(self.text, str):
            raise ValueError(f"the text of a message must be a string, not {self.text!r:.80}")
        for text in (self.message_id, self.text or ""):
            text.encode()  # a lone surrogate is not valid text

    @property
    def field(self) -> str:
        """The id as the lock store writes it."""
        return field(self.message_id)


def field(message_id: str) -> str:
    """A message id without spaces, dots at its ends, or anything else that would be parsed."""
    return (
        message_id if message_id.isalnum() and message_id.isascii() else quote(message_id, safe="")
    )
