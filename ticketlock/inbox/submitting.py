"""Submitting to the inbox on Redis: one script stores the message, and may begin its turn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from ..errors import LockStoreConnectionError, LockTimeout, QueueFull
from ..locks.incoming import WINDOW
from ..process import clock
from ..redis.commands import Callback, Command
from .inbox import Start
from .later_inbox import LaterInbox
from .listener import Listener
from .scripts import InboxScripts
from .submission import FINISHED, MessageOutcome, Receipt, Submission, Terms

#: Seconds for which the listing of a conversation in a cluster's index is relied on.
_LISTED = 2.0
#: The listener of a message that came due, until it is not submitted again: `lua/inbox.lua`.
DUE = "@due"


class SubmittingInbox(LaterInbox):
    """The part that takes messages."""

    scripts: InboxScripts
    _start: Start | None
    #: Seconds that turns may last here.
    lifetime: float
    _cluster: bool
    _offered: dict[str, float]
    #: In a cluster: conversation -> (listing, moment until which it is listed for certain).
    _listed: dict[str, tuple[str, float]]
    #: Conversations that are put into the index once more, soon.
    _again: set[str]

    @property
    def room(self) -> int:
        """Turns that may begin here now."""
        raise NotImplementedError

    def offer(self, name: str) -> str:
        """The member of a turn of a conversation that may begin here, without the message's id; ""
        if none may."""
        raise NotImplementedError

    def refuses(self, name: str) -> bool:
        """Whether no turn of a conversation begins now, because it would not be durable."""
        durable = self.engine().durable
        return durable is not None and durable.refuses(name)

    async def keep(self, message: Submission) -> None:
        """Wait until a message that was submitted is durable, if that is asked for."""
        if (durable := self.engine().durable) is not None:
            await durable.keep(message.conversation_id, message.field)

    def hold(self, lock_lifetime: float) -> int:
        """Milliseconds after which Redis ends a turn of that many seconds."""
        raise NotImplementedError

    def reaches(self, name: str) -> bool:
        """Whether the node of a conversation answers, as far as is known."""
        engine = self.engine()
        return engine.link.reaches(engine.scripts.keys.of(name)[0])

    async def offered(
        self, server: str, args: tuple[Any, ...], heard: Callback, subject: Any
    ) -> Any:
        """Make a call that offers a turn here; `heard` takes the offer back, which it also does for
        a caller that is cancelled, unless the call was not even sent.
        """
        command = self.engine().link.submit(args, None, heard, subject)
        try:
            return await command.future
        finally:
            if command.unneeded:
                self._offered.pop(server, None)

    def begin(
        self,
        name: str,
        server: str,
        answer: list[Any],
        sent_at: float,
        message: Submission | None = None,
    ) -> None:
        """Begin the turn that a script has granted, with the answer of `serve`."""
        raise NotImplementedError

    async def submit(self, message: Submission, listener: Listener | None = None) -> Receipt:
        durable = self.engine().durable
        if self._start is None:
            self.look.begin()  # also where none are served: it counts
        if self.look.full:
            raise QueueFull(message.conversation_id, self.look.messages)
        followed = self.followed.add(message, listener) if listener is not None else ""
        try:
            receipt = self._receipt(message, await self._submit(message, followed), listener)
            if durable is not None and receipt.outcome is None:
                await self.keep(message)
            return receipt
        except BaseException:
            if listener is not None:
                self.followed.drop(message.conversation_id, message.message_id, listener)
            raise

    async def _submit(self, message: Submission, listener: str, until: int | None = None) -> Any:
        name, engine = message.conversation_id, self.engine()
        if engine.durable is not None:
            engine.durable.check(name)
        while True:
            listing = await self._listing(name) if self._cluster else ""
            server = self.offer(name)
            hold = engine.requests.hold(message.lock_lifetime)
            terms = ""
            if (message.window, message.lock_lifetime) != (WINDOW, self.lifetime):
                terms = Terms(message.window, message.lock_lifetime).text(hold)
            args = self.scripts.submit(message, server, hold, listener, listing, until, terms)
            answered = partial(self._submitted, message, server)
            answer = await self.offered(server, args, answered, message)
            if answer[0] != -2:
                return answer
            self._listed[name] = (answer[1].decode(), 0.0)  # it is put there for that anew

    async def submit_due(self, message: Submission, until: int) -> bool:
        """Submit a message that came due; False: the mover's time for it is over.

        Args:
            until: milliseconds of the server's clock; then another mover has it.

        Raises as `submit`.
        """
        self.engine()
        if self.look.full:
            raise QueueFull(message.conversation_id, self.look.messages)
        answer = await self._submit(message, DUE, until)
        if answer[0] == -3:
            return False
        self._receipt(message, answer, None)
        await self.keep(message)
        return True

    async def settle(self, conversation_id: str, messages: Sequence[Submission]) -> None:
        """Messages that were submitted have left those that come due: none is submitted again."""
        if messages:
            await self.engine().link.call(self.scripts.settle(conversation_id, messages))

    def _submitted(self, message: Submission, server: str, command: Command, answer: Any) -> bool:
        """Begin the turn that a submission got, also if its sender has left."""
        self._offered.pop(server, None)
        if not isinstance(answer, Exception) and answer[0] == 1:
            self.begin(message.conversation_id, server, answer, command.sent_at, message)
        if not isinstance(answer, Exception) and answer[0] in (0, 1):
            self.look.count(message.conversation_id, 1, len(message.text))
            if self._cluster and answer[0] == 0 and answer[3] == 0:  # it waits for room, not a turn
                self.look.again(message.conversation_id, 0, "")
        return True

    async def _listing(self, name: str) -> str:
        """In a cluster: put a conversation into the index, before its script stores a message."""
        listing, until = self._listed.get(name, ("0", 0.0))
        if until < clock():
            sent_at = clock()
            wait = self.engine().scripts.timing.lease + 1000 if self.room else 0
            await self.engine().link.call(self.scripts.enlist(name, wait))
            self._enlist_again(name)
            if len(self._listed) > 10_000:
                self._listed.clear()
            self._listed[name] = listing, sent_at + (_LISTED if wait else 0)
        return listing

    def _enlist_again(self, name: str) -> None:
        """Put a conversation into the index once more: a failover loses the last writes of a node,
        and the message may be on another one.
        """

        def again() -> None:
            self._again.discard(name)
            with suppress(LockStoreConnectionError):  # closed
                done = engine.link.submit(args, lasting=True).future
                done.add_done_callback(lambda one: one.cancelled() or one.exception())

        if name not in self._again:
            self._again.add(name)
            engine = self.engine()
            args = self.scripts.enlist(name, engine.scripts.timing.lease + 1000)
            engine.loop.call_later(_LISTED, again)

    def _receipt(
        self, message: Submission, answer: list[Any], listener: Listener | None
    ) -> Receipt:
        kind, number, *rest = answer
        if kind == -1:
            if message.max_waiting == 0:
                raise LockTimeout(message.conversation_id, 0.0)
            raise QueueFull(message.conversation_id, number)
        if kind == 2:
            outcome = MessageOutcome(
                FINISHED[number.decode()],
                text=rest[0].decode(),
            )
            if listener is not None:
                listener.tell(outcome)
                self.followed.drop(message.conversation_id, message.message_id, listener)
            return Receipt(0, known=True, outcome=outcome, message_id=message.message_id)
        if kind == 1:
            return Receipt(number, message_id=message.message_id)
        return Receipt(number, rest[1], known=kind == 3, message_id=message.message_id)
