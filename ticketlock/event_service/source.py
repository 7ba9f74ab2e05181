"""`Source`: the interface from which the event service reads messages and confirms them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple


class RawMessage(NamedTuple):
    """A message as the broker delivered it.

    Attributes:
        body: its bytes; empty if the broker has a message without a body.
        origin: where it came from, for logs and rejects.
        exact: whether the origin identifies this message, as an offset of Kafka does.
        token: data that the source needs to confirm it.
    """

    body: bytes
    origin: str
    exact: bool
    token: Any

    def digest(self) -> str:
        """Identifies a message that has no sequence: a duplicate has the same digest.

        The body is part of it even if the origin is exact, because a topic that is deleted and
        created again starts again with offset 0.
        """
        place = self.origin if self.exact else ""
        return sha256(place.encode() + b"\n" + self.body).hexdigest()


class Source:
    """A reader of one topic or queue. All methods run in one thread, one at a time.

    Messages that were read and not confirmed are delivered again: to the next reader, or to
    this one after it lost the connection.
    """

    #: Kind and place of the broker, for error texts. Never with a secret.
    address = "the event broker"

    def open(self, end: float) -> None:
        """Connect and begin to read.

        May be called again after an error. Raises EventBrokerConnectionError.

        Args:
            end: the deadline, in seconds of the monotonic clock.
        """
        raise NotImplementedError

    @property
    def is_ready(self) -> bool:
        """Whether it is connected and has been assigned its part of the topic or queue."""
        raise NotImplementedError

    def read(self, limit: int, seconds: float) -> list[RawMessage]:
        """At most `limit` messages in the broker's order; waits `seconds` for the first.

        Raises EventBrokerConnectionError when the connection is lost.
        """
        raise NotImplementedError

    def confirm(self, messages: Sequence[RawMessage]) -> None:
        """Confirm these messages and all that were read before them.

        Messages that can no longer be confirmed are delivered again, which is not an error.
        """
        raise NotImplementedError

    def is_caught_up(self) -> bool:
        """Whether all messages have been read. Called when none has arrived for a while."""
        return True

    def keep_alive(self) -> None:
        """Keep the connection alive while no messages are read. Called about once a second;
        raises no errors.
        """

    def close(self, end: float) -> None:
        """Send outstanding confirmations and disconnect, until `end` at the latest."""
