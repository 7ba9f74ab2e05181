"""Where deliveries wait: on Redis beside the locks, or in the memory of a process."""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ..locks.concurrent.scripts import Keys

#: Deliveries, and bytes of them, that are taken at once.
_DELIVERIES, _BYTES = 8, 1024 * 1024
#: Dead letters that are kept of a conversation, and for how long, seconds.
DEAD_LETTERS, DEAD_KEPT = 100, 30 * 86400.0


class Taken(NamedTuple):
    """Deliveries that a process may send, one after the other.

    Attributes:
        tries: how often the first of them was tried.
        part: how many of its parts were sent.
        texts: each is JSON.
    """

    tries: int
    part: int
    texts: tuple[str, ...]


class Removed(NamedTuple):
    """What removing a delivery has left.

    Attributes:
        left: how many wait now; -1: nothing was removed, because it is another process's.
        dropped: the oldest dead letters, dropped because there were too many.
    """

    left: int
    dropped: int


class DeliveryStore(ABC):
    """What waits to be sent, by conversation, in order; one process at a time sends of each."""

    @abstractmethod
    async def take(self, conversation_id: str, process: str, lease: float) -> Taken | float | None:
        """Take the first deliveries for `lease` seconds.

        Returns None if nothing waits; the seconds until it may be taken if another process has
        it, or if it waits to be tried again.
        """

    @abstractmethod
    async def renew(
        self, conversation_id: str, process: str, lease: float, tries: int, part: int
    ) -> bool:
        """Renew the lease, and note how far the first delivery is.

        Returns False if another process has it.
        """

    @abstractmethod
    async def pause(
        self, conversation_id: str, process: str, seconds: float, tries: int, part: int
    ) -> bool:
        """Give the lease up; any process may take it after `seconds`.

        Returns False if another process has it.
        """

    @abstractmethod
    async def done(
        self, conversation_id: str, process: str, lease: float, text: str, dead: str | None = None
    ) -> Removed:
        """Remove the first delivery, which is `text`, and renew the lease.

        Args:
            dead: a dead letter to keep in its place.
        """


class RunsScripts(Protocol):
    """Runs `lua/<script>.lua` over a connection to Redis; `SharedState` does."""

    async def run(self, script: str, keys: str | Sequence[str], *args: Any) -> Any:
        """The script's answer. Raises LockStoreConnectionError."""


class RedisDeliveries(DeliveryStore):
    """Deliveries in the keys of their conversation, beside its locks."""

    def __init__(self, scripts: RunsScripts, keys: Keys) -> None:
        self._scripts = scripts
        self._keys = keys

    async def take(self, conversation_id: str, process: str, lease: float) -> Taken | float | None:
        keys = self._keys.of_deliveries(conversation_id)[:2]
        kind, *answer = await self._scripts.run(
            "deliver_take", keys, process, _ms(lease), _DELIVERIES, _BYTES
        )
        if kind == b"taken":
            tries, part, *texts = answer
            return Taken(int(tries), int(part), tuple(text.decode() for text in texts))
        return int(answer[0]) / 1000 if kind == b"held" else None

    async def renew(
        self, conversation_id: str, process: str, lease: float, tries: int, part: int
    ) -> bool:
        return await self._keep(conversation_id, process, process, lease, tries, part)

    async def pause(
        self, conversation_id: str, process: str, seconds: float, tries: int, part: int
    ) -> bool:
        return await self._keep(conversation_id, process, "-", seconds, tries, part)

    async def _keep(
        self, conversation_id: str, process: str, then: str, seconds: float, tries: int, part: int
    ) -> bool:
        key = self._keys.of_deliveries(conversation_id)[1]
        args = (process, then, _ms(seconds), tries, part)
        return bool(await self._scripts.run("deliver_keep", key, *args))

    async def done(
        self, conversation_id: str, process: str, lease: float, text: str, dead: str | None = None
    ) -> Removed:
        keys = self._keys.of_deliveries(conversation_id)
        args: list[Any] = [process, _ms(lease), hashlib.sha1(text.encode()).hexdigest()]
        if dead is not None:
            index = self._keys.dead_index
            await self._scripts.run("list_dead", index, conversation_id, _ms(DEAD_KEPT))
            args += [dead, DEAD_LETTERS, _ms(DEAD_KEPT)]
        left, dropped = await self._scripts.run("deliver_done", keys, *args)
        return Removed(int(left), int(dropped))


def _ms(seconds: float) -> int:
    return max(0, round(1000 * seconds))


@dataclass
class _Waiting:
    """What waits of one conversation, and who sends it; `sender` is "-" while it pauses."""

    texts: deque[str] = field(default_factory=deque)
    sender: str | None = None
    until: float = 0.0
    tries: int = 0
    part: int = 0


class MemoryDeliveries(DeliveryStore):
    """Deliveries in this process, as locks in memory are; they end with it.

    Attributes:
        dead: conversation -> its dead letters, JSON texts.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}
        self.dead: dict[str, deque[str]] = {}

    def append(self, conversation_id: str, text: str) -> None:
        """Add a delivery, as the end of a turn does."""
        self._waiting.setdefault(conversation_id, _Waiting()).texts.append(text)

    async def take(self, conversation_id: str, process: str, lease: float) -> Taken | float | None:
        found, now = self._waiting.get(conversation_id), time.monotonic()
        if found is None:
            return None
        if found.sender not in (None, process) and found.until > now:
            return found.until - now
        found.sender, found.until = process, now + lease
        return Taken(found.tries, found.part, tuple(found.texts)[:_DELIVERIES])

    async def renew(
        self, conversation_id: str, process: str, lease: float, tries: int, part: int
    ) -> bool:
        return self._keep(conversation_id, process, process, lease, tries, part)

    async def pause(
        self, conversation_id: str, process: str, seconds: float, tries: int, part: int
    ) -> bool:
        return self._keep(conversation_id, process, "-", seconds, tries, part)

    def _keep(
        self, conversation_id: str, process: str, then: str, seconds: float, tries: int, part: int
    ) -> bool:
        found = self._waiting.get(conversation_id)
        if found is None or found.sender != process:
            return False
        found.sender, found.until = then, time.monotonic() + seconds
        found.tries, found.part = tries, part
        return True

    async def done(
        self, conversation_id: str, process: str, lease: float, text: str, dead: str | None = None
    ) -> Removed:
        found = self._waiting.get(conversation_id)
        if found is None or found.sender != process or found.texts[0] != text:
            return Removed(-1, 0)
        found.texts.popleft()
        if not found.texts:
            del self._waiting[conversation_id]
        found.until, found.tries, found.part = time.monotonic() + lease, 0, 0
        dropped = 0
        if dead is not None:
            letters = self.dead.setdefault(conversation_id, deque(maxlen=DEAD_LETTERS))
            dropped = int(len(letters) == DEAD_LETTERS)
            letters.append(dead)
        return Removed(len(found.texts), dropped)
