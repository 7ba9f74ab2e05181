"""A user's own store class, with plain or async methods, as a `TrackerStore`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..aio.running import result
from ..errors import ConfigurationError
from .store import TrackerStore
from .tracker import Claim, Tracker

_REQUIRED = ("save", "retrieve", "keys")
_METHODS = (
    *_REQUIRED, "retrieve_full_tracker", "exists", "get_or_create_tracker",
    "get_or_create_full_tracker", "create_tracker", "delete", "update", "count_conversations",
    "claim", "append", "close",
)  # fmt: skip


class CustomTrackerStore(TrackerStore):
    """Calls the methods of the wrapped store; `TrackerStore` provides those that it lacks.

    Plain methods run in the event loop: a slow one delays every conversation. If the class has
    no `claim` and `append` of its own, the fence is enforced in this process only.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__(getattr(inner, "domain", None), getattr(inner, "event_broker", None))
        self.inner = inner

    @classmethod
    def around(cls, inner: Any, where: str = "tracker_store") -> TrackerStore:
        """Return `inner` itself if all its methods are async, else a store that wraps it.

        Raises ConfigurationError if a required method is missing.
        """
        lacking = [name for name in _REQUIRED if not _own(inner, name)]
        if lacking:
            raise ConfigurationError(
                f"{where}: type: {type(inner).__name__} has no {', '.join(lacking)}"
            )
        if isinstance(inner, TrackerStore):
            if not hasattr(inner, "_local_claims"):  # its __init__ did not call ours
                TrackerStore.__init__(inner, getattr(inner, "domain", None))
            if all(inspect.iscoroutinefunction(getattr(inner, name)) for name in _METHODS):
                return inner
        return cls(inner)

    async def _call(self, name: str, otherwise: Callable[..., Any], *args: Any) -> Any:
        return await result((_own(self.inner, name) or otherwise)(*args))

    async def save(self, tracker: Tracker) -> None:
        await result(self.inner.save(tracker))

    async def retrieve(self, sender_id: str) -> Tracker | None:
        found: Tracker | None = await result(self.inner.retrieve(sender_id))
        return found

    async def keys(self) -> list[str]:
        return list(await result(self.inner.keys()))

    async def retrieve_full_tracker(self, sender_id: str) -> Tracker | None:
        found: Tracker | None = await self._call(
            "retrieve_full_tracker", super().retrieve_full_tracker, sender_id
        )
        return found

    async def exists(self, sender_id: str) -> bool:
        return bool(await self._call("exists", super().exists, sender_id))

    async def check_ready(self) -> None:
        await self._call("check_ready", super().check_ready)

    async def delete(self, sender_id: str) -> bool:
        return bool(await self._call("delete", super().delete, sender_id))

    async def update(self, tracker: Tracker) -> None:
        await self._call("update", super().update, tracker)

    async def count_conversations(self, after_timestamp: float = 0.0) -> int:
        return int(
            await self._call("count_conversations", super().count_conversations, after_timestamp)
        )

    async def claim(self, sender_id: str, fence: int, owner: str) -> Claim:
        made: Claim = await self._call("claim", super().claim, sender_id, fence, owner)
        return made

    async def append(
        self, claim: Claim, events: Sequence[Mapping[str, Any]], mark: str | None = None
    ) -> None:
        # The documented `append` knows no mark; one that does returns marks from `claim` too.
        marks = () if mark is None or claim.mark is None else (mark,)
        await self._call("append", super().append, claim, events, *marks)

    async def close(self) -> None:
        await self._call("close", super().close)


def _own(inner: Any, name: str) -> Callable[..., Any] | None:
    """The method, unless the class has none or inherits ours."""
    found = getattr(type(inner), name, None)
    if found is None or found is getattr(TrackerStore, name, None):
        return None
    method: Callable[..., Any] = getattr(inner, name)
    return method
