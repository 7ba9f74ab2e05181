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
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ...errors import TicketLockError
from ...locks.concurrent.store import ConcurrentRedisLockStore
from ...locks.inspection import Holder
from ...locks.store import LockStore
from ...redis.scripts import load
from ..errors import BadRequest

if TYPE_CHECKING:  # `ticketlock break` needs no server
    from starlette.requests import Request

log = logging.getLogger("ticketlock.audit")

#: Deeds that are kept, seconds for which they are, and how many the page shows.
KEPT, KEPT_SECONDS, SHOWN = 200, 30 * 24 * 3600, 50
#: Characters of a name, and of a reason.
WHO, WHY = 100, 500
#: Seconds that Redis has for an answer.
_PATIENCE = 2.0


@dataclass(frozen=True)
class Deed:
    """What an operator did.

    Attributes:
        action: `break`, `drop` or `resend`.
        conversation: of which; empty of several.
        what: on what, and what came of it.
        who, why: as the operator said; nobody checks a name. A command knows its user, and
            a request to the API has no name: `api`.
        client: the address that the request came from, which may be a proxy's, or the host of
            the command.
    """

    action: str
    conversation: str
    what: str
    who: str
    why: str
    client: str


def planned(action: str, who: str, why: str, client: str) -> Deed:
    """What an operator is about to do; what is no Unicode in the texts is replaced."""
    who, why = (text.encode(errors="replace").decode() for text in (who, why))
    return Deed(action, "", "", who, why, client)


def requested(action: str, who: str, why: str, request: Request) -> Deed:
    """What a request asks for. Raises BadRequest where a text is too long."""
    who, why = who.strip(), why.strip()
    if len(who) > WHO or len(why) > WHY:
        raise BadRequest(f"who may have at most {WHO} characters, why at most {WHY}")
    client = request.client.host if request.client else "an unknown address"
    return planned(action, who, why, client)


def outcome(deed: Deed, conversation: str, fence: int, broken: bool) -> Deed:
    """What became of the turn that was to be broken."""
    what = f"turn of fence {fence}: {'broken' if broken else 'not broken, it had ended'}"
    return replace(deed, conversation=conversation, what=what)


def write(deed: Deed) -> None:
    """Write a deed to the log."""
    log.warning(
        "%s: %s%s; by %r from %s, %s",
        deed.action, f"conversation {deed.conversation!r}, " if deed.conversation else "",
        deed.what, deed.who, deed.client,
        f"because: {deed.why!r}" if deed.why else "no reason was given",
    )  # fmt: skip


class Audit:
    """Keeps deeds for the page and reads the last ones.

    Args:
        logs: whether deeds are logged too; a command prints what it did.
    """

    def __init__(self, store: LockStore, logs: bool = True) -> None:
        self._locks = store
        self._logs = logs
        self._store = store if isinstance(store, ConcurrentRedisLockStore) else None
        self._here: deque[tuple[float, Deed]] = deque(maxlen=KEPT)

    async def break_lock(
        self, conversation_id: str, fence: int | None, deed: Deed
    ) -> tuple[Holder | None, bool]:
        """Break the turn of that fence, if it still holds the conversation, and note it.

        Args:
            fence: None: that of the turn which holds it now; where none does, nothing is noted.

        Returns: the turn that held it before, and whether it was broken.
        Raises LockStoreConnectionError.
        """
        holder = (await self._locks.inspect(conversation_id, 0)).holder
        if fence is None:  # a turn that begins meanwhile is spared
            if holder is None:
                return None, False
            fence = holder.fence
        broken = await self._locks.break_lock(conversation_id, fence)
        await self.note(outcome(deed, conversation_id, fence, broken))
        return holder, broken

    async def note(self, deed: Deed) -> None:
        """Log a deed and keep it."""
        if self._logs:
            write(deed)
        await self.keep(deed)

    async def keep(self, deed: Deed) -> None:
        """Keep a deed. Never fails: what was done is done."""
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
        answer: list[Any] = await self._store.engine().link.submit(words, _PATIENCE).future
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
