"""What an export of events is asked for, and what it answers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from ...errors import ConfigurationError, TicketLockError
from ...settings.section import digest


class NothingToExport(TicketLockError):
    """The store is empty, or has none of the conversations that were asked for."""


@dataclass(frozen=True)
class ExportOptions:
    """Which events, and how they are changed. Raises ConfigurationError.

    Attributes:
        minimum_timestamp, maximum_timestamp: epoch seconds; events from the one, included, up
            to the other, excluded. An event without a timestamp counts as one of time 0.
        offset_timestamps_by_seconds: is added to the published timestamps; an event without
            one stays without. What is filtered by are the original ones.
        conversation_ids: only these conversations; None: all.
    """

    minimum_timestamp: float | None = None
    maximum_timestamp: float | None = None
    offset_timestamps_by_seconds: int = 0
    conversation_ids: frozenset[str] | None = None

    def __post_init__(self) -> None:
        low, high = self.minimum_timestamp, self.maximum_timestamp
        if any(bound is not None and math.isnan(bound) for bound in (low, high)):
            raise ConfigurationError("a minimum or maximum timestamp is a number, not NaN")
        if low is not None and high is not None and high < low:
            raise ConfigurationError(
                f"the maximum timestamp {high!r} is smaller than the minimum timestamp {low!r}"
            )
        if abs(self.offset_timestamps_by_seconds) > 10**12:
            raise ConfigurationError("an offset of more than 10**12 seconds is a mistake")
        if self.conversation_ids is not None and not self.conversation_ids:
            raise ConfigurationError("no conversation id is given")

    def wants(self, timestamp: float) -> bool:
        """Whether an event of this original time is for us."""
        low, high = self.minimum_timestamp, self.maximum_timestamp
        return (low is None or timestamp >= low) and (high is None or timestamp < high)

    def shifted(self, event: dict[str, Any]) -> dict[str, Any]:
        """The event with its published timestamp."""
        timestamp = event.get("timestamp")
        if isinstance(timestamp, bool) or not isinstance(timestamp, (int, float)):
            return event
        # Nothing is added for 0, so that every digit stays.
        offset = self.offset_timestamps_by_seconds
        return {**event, "timestamp": timestamp + offset} if offset else event

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same in a continuation, by the names that errors tell."""
        ids = self.conversation_ids
        return {
            "minimum timestamp": self.minimum_timestamp,
            "maximum timestamp": self.maximum_timestamp,
            "timestamp offset": self.offset_timestamps_by_seconds,
            "choice of conversations": None if ids is None else digest(sorted(ids)),
        }


@dataclass(frozen=True)
class Failure:
    """An event that cannot be delivered, or a conversation that cannot be read.

    Attributes:
        sequence: the event's number in its conversation; None for such a conversation.
    """

    conversation_id: str
    sequence: int | None
    reason: str


@dataclass
class ExportResult:
    """What an export has done; exact, whatever ended it.

    Attributes:
        published: events that the broker has confirmed to this run. Those of a batch that was
            interrupted count from its start up to the first that is not confirmed; what comes
            behind is published again by the continuation, and counted there.
        published_before: the same for the earlier runs of this export.
        conversations, conversations_before: conversations gone through to their end.
        failed, failed_before: failures; the first 1000 of this run are in `failures`.
        missing: ids that were asked for and are not in the store.
        complete: nothing is left to do.
        process_id: this run's value of the header `rasa-export-process-id`.
    """

    process_id: str
    published: int = 0
    published_before: int = 0
    conversations: int = 0
    conversations_before: int = 0
    failed: int = 0
    failed_before: int = 0
    complete: bool = False
    missing: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def published_total(self) -> int:
        return self.published + self.published_before

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "published_total": self.published_total}
