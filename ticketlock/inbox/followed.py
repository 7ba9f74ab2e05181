"""The messages that are waited for in this process."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import Protocol

from ..aio.patience import Patience
from ..aio.running import until_set
from ..errors import LockStoreConnectionError
from ..locks.concurrent.bells import Bell
from ..locks.concurrent.engine import Engine
from ..process import clock
from .listener import Listener
from .served import Served
from .submission import FINISHED, MessageOutcome, Submission

log = logging.getLogger("ticketlock.inbox")

#: Seconds between two questions about each message that another process handles: bells get lost.
_ASK = 1.0

#: Behind the name of a listener: it gets errors, and sends the message again; it gets replies before
#: they are stored.
AWAITED, HEARS = "!", "+"

Key = tuple[str, str]


class Asked(Protocol):
    """What is asked of the inbox."""

    def held(self) -> set[tuple[str, str]]: ...

    async def outcome(
        self, conversation_id: str, message_id: str, listener: str = ""
    ) -> MessageOutcome: ...


class _Message:
    """A message that is waited for.

    Attributes:
        request: by which bells name it.
        due: it comes due later, so it can be cancelled.
        asked: moment of `clock()` at which it was asked for.
        heard: fence of the turn and index of the last reply that a bell has told.
    """

    __slots__ = ("_awaited", "_hears", "_member", "asked", "due", "heard", "listeners", "request")

    def __init__(self, request: int, member: str) -> None:
        self.request = request
        self._member = member
        self._awaited = self._hears = ""
        self.due = False
        self.asked = clock()
        self.heard = (0, -1)
        self.listeners: list[Listener] = []

    def add(self, listener: Listener, awaited: bool) -> None:
        self.listeners.append(listener)
        if awaited:
            self._awaited = AWAITED
        if listener.on_reply is not None:
            self._hears = HEARS

    @property
    def name(self) -> str:
        """The listener that scripts know."""
        return self._member + self._awaited + self._hears


class Followed:
    """Tells listeners what becomes of their messages, here or in other processes."""

    def __init__(self, inbox: Asked, engine: Engine) -> None:
        self._inbox = inbox
        self._engine = engine
        self._messages: dict[Key, _Message] = {}
        self._by_request: dict[int, Key] = {}
        self._rung: set[Key] = set()
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._asking: Patience[Key] = Patience(_ASK / 4, self._failed)

    def add(self, message: Submission, listener: Listener) -> str:
        """Follow a message; returns the listener as scripts name it."""
        return self._add((message.conversation_id, message.message_id), listener, True).name

    def _add(self, key: Key, listener: Listener, awaited: bool = False) -> _Message:
        known = self._messages.get(key)
        if known is None:
            request = self._engine.next_request()
            member = self._engine.member(request, key[0])
            known = self._messages[key] = _Message(request, member)
            self._by_request[request] = key
        known.add(listener, awaited)
        if self._task is None or self._task.done():
            self._task = self._engine.loop.create_task(self._ask())
        return known

    def follow(self, conversation_id: str, message_id: str, listener: Listener) -> None:
        """Follow a message that was submitted before; until `drop`."""
        key = (conversation_id, message_id)
        self._add(key, listener)
        self._rung.add(key)  # asked for at once, which makes its listener known
        self._bell.set()

    def drop(self, conversation_id: str, message_id: str, listener: Listener) -> None:
        """A listener has left."""
        key = (conversation_id, message_id)
        known = self._messages.get(key)
        if known is not None and listener in known.listeners:
            known.listeners.remove(listener)
            if not known.listeners:
                self._forget(key)

    def _forget(self, key: Key) -> None:
        known = self._messages.pop(key, None)
        if known is not None:
            self._by_request.pop(known.request, None)

    def conversations(self) -> set[str]:
        """The conversations of the messages that are waited for here."""
        return {conversation_id for conversation_id, _ in self._messages}

    def listeners(self, conversation_id: str, message_id: str) -> list[Listener]:
        """Those who wait here for a message."""
        known = self._messages.get((conversation_id, message_id))
        return [] if known is None else known.listeners

    def ended(self, served: Served) -> None:
        """Tell the listeners of the messages that a turn here has finished."""
        for message_id, kind, text in served.outcomes:
            outcome = MessageOutcome(FINISHED[kind], served.grant.number, text=text)
            error = served.error if message_id == served.message_id else None
            self._tell((served.conversation_id, message_id), outcome, error)
        if not served.settled and served.error is not None:
            self._tell((served.conversation_id, served.message_id), None, served.error)

    def _tell(
        self, key: Key, outcome: MessageOutcome | None, error: Exception | None = None
    ) -> None:
        known = self._messages.get(key)
        if known is not None:
            known.listeners = [one for one in known.listeners if not one.tell(outcome, error)]
            if not known.listeners:
                self._forget(key)

    def _fail(self, key: Key, error: Exception) -> None:
        known = self._messages.get(key)
        for listener in [] if known is None else known.listeners:
            listener.fail(error)
        self._forget(key)

    def ring(self, request: int) -> bool:
        """A bell says that the message of a request is finished."""
        key = self._by_request.get(request)
        if key is None:
            return False
        self._rung.add(key)
        self._bell.set()
        return True

    def said(self, bell: Bell) -> None:
        """A bell has replies, as a JSON list, that the turn of a message elsewhere says."""
        known = self._messages.get(self._by_request.get(bell.request, ("", "")))
        if known is None:
            return
        try:
            replies = json.loads(bell.text)
        except ValueError:
            log.warning("a bell has replies that are not JSON; is it of a later version?")
            return
        for index, reply in enumerate(replies, bell.number):
            if (bell.fence, index) <= known.heard:
                continue  # the bell was rung again
            known.heard = (bell.fence, index)
            for listener in list(known.listeners):
                if listener.on_reply is not None:
                    listener.on_reply(reply, index)

    async def wait(self, conversation_id: str, message_id: str, seconds: float) -> MessageOutcome:
        """The outcome of a message once it is finished, or as it is after some seconds."""
        listener = Listener(sends_again=False)
        name = self._add((conversation_id, message_id), listener).name
        try:
            found = await self._inbox.outcome(conversation_id, message_id, name)
            if found.finished or found.state == "unknown" or seconds <= 0:
                return found
            if (known := self._messages.get((conversation_id, message_id))) is not None:
                known.due = found.state == "due"
            # An error of the handler is for the sender that waits for the reply, not for who asks.
            with suppress(asyncio.TimeoutError, LockStoreConnectionError):
                return await asyncio.wait_for(asyncio.shield(listener.outcome), seconds)
            return await self._inbox.outcome(conversation_id, message_id)
        finally:
            self.drop(conversation_id, message_id, listener)

    async def _ask(self) -> None:
        """Ask for messages whose bell rang, and once a second for all whose turn is not here."""
        while self._messages:
            self._bell.clear()
            now = clock()
            keys = self._rung & self._messages.keys()
            self._rung &= self._asking.running.keys()  # these are asked for once more
            due = {key for key, known in self._messages.items() if now - known.asked >= _ASK}
            keys |= due - self._inbox.held() if due else due
            await self._asking.run(self._ask_for, *keys)
            await until_set(self._bell, _ASK / 4)

    def _failed(self, error: Exception) -> None:
        log.error("asking for a message failed, trying again", exc_info=error)

    async def _ask_for(self, key: Key) -> None:
        known = self._messages.get(key)
        if known is None:
            return
        known.asked = clock()
        try:
            found = await self._inbox.outcome(*key, known.name)
        except LockStoreConnectionError as error:
            if self._engine.closed:
                self._fail(key, error)
            return  # it is asked for again
        if found.finished or (known.due and found.state == "unknown"):
            self._tell(key, found)
        elif found.state == "unknown":
            lost = f"message {key[1]!r} of conversation {key[0]!r} is not known any more"
            self._fail(key, LockStoreConnectionError(f"{lost}: Redis has lost it"))
        else:
            known.due = found.state == "due"

    def close(self) -> None:
        """Ask no more; those who wait get an error."""
        if self._task is not None:
            self._task.cancel()
        for key in list(self._messages):
            self._fail(key, LockStoreConnectionError("the lock store has been closed"))
