"""The options of an export of events, and its result."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from ...errors import ConfigurationError, TicketLockError
from ...settings.section import digest


class NothingToExport(TicketLockError):
    """The store is empty, or has none of the given conversations."""


@dataclass(frozen=True)
class ExportOptions:
    """Which events to export, and how to change them. Raises ConfigurationError.

    Attributes:
        minimum_timestamp, maximum_timestamp: epoch seconds, the minimum included and the
            maximum excluded. An event without a timestamp counts as one at time 0.
        offset_timestamps_by_seconds: added to the published timestamps; an event without a
            timestamp gets none. The filter uses the original timestamps.
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
        """Whether to export an event with this original timestamp."""
        low, high = self.minimum_timestamp, self.maximum_timestamp
        return (low is None or timestamp >= low) and (high is None or timestamp < high)

    def shifted(self, event: dict[str, Any]) -> dict[str, Any]:
        """The event with its published timestamp."""
        timestamp = event.get("timestamp")
        if isinstance(timestamp, bool) or not isinstance(timestamp, (int, float)):
            return event
        # Not even 0 is added: an integer must stay one.
        offset = self.offset_timestamps_by_seconds
        return {**event, "timestamp": timestamp + offset} if offset else event

    def fingerprint(self) -> dict[str, Any]:
        """The options that must be the same when resuming, by their names in errors."""
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
        sequence: the event's number in its conversation; None: the conversation cannot be read.
    """

    conversation_id: str
    sequence: int | None
    reason: str


@dataclass
class ExportResult:
    """What an export has done; exact even if it was interrupted.

    Attributes:
        published: events that the broker has confirmed in this run. Of an interrupted batch
            only those before the first unconfirmed one count; the others are published again
            and counted when the export is resumed.
        published_before: the same for the earlier runs of this export.
        conversations, conversations_before: finished conversations.
        failed, failed_before: failures; the first 1000 of this run are in `failures`.
        missing: given ids that are not in the store.
        complete: whether the export is finished.
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
