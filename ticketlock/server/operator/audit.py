"""What operators have done: each break, drop and resend, with who did it and why.

It is written to the log `ticketlock.audit`, and the last of it is kept for the page: on Redis,
where replicas share it, else in this process.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import TicketLockError
from ...locks.concurrent.store import ConcurrentRedisLockStore
from ...locks.store import LockStore
from ...redis.scripts import load

log = logging.getLogger("ticketlock.audit")

#: Deeds that are kept, seconds for which they are, and how many the page shows.
KEPT, KEPT_SECONDS, SHOWN = 200, 30 * 24 * 3600, 50
#: Seconds that Redis has for an answer.
_PATIENCE = 2.0


@dataclass(frozen=True)
class Deed:
    """What an operator did.

    Attributes:
        action: `break`, `drop` or `resend`.
        conversation: of which; empty of several.
        what: on what, and what came of it.
        who, why: as the operator said; nobody checks a name.
        client: the address that the request came from, which may be a proxy's.
    """

    action: str
    conversation: str
    what: str
    who: str
    why: str
    client: str


def write(deed: Deed) -> None:
    """Write a deed to the log."""
    log.warning(
        "%s: %s%s; by %r from %s, because: %r",
        deed.action, f"conversation {deed.conversation!r}, " if deed.conversation else "",
        deed.what, deed.who, deed.client, deed.why,
    )  # fmt: skip


class Audit:
    """Keeps deeds for the page and reads the last ones."""

    def __init__(self, store: LockStore) -> None:
        self._store = store if isinstance(store, ConcurrentRedisLockStore) else None
        self._here: deque[tuple[float, Deed]] = deque(maxlen=KEPT)

    async def keep(self, deed: Deed) -> None:
        """Keep a deed that has been written to the log. Never fails."""
        if self._store is None:
            self._here.append((time.time(), deed))
            return
        try:
            await self._call(json.dumps([secrets.token_hex(4), asdict(deed)]))
        except TicketLockError as error:
            log.warning("cannot keep an action for the page to show: %s", error)

    async def last(self) -> list[dict[str, Any]]:
        """The last deeds, the latest first, each with `ago` (seconds).

        Raises LockStoreConnectionError.
        """
        if self._store is None:
            now = time.time()
            latest = list(self._here)[-SHOWN:]
            return [{**asdict(deed), "ago": now - at} for at, deed in reversed(latest)]
        now, *answer = await self._call("")
        pairs = zip(answer[::2], answer[1::2], strict=True)
        read = [found for text, at in pairs if (found := _read(text, (now - float(at)) / 1000))]
        return read[::-1]

    async def _call(self, text: str) -> list[Any]:
        assert self._store is not None  # else it is kept here
        key = self._store.settings.prefixed("concurrent_lock:audit")
        bounds = (KEPT, 1000 * KEPT_SECONDS, SHOWN)
        words = ("EVAL", load("audit").source, 1, key, text, *bounds)
        answer: list[Any] = await self._store._live().link.submit(words, _PATIENCE).future
        return answer


def _read(text: bytes, ago: float) -> dict[str, Any] | None:
    """A deed as it was noted; None of what is not of our form."""
    try:
        deed = Deed(**json.loads(text)[1])
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return None
    if not all(isinstance(value, str) for value in vars(deed).values()):
        return None
    return {**asdict(deed), "ago": max(0.0, ago)}
