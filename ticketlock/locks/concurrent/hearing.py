"""What an engine does with bells: the part that acts on what other processes tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ...errors import LockLost
from ...process import clock
from ..grant import Grant
from ..lost_turns import BROKEN
from ..waiter import Waiter
from .bells import Bell, read
from .duplicates import Duplicates
from .durable import Durable
from .heartbeat import Heartbeat

#: Seconds between two heartbeats for which bells without a signature are a reason.
_HINTS = 0.05


class MessageTurns(Protocol):
    """What the engine asks of the inbox that uses it: its turns are those of messages."""

    def has(self, request: int) -> bool: ...
    def give_back(self, grant: Grant) -> None: ...
    def vacant(self, holder: bytes) -> None: ...
    def answered(self, request: int) -> bool: ...
    def said(self, bell: Bell) -> None: ...


class Hearing:
    """Acts on bells: on those with a signature at once; the others are a reason to ask."""

    heartbeat: Heartbeat
    duplicates: Duplicates
    durable: Durable | None
    inbox: MessageTurns | None
    _key: bytes
    _inbox_bells: tuple[bytes, bytes]
    _hinted: float
    _asked: set[int]
    _waiting: dict[int, Waiter]
    _held: dict[int, Grant]
    _seen: dict[str, tuple[float, int]]

    def lost(self, request: int, reason: str) -> None:
        """Tell the body of a turn that it is over."""
        raise NotImplementedError

    def _serve(self, waiter: Waiter, number: int, fence: int, lease_until: float) -> None:
        raise NotImplementedError

    def _return(self, waiter: Waiter) -> None:
        raise NotImplementedError

    def _push(self, push: Sequence[Any]) -> None:
        if push[0] not in (b"message", b"smessage"):
            return
        if not push[1].startswith(self._inbox_bells):
            self._heard(push[2], self._key)
        elif self.inbox is not None:  # no proof of anything: a reason to look
            self.inbox.vacant(push[2])

    def heard(self, text: bytes) -> None:
        """Act on an answer that carries a bell's text."""
        self._heard(text, None)

    def _heard(self, text: bytes, secret: bytes | None) -> None:
        """Act on a bell, or on an answer that carries its text; drop what is none."""
        bell = read(text, secret)
        if bell is None:
            return
        waiter, grant = self._waiting.get(bell.request), self._held.get(bell.request)
        if bell.kind == "said":
            if bell.signed and self.inbox is not None:
                self.inbox.said(bell)
        elif not bell.signed:
            self._look(bell, waiter, grant)
        elif bell.kind == "answered":
            if self.inbox is None or not self.inbox.answered(bell.request):
                self.duplicates.ring(bell.request, waiter)
        elif bell.kind == "grant":
            if waiter is not None:
                self._granted(waiter, bell)
        elif grant is not None and grant.fence == bell.fence:
            if bell.kind == "stop":
                grant.supersede(bell.mode)  # type: ignore[arg-type]  # one of the two
            else:
                self.lost(bell.request, BROKEN)
        elif waiter is not None and bell.kind == "finished" and bell.fence == 0:
            self._waiting.pop(bell.request)
            if waiter.future is not None and not waiter.future.done():
                reason = "its ticket was finished by another client"
                waiter.future.set_exception(LockLost(waiter.conversation_id, reason))

    def _granted(self, waiter: Waiter, bell: Bell) -> None:
        if waiter.conversation_id not in self._seen:
            return self.heartbeat.expect(0)
        # The server's clock in ours: from before a request was sent, so never too late.
        here, there = self._seen[waiter.conversation_id]
        self._serve(waiter, bell.number, bell.fence, here + (bell.until - there) / 1000)
        if bell.mode is not None and (turn := self._held.get(bell.request)) is not None:
            turn.supersede(bell.mode)  # type: ignore[arg-type]  # one of the two
        return None

    def _look(self, bell: Bell, waiter: Waiter | None, grant: Grant | None) -> None:
        """Ask the server where a bell is not proof: one call at a time for each ticket."""
        if waiter is not None and waiter.number >= 0:
            if waiter.request not in self._asked:
                self._asked.add(waiter.request)
                self._return(waiter)
        elif grant is not None:
            now = clock()
            self.heartbeat.expect(max(0.0, self._hinted - now))
            self._hinted = max(self._hinted, now + _HINTS)
        elif bell.kind == "answered":
            self.duplicates.ring(bell.request, None)

    def _reconnected(self) -> None:
        self.heartbeat.expect(0)  # bells rung in between are gone
        if self.durable is not None:
            self.durable.reconnect()
