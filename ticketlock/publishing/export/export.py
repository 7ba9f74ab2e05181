"""Publishes all events of a tracker store to an event broker; each is confirmed and counted."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from ...aio.running import result
from ...errors import (
    InvalidConversationId,
    InvalidEvent,
    TrackerStoreConnectionError,
    TrackerStoreError,
)
from ...tracker.store import TrackerStore
from ...tracker.tracker import Tracker
from ...tracker.transfer import Progress
from ..broker import EventBroker
from ..message import BrokerMessage, poisoned
from .delivery import ExportBatch, ExportEntry, RetryingPublisher
from .options import ExportOptions, ExportResult, Failure, NothingToExport
from .state import Position, StateFile

log = logging.getLogger("ticketlock.events")

#: The documented header, one value for each run, where the broker has headers.
PROCESS_ID_HEADER = "rasa-export-process-id"

#: Events of a batch. After a crash, at most so many are published twice.
BATCH_SIZE = 500

#: Seconds without any confirmation after which an export gives up.
PATIENCE = 60.0

#: Failures that a result lists; all of them are counted.
MAX_LISTED = 1000

#: Conversations after which the position is saved even if none had an event to publish.
_SAVE_EVERY = 1000


def history_number(tracker: Tracker) -> int:
    """The `history` of the tracker's events, as the outbox publishes it; 0: not known."""
    return tracker.origin.history if tracker.origin else 0


def first_sequence(tracker: Tracker) -> int:
    """Number of the first event of a full tracker: above 0 if its events were replaced."""
    return max(0, tracker.origin.sequence - len(tracker.events)) if tracker.origin else 0


def _no_progress(done: int, total: int) -> None:
    pass


class EventExport:
    """Publishes all events of each conversation, in the order of the conversation ids.

    The events of a conversation are sent in their order, in batches, and each is confirmed by
    `deliver`. Events that are written during an export may be part of it or not: the relay
    publishes them too, and consumers drop duplicates. `run` may be called once only.

    Args:
        state: where the position is saved after every batch, to resume; None: nowhere.
        places: names of store and broker, for the state; resuming needs the same ones.
        batch_size: events that are sent at once, and that a crash may repeat.
        patience: seconds without any confirmation after which `run` gives up.
        progress: called with (finished conversations, all conversations).
        say: called with warnings and failures as they occur.

    Attributes:
        result: what has been done so far; also after `run` has raised.
        resumable: whether the state has a position to resume from.
    """

    def __init__(
        self,
        store: TrackerStore,
        broker: EventBroker,
        options: ExportOptions | None = None,
        *,
        state: StateFile | None = None,
        places: Mapping[str, str] | None = None,
        batch_size: int = BATCH_SIZE,
        patience: float = PATIENCE,
        progress: Progress = _no_progress,
        say: Callable[[str], None] = log.warning,
    ) -> None:
        self.options = options or ExportOptions()
        self.result = ExportResult(uuid.uuid4().hex)
        self.resumable = False
        self._store = store
        self._state = state
        self._places = dict(places or {})
        self._batch_size = batch_size
        self._progress = progress
        self._say = say
        self._publisher = RetryingPublisher(broker, patience, say)
        self._batch = ExportBatch(batch_size)
        self._position = Position()
        self._read = 0  # conversations whose events are all confirmed or in the batch

    async def run(self) -> ExportResult:
        """Export what is not exported yet.

        When cancelled it waits up to 3 s for outstanding confirmations, and saves the position.

        Raises:
            NothingToExport: the store has no conversations, or none of the given ids.
            ConfigurationError: the state belongs to another export, or is in use.
            EventBrokerConnectionError: the broker cannot be used, or was away for too long.
            TrackerStoreConnectionError: the store cannot be read.
        """
        with self._state or nullcontext():
            if self._state is not None:
                fingerprint = {**self.options.fingerprint(), **self._places}
                self._position = self._state.begin(fingerprint)
            self._resume(self._position)
            if not self._position.complete:
                ids = await self._ids()
                await self._publisher.connect()
                self._save(self._position)
                await self._publish(ids)
        return self.result

    def _resume(self, position: Position) -> None:
        self.result.published_before = position.published
        self.result.conversations_before = self._read = position.conversations
        self.result.failed_before = position.failed
        self.result.complete = position.complete
        self.resumable = position.conversation is not None and not position.complete

    async def _ids(self) -> list[str]:
        there = set(await result(self._store.keys()))
        if not there:
            raise NothingToExport("the tracker store has no conversations: nothing to export")
        wanted = self.options.conversation_ids
        if wanted is None:
            return sorted(there)
        self.result.missing = sorted(wanted - there)
        if not wanted & there:
            raise NothingToExport("none of the given conversation ids is in the tracker store")
        for sender_id in self.result.missing:
            self._say(f"conversation {sender_id!r} is not in the tracker store")
        return sorted(wanted & there)

    async def _publish(self, ids: list[str]) -> None:
        left = [sender_id for sender_id in ids if not self._position.is_through(sender_id)]
        late = len(ids) - len(left) - self._position.conversations
        if late > 0:
            self._say(
                f"{late} of the conversations are new since the export began and sort before the "
                "place where it continues: they are left out"
            )
        for sender_id in left:
            for entry in await self._entries(sender_id):
                self._batch.add(entry)
                if self._batch.is_full:
                    await self._flush()
            self._read += 1
            if self._read - self._position.conversations >= _SAVE_EVERY:
                await self._flush(sender_id)
            self._progress(self._read, len(ids))
        await self._flush(left[-1] if left else None, complete=True)

    async def _entries(self, sender_id: str) -> Iterable[ExportEntry]:
        """The events of a conversation that are wanted and not exported yet."""
        try:
            tracker = await result(self._store.retrieve_full_tracker(sender_id))
        except TrackerStoreConnectionError:
            raise
        except (InvalidConversationId, InvalidEvent, TrackerStoreError) as error:
            reason = poisoned(f"it cannot be read: {error}")
            return [ExportEntry(sender_id, None, self._read, outcome=reason)]
        messages = self._messages(tracker) if tracker is not None else ()
        return (ExportEntry(sender_id, m.sequence, self._read, m) for m in messages)

    def _messages(self, tracker: Tracker) -> Iterator[BrokerMessage]:
        headers, history = {PROCESS_ID_HEADER: self.result.process_id}, history_number(tracker)
        start = self._position.start_in(tracker.sender_id, history)
        for sequence, event in enumerate(tracker.events, first_sequence(tracker)):
            if sequence >= start and self.options.wants(event.timestamp):
                body = self.options.shifted(event.as_dict())
                yield BrokerMessage(tracker.sender_id, sequence, body, headers, history)

    async def _flush(self, through: str | None = None, complete: bool = False) -> None:
        """Send the batch and save the position after it.

        Args:
            through: the conversation that ends with the batch; None: it continues.
        """
        batch, self._batch = self._batch, ExportBatch(self._batch_size)
        try:
            await self._publisher.send(batch)
        except BaseException:
            self._count(batch.settled())  # a resumed export goes on after these
            raise
        end: dict[str, Any] = {}
        if through is not None:
            end = {"conversation": through, "history": 0, "next_sequence": None}
        self._count(batch.settled(), **end, conversations=self._read, complete=complete)

    def _count(self, entries: list[ExportEntry], **beyond: Any) -> None:
        """Count the entries and save the position after them; `beyond` overrides its fields."""
        position = self._position
        for entry in entries:
            assert entry.outcome is not None  # it is settled
            good = entry.outcome.status == "delivered"
            whole = entry.sequence is None
            position = replace(
                position,
                conversation=entry.conversation_id,
                history=entry.message.history if entry.message else 0,
                next_sequence=None if entry.sequence is None else entry.sequence + 1,
                conversations=entry.finished + whole,
                published=position.published + good,
                failed=position.failed + (not good),
            )
            if not good:
                self._fail(Failure(entry.conversation_id, entry.sequence, entry.outcome.reason))
        self._save(replace(position, **beyond))

    def _fail(self, failure: Failure) -> None:
        event = "" if failure.sequence is None else f"event {failure.sequence} of "
        self._say(f"{event}conversation {failure.conversation_id!r}: {failure.reason}")
        if len(self.result.failures) < MAX_LISTED:
            self.result.failures.append(failure)

    def _save(self, position: Position) -> None:
        if self._state is not None:
            self._state.write(position)
            self.resumable = position.conversation is not None and not position.complete
        self._position, counts = position, self.result
        counts.published = position.published - counts.published_before
        counts.conversations = position.conversations - counts.conversations_before
        counts.failed = position.failed - counts.failed_before
        counts.complete = position.complete
