"""The end of a demo: reads all conversations back through another store object, and judges."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from ...errors import TicketLockError
from ...events.event import Event
from ...tracker.store import TrackerStore
from ..report import Report
from ..sender import SentMessage
from .events import BrokerSnapshot, verify_strangers
from .records import Records

#: Conversations that are read or deleted at once.
_AT_ONCE = 8


async def judge(
    report: Report,
    deliveries: Iterable[SentMessage],
    store: TrackerStore,
    folder: Path,
    deaths: Mapping[str, float],
    progress: Callable[[int], None],
    snapshot: BrokerSnapshot | None = None,
) -> None:
    """Fill in the report.

    Args:
        folder: the folder of the records.
        deaths: when replicas were killed, moments of `time.monotonic()`.
        progress: called with the number of judged conversations.
        snapshot: the broker's side, if there is a broker.

    Raises TrackerStoreError.
    """
    ordered = sorted(deliveries, key=lambda d: (d.message.conversation, d.message.id))
    groups = [(c, list(group)) for c, group in groupby(ordered, lambda d: d.message.conversation)]
    records = Records(folder)
    for start in range(0, len(groups), _AT_ONCE):
        some = groups[start : start + _AT_ONCE]
        stored = await asyncio.gather(*(_events(store, conversation) for conversation, _ in some))
        for (conversation, group), events in zip(some, stored):  # noqa: B905  # as long as `some`
            report.add(conversation, group, events, records.read(conversation), deaths)
            if snapshot is not None:
                report.add_events(conversation, events, snapshot)
        progress(start + len(some))
    if snapshot is not None:
        report.violations += verify_strangers(
            [conversation for conversation, _ in groups], snapshot
        )


async def _events(store: TrackerStore, conversation: str) -> Sequence[Event]:
    tracker = await store.retrieve_full_tracker(conversation)
    return tracker.events if tracker else ()


async def clean_up(
    store: TrackerStore, conversations: Sequence[str], say: Callable[[str], None]
) -> None:
    """Delete the demo's conversations; an error is only printed."""
    try:
        for start in range(0, len(conversations), _AT_ONCE):
            some = conversations[start : start + _AT_ONCE]
            await asyncio.gather(*(store.delete(conversation) for conversation in some))
    except (TicketLockError, NotImplementedError) as error:
        example = conversations[0].partition(":")[0]
        say(f"cannot delete the demo's conversations (they begin with {example}): {error}")
