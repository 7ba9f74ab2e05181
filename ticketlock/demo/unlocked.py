"""What the demo's replicas use instead of a tracker store when they are to share no lock.

A judge that finds nothing wrong with them would be worth nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..registry import create_tracker_store
from ..tracker import Tracker
from ..tracker_store import Claim, TrackerStore


class UnfencedTrackerStore(TrackerStore):
    """Lets everybody write at any time into the store of another section.

    Args:
        store: that section.
    """

    def __init__(
        self, host: Any = None, domain: Any = None, event_broker: Any = None, *, store: Any
    ) -> None:
        super().__init__(domain, event_broker)
        self._store = create_tracker_store(store)

    async def save(self, tracker: Tracker) -> None:
        await self._store.save(tracker)

    async def retrieve(self, sender_id: str) -> Tracker | None:
        return await self._store.retrieve(sender_id)

    async def keys(self) -> list[str]:
        return await self._store.keys()

    async def claim(self, sender_id: str, fence: int, owner: str) -> Claim:
        tracker = await self.retrieve(sender_id) or self.init_tracker(sender_id)
        return Claim(sender_id, fence, owner, tracker, len(tracker.events))

    async def append(self, claim: Claim, events: Sequence[Mapping[str, Any]]) -> None:
        await self.save(claim.tracker)  # which has the events already

    async def close(self) -> None:
        await self._store.close()
