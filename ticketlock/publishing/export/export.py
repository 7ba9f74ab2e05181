"""The history of a tracker store, published to an event broker; all confirmed and counted."""

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
from ..message import Message, poisoned
from .delivery import Batch, Delivery, Entry
from .options import ExportOptions, ExportResult, Failure, NothingToExport
from .state import Position, StateFile

log = logging.getLogger("ticketlock.events")

#: The documented header, one value for each run, where the broker has headers.
PROCESS_ID_HEADER = "rasa-export-process-id"

#: Most events of a batch; after a crash at most so many are published a second time.
BATCH_SIZE = 500

#: Seconds without any confirmation after which an export gives up.
PATIENCE = 60.0

#: Failures that a result lists; it counts all.
MOST_LISTED = 1000

#: Conversations without an event for us after which the position is kept nevertheless.
_KEEP_EVERY = 1000


def life_of(tracker: Tracker) -> int:
    """The `history` that the outbox publishes too; 0: the store has none for it."""
    return tracker.origin.history if tracker.origin else 0


def first_sequence(tracker: Tracker) -> int:
    """Number of a full history's first event: above 0 once a history has been replaced."""
    return max(0, tracker.origin.sequence - len(tracker.events)) if tracker.origin else 0


def _nothing(done: int, total: int) -> None:
    pass


class EventExport:
    """Publishes the whole of each conversation, one after the other in the order of their ids.

    The events of a conversation go out in the order in which they are stored, as `deliver`
    confirms them, in batches. What is written while an export runs may be part of it or not:
    live publishing takes care of it, and consumers drop what they have seen. A second `run`
    on the same object is not possible.

    Args:
        state: keeps the position after every batch, for a continuation; None: nowhere.
        places: which store and which broker, for the state; a continuation needs the same.
        batch_size: events that are sent at once, and that a crash may repeat.
        patience: seconds without any confirmation after which `run` gives up.
        progress: called with (conversations gone through, conversations in all).
        say: takes warnings and failures as they occur.

    Attributes:
        result: what has been done so far; also after `run` has raised.
        resumable: whether the state holds a position to go on from.
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
        progress: Progress = _nothing,
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
        self._delivery = Delivery(broker, patience, say)
        self._batch = Batch(batch_size)
        self._position = Position()
        self._read = 0  # conversations whose events are confirmed or in the batch

    async def run(self) -> ExportResult:
        """Export what is left to do.

        Cancelled, it waits up to 3 s for what is on its way, and keeps the position.

        Raises:
            NothingToExport: no conversation is there, or none that was asked for.
            ConfigurationError: the state is of another export, or in use.
            EventBrokerConnectionError: the broker cannot be used, or stayed away.
            TrackerStoreConnectionError: the store cannot be read.
        """
        with self._state or nullcontext():
            if self._state is not None:
                fingerprint = {**self.options.fingerprint(), **self._places}
                self._position = self._state.begin(fingerprint)
            self._take_over(self._position)
            if not self._position.complete:
                ids = await self._ids()
                await self._delivery.connect()
                self._keep(self._position)
                await self._go_through(ids)
        return self.result

    def _take_over(self, position: Position) -> None:
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

    async def _go_through(self, ids: list[str]) -> None:
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
            if self._read - self._position.conversations >= _KEEP_EVERY:
                await self._flush(sender_id)
            self._progress(self._read, len(ids))
        await self._flush(left[-1] if left else None, complete=True)

    async def _entries(self, sender_id: str) -> Iterable[Entry]:
        """The events of a conversation that are for us, and are left to do."""
        try:
            tracker = await result(self._store.retrieve_full_tracker(sender_id))
        except TrackerStoreConnectionError:
            raise
        except (InvalidConversationId, InvalidEvent, TrackerStoreError) as error:
            reason = poisoned(f"it cannot be read: {error}")
            return [Entry(sender_id, None, self._read, outcome=reason)]
        messages = self._messages(tracker) if tracker is not None else ()
        return (Entry(sender_id, m.sequence, self._read, m) for m in messages)

    def _messages(self, tracker: Tracker) -> Iterator[Message]:
        headers, history = {PROCESS_ID_HEADER: self.result.process_id}, life_of(tracker)
        start = self._position.start_in(tracker.sender_id, history)
        for sequence, event in enumerate(tracker.events, first_sequence(tracker)):
            if sequence >= start and self.options.wants(event.timestamp):
                body = self.options.shifted(event.as_dict())
                yield Message(tracker.sender_id, sequence, body, headers, history)

    async def _flush(self, through: str | None = None, complete: bool = False) -> None:
        """Deliver the batch and keep the position behind it.

        Args:
            through: the conversation that ends with the batch; None: it goes on.
        """
        batch, self._batch = self._batch, Batch(self._batch_size)
        try:
            await self._delivery.send(batch)
        except BaseException:
            self._count(batch.settled())  # the continuation goes on behind these
            raise
        end: dict[str, Any] = {}
        if through is not None:
            end = {"conversation": through, "history": 0, "next_sequence": None}
        self._count(batch.settled(), **end, conversations=self._read, complete=complete)

    def _count(self, entries: list[Entry], **beyond: Any) -> None:
        """Keep the position behind the entries, or `beyond` them, and count them."""
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
        self._keep(replace(position, **beyond))

    def _fail(self, failure: Failure) -> None:
        event = "" if failure.sequence is None else f"event {failure.sequence} of "
        self._say(f"{event}conversation {failure.conversation_id!r}: {failure.reason}")
        if len(self.result.failures) < MOST_LISTED:
            self.result.failures.append(failure)

    def _keep(self, position: Position) -> None:
        if self._state is not None:
            self._state.write(position)
            self.resumable = position.conversation is not None and not position.complete
        self._position, counts = position, self.result
        counts.published = position.published - counts.published_before
        counts.conversations = position.conversations - counts.conversations_before
        counts.failed = position.failed - counts.failed_before
        counts.complete = position.complete
