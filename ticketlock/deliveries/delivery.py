"""`Delivery`: the replies of one turn, on their way out, and the verdicts about an attempt."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any


def digest_of(conversation_id: str) -> str:
    """A digest of a conversation's id, for headers, which cannot have all of its characters."""
    return hashlib.sha256(conversation_id.encode(errors="surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True)
class Delivery:
    """The replies of one turn, to be sent to one destination.

    Attributes:
        number: of the message's ticket; those of a conversation are delivered in its order.
        to: the name of the destination.
        replies: objects as those that the REST channel answers with.
        at: when the turn ended, ms since 1970 by the clock of the server that keeps it.
        attempt: 1 for the first one.
    """

    conversation_id: str
    number: int
    fence: int
    message_id: str
    to: str
    replies: tuple[dict[str, Any], ...] = field(repr=False)
    at: int = 0
    attempt: int = 1

    @property
    def key(self) -> str:
        """The idempotency key: the same in every attempt, and of no other delivery.

        Made of conversation, fence and number. The id is in it as a digest: it may have characters
        that a header cannot have.
        """
        return f"{digest_of(self.conversation_id)}-{self.fence}-{self.number}"

    @classmethod
    def parse(cls, conversation_id: str, text: str, attempt: int = 1) -> Delivery:
        """A delivery as a turn's end has stored it. Raises ValueError if the text is none."""
        try:
            values = json.loads(text)
            replies = tuple(values["replies"])
            if not all(isinstance(reply, dict) for reply in replies):
                raise TypeError("a reply is not an object")
            return cls(
                conversation_id, int(values["number"]), int(values["fence"]),
                str(values["message_id"]), str(values["to"]), replies, int(values["at"]), attempt,
            )  # fmt: skip
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Done:
    """The receiver has it."""


@dataclass(frozen=True)
class Retry:
    """It is to be sent again.

    Attributes:
        after: seconds that the receiver asks to wait at least.
    """

    reason: str
    after: float = 0.0


@dataclass(frozen=True)
class Dead:
    """The receiver will never take it: a dead letter."""

    reason: str


Verdict = Done | Retry | Dead
