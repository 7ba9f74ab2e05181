"""The audit of operators' actions: each break, withdrawal, drop and resend, by whom and why.

Actions are written to the log `ticketlock.audit`. The last ones are kept for the page: on Redis,
shared by all replicas, or else in this process.
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
from ...locks.concurrent.shared import SharedState
from ...locks.inspection import Holder
from ...locks.store import LockStore
from ..errors import BadRequest

if TYPE_CHECKING:  # `ticketlock break` needs no server
    from starlette.requests import Request

log = logging.getLogger("ticketlock.audit")

#: How many actions are kept, for how many seconds, and how many the page shows.
KEPT, KEPT_SECONDS, SHOWN = 200, 30 * 24 * 3600, 50
#: Most characters of a name, and of a reason.
WHO, WHY = 100, 500
#: Seconds in which Redis must answer.
_PATIENCE = 2.0


@dataclass(frozen=True)
class AuditRecord:
    """An action of an operator.

    Attributes:
        action: `break`, `withdraw`, `drop` or `resend`.
        conversation: its conversation; empty if it has several.
        what: its object and its result.
        who, why: as given; the name is not checked. A command gives its user, a request to the
            API `api`.
        client: the address of the request, which may be a proxy's, or the host of the command.
    """

    action: str
    conversation: str
    what: str
    who: str
    why: str
    client: str


def planned(action: str, who: str, why: str, client: str) -> AuditRecord:
    """The record of an action without its result; invalid Unicode in the texts is replaced."""
    who, why = (text.encode(errors="replace").decode() for text in (who, why))
    return AuditRecord(action, "", "", who, why, client)


def requested(action: str, who: str, why: str, request: Request) -> AuditRecord:
    """The record of a request, without its result. Raises BadRequest if a text is too long."""
    who, why = who.strip(), why.strip()
    if len(who) > WHO or len(why) > WHY:
        raise BadRequest(f"who may have at most {WHO} characters, why at most {WHY}")
    client = request.client.host if request.client else "an unknown address"
    return planned(action, who, why, client)


def outcome(record: AuditRecord, conversation: str, fence: int, broken: bool) -> AuditRecord:
    """The record of a break, with its result."""
    what = f"turn of fence {fence}: {'broken' if broken else 'not broken, it had ended'}"
    return replace(record, conversation=conversation, what=what)


def write(record: AuditRecord) -> None:
    """Write a record to the log."""
    log.warning(
        "%s: %s%s; by %r from %s, %s",
        record.action, f"conversation {record.conversation!r}, " if record.conversation else "",
        record.what, record.who, record.client,
        f"because: {record.why!r}" if record.why else "no reason was given",
    )  # fmt: skip


class Audit:
    """Keeps records of actions for the page, and reads the last ones.

    Args:
        logs: whether actions are logged too; a command prints its result instead.
    """

    def __init__(self, store: LockStore, logs: bool = True) -> None:
        self._locks = store
        self._logs = logs
        self._shared = SharedState.of(store)
        self._here: deque[tuple[float, AuditRecord]] = deque(maxlen=KEPT)

    async def break_lock(
        self, conversation_id: str, fence: int | None, record: AuditRecord
    ) -> tuple[Holder | None, bool]:
        """Break the turn with that fence, if it still holds the conversation, and note the action.

        Args:
            fence: None: that of the current turn; without a current turn nothing is noted.

        Returns the holder before, and whether it was broken.

        Raises LockStoreConnectionError.
        """
        holder = (await self._locks.inspect(conversation_id, 0)).holder
        if fence is None:  # so that a turn which begins in the meantime is not broken
            if holder is None:
                return None, False
            fence = holder.fence
        broken = await self._locks.break_lock(conversation_id, fence)
        await self.note(outcome(record, conversation_id, fence, broken))
        return holder, broken

    async def note(self, record: AuditRecord) -> None:
        """Log an action and keep it."""
        if self._logs:
            write(record)
        await self.keep(record)

    async def keep(self, record: AuditRecord) -> None:
        """Keep a record. It never fails: the action itself has been done."""
        if self._shared is None:
            self._here.append((time.time(), record))
            return
        try:
            await self._call(json.dumps([secrets.token_hex(4), asdict(record)]))
        except TicketLockError as error:
            log.warning("cannot keep an action for the page to show: %s", error)

    async def last(self) -> list[dict[str, Any]]:
        """The last actions, the latest first, each with `ago` (seconds).

        Raises LockStoreConnectionError.
        """
        if self._shared is None:
            now = time.time()
            latest = list(self._here)[-SHOWN:]
            return [{**asdict(record), "ago": now - at} for at, record in reversed(latest)]
        now, *answer = await self._call("")
        pairs = zip(answer[::2], answer[1::2], strict=True)
        read = [found for text, at in pairs if (found := _read(text, (now - float(at)) / 1000))]
        return read[::-1]

    async def _call(self, text: str) -> list[Any]:
        assert self._shared is not None  # else actions are kept in this process
        limits = (KEPT, 1000 * KEPT_SECONDS, SHOWN)
        key = self._shared.keys.audit
        answer: list[Any] = await self._shared.run("audit", key, text, *limits, timeout=_PATIENCE)
        return answer


def _read(text: bytes, ago: float) -> dict[str, Any] | None:
    """A record that was kept; None if it is invalid."""
    try:
        record = AuditRecord(**json.loads(text)[1])
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return None
    if not all(isinstance(value, str) for value in vars(record).values()):
        return None
    return {**asdict(record), "ago": max(0.0, ago)}
