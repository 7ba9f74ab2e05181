"""What a source is: where the event service reads messages from, and tells that it has them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple


class Delivery(NamedTuple):
    """One message as it came.

    Attributes:
        body: its bytes; empty where the broker has a message without any.
        origin: where it came from, for people.
        exact: the origin is that of this message alone, as Kafka's offsets are.
        token: what the source needs to confirm it.
    """

    body: bytes
    origin: str
    exact: bool
    token: Any

    def digest(self) -> str:
        """What names a message that has no better name: a repeat has the same.

        The body counts even where the origin is exact: a topic that was deleted and made
        again counts its offsets anew.
        """
        place = self.origin if self.exact else ""
        return sha256(place.encode() + b"\n" + self.body).hexdigest()


class Source:
    """A reader of one topic or queue. All methods run in one thread, one at a time.

    What was read and not confirmed comes again: to the next reader, or to this one after the
    connection was lost.
    """

    #: For error texts: what and where it is. Never with a secret.
    address = "the event broker"

    def open(self, end: float) -> None:
        """Connect, and begin to read, until `end` (seconds of the monotonic clock) at the latest.

        May be called again, after an error. Raises EventBrokerConnectionError.
        """
        raise NotImplementedError

    @property
    def is_ready(self) -> bool:
        """Whether messages would come if there were some: connected, and given its share."""
        raise NotImplementedError

    def read(self, most: int, seconds: float) -> list[Delivery]:
        """At most `most` messages in the order of the broker; waits `seconds` for the first.

        Raises EventBrokerConnectionError when the connection is lost.
        """
        raise NotImplementedError

    def confirm(self, deliveries: Sequence[Delivery]) -> None:
        """These, and all that was read before them, need not come again.

        What cannot be confirmed any more comes again; that is no error.
        """
        raise NotImplementedError

    def is_caught_up(self) -> bool:
        """Whether nothing is left to read, as far as can be told when nothing has come lately."""
        return True

    def breathe(self) -> None:
        """Stay alive while nothing is read; called about once a second. Raises nothing."""

    def close(self, end: float) -> None:
        """Confirm what is to be confirmed, and disconnect."""
