"""The inbox of lock stores that keep no messages: it lasts as long as the process that took them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from ..errors import DuplicateMessage, LockStoreConnectionError, TicketLockError
from ..locks.grant import Grant
from ..locks.incoming import Incoming
from ..locks.store import LockStore
from ..locks.waiter import Waiter, checked
from ..process import clock
from .due import Cancelled, Due, When
from .inbox import Inbox, Start, Withdrawn
from .listener import Listener
from .local_later import LocalLater
from .local_letters import LocalLetters
from .saying import Saying
from .served import Served
from .submission import (
    FINISHED,
    Deleted,
    Letter,
    LetterKind,
    Letters,
    MessageOutcome,
    Pending,
    Receipt,
    Submission,
    SubmittedMessage,
)  # fmt: skip

#: Outcomes that are kept at most.
_MOST = 10_000

Key = tuple[str, str]


class _Message:
    """A message that is not finished.

    Attributes:
        served: itself in its turn, once that is granted.
        task: waits for its turn; None: it has not waited.
    """

    def __init__(self, submission: Submission, waiter: Waiter) -> None:
        self.submission = submission
        self.waiter = waiter
        self.listeners: list[Listener] = []
        self.served: Served | None = None
        self.task: asyncio.Task[None] | None = None


class LocalInbox(Inbox):
    """Messages of this process, each with a ticket of the lock store.

    Args:
        store: any lock store.
    """

    def __init__(self, store: LockStore) -> None:
        self._store = store
        self._queue = store.turn_queue
        self._start: Start | None = None
        self._messages: dict[Key, list[_Message]] = {}
        #: A plain dictionary would step over each place that was freed in its front.
        self._outcomes: OrderedDict[Key, tuple[MessageOutcome, float]] = OrderedDict()
        #: message -> (calls of its handler without a result, until when they are remembered)
        self._attempts: dict[Key, tuple[int, float]] = {}
        self._letters = LocalLetters()
        self._later: LocalLater | None = None

    @property
    def later(self) -> LocalLater:
        """What comes due later."""
        if self._later is None:
            self._later = LocalLater(self.submit)
        return self._later

    def serve(self, start: Start, room: int, lock_lifetime: float) -> None:
        self._start = start
        self.later.begin()

    async def submit(self, message: Submission, listener: Listener | None = None) -> Receipt:
        self._check_served()
        if (receipt := await self._known(message, listener)) is not None:
            return receipt
        supersede = message.mode if message.mode in ("interrupt", "rollback") else None
        incoming = Incoming(
            message.message_id,
            message.window,
            message.text if message.mode == "coalesce" else None,
            supersede,
        )
        waiter = checked(
            message.conversation_id, message.lock_lifetime,
            0 if message.max_waiting == 0 else None, message.max_waiting, None, incoming=incoming,
        )  # fmt: skip
        waiter.start()
        try:
            await self._queue.issue(waiter)
        except BaseException:
            self._queue.withdraw(waiter)
            raise
        if (receipt := await self._known(message, listener)) is not None:  # it came meanwhile
            self._queue.withdraw(waiter)
            return receipt
        one = _Message(message, waiter)
        key = (message.conversation_id, message.message_id)
        self._messages.setdefault(key, []).append(one)
        if listener is not None:
            one.listeners.append(listener)
        if waiter.has_turn and self._start is not None:  # the conversation was free
            self._begin(key, one, await self._queue.granted(waiter))
        else:
            one.task = asyncio.get_running_loop().create_task(self._waited(key, one))
        return Receipt(
            waiter.number, waiter.ahead, message_id=message.message_id,
            known=waiter.number == 0 and self._store.keeps_messages,
        )  # fmt: skip

    def _check_served(self) -> None:
        """Raise LockStoreConnectionError unless this process serves: no other one can."""
        if self._start is None:
            raise LockStoreConnectionError(
                f"with {type(self._store).__name__} messages are in this process, which does not "
                "serve them: enter `conversations.serving(handle)`, or use concurrent_redis"
            )

    async def _known(self, message: Submission, listener: Listener | None) -> Receipt | None:
        """The receipt of a message that is known here, where the lock store keeps no messages."""
        # One with a listener has a turn of its own: its handler finds the replies in the history.
        if self._store.keeps_messages or listener is not None:
            return None
        outcome = await self.outcome(message.conversation_id, message.message_id)
        if outcome.state in ("unknown", "failed", "due"):
            return None
        return Receipt(
            outcome.number, outcome.position, known=True, message_id=message.message_id,
            outcome=outcome if outcome.finished else None,
        )  # fmt: skip

    async def submit_later(self, message: Submission, when: When) -> Receipt:
        return self.later.put(message, when)

    async def cancel(self, conversation_id: str, name: str) -> Cancelled:
        found = self.later.cancel(conversation_id, name)
        ids = (key[1] for known in (self._messages, self._outcomes)
               for key in known if key[0] == conversation_id)  # fmt: skip
        if found == "unknown" and any(x == name or x.startswith(f"{name}@") for x in ids):
            return "submitted"
        return found

    async def cancel_all(self, conversation_id: str) -> int:
        return self.later.cancel_all(conversation_id)

    async def due(self, conversation_id: str, most: int = 100) -> Sequence[Due]:
        return self.later.due(conversation_id, most)

    async def _waited(self, key: Key, one: _Message) -> None:
        """Wait for the turn of a message, and begin it."""
        try:
            self._begin(key, one, await self._queue.granted(one.waiter))
        except DuplicateMessage as duplicate:
            self._tell(one, MessageOutcome("replied", text=duplicate.reply))
        except TicketLockError as error:
            self._fail(one, error)
        except asyncio.CancelledError:
            self._queue.withdraw(one.waiter)
            self._fail(one, LockStoreConnectionError("the message was given up"))
            raise
        finally:
            if one.served is None:
                self._drop(key, one)

    def _begin(self, key: Key, one: _Message, grant: Grant) -> None:
        """Begin the turn of a message. Raises LockStoreConnectionError if none is served any more."""
        if self._start is None:
            self._queue.withdraw(one.waiter)
            raise LockStoreConnectionError("this process does not serve messages any more")
        served = one.served = Served(
            *key, one.submission.text, grant, self, one.submission.mode,
            window=one.submission.window, attempts=self._tried(key),
            submitted_for=clock() - one.waiter.started, durable=False,
            stop=grant.superseded,
        )  # fmt: skip
        self._start(served).add_done_callback(partial(self._task_ended, key, one, served))

    def _task_ended(self, key: Key, one: _Message, served: Served, _: object) -> None:
        if served.ended:
            self._drop(key, one)
            self._told(key, one, served)
        else:  # it was not even entered
            one.task = asyncio.ensure_future(self._given_back(served))
            one.task.add_done_callback(partial(self._task_ended, key, one, served))

    async def _given_back(self, served: Served) -> None:
        await self.finish(served)

    def _drop(self, key: Key, one: _Message) -> None:
        self._messages[key].remove(one)
        if not self._messages[key]:
            del self._messages[key]

    def _told(self, key: Key, one: _Message, served: Served) -> None:
        for message_id, kind, text in served.outcomes:
            outcome = MessageOutcome(FINISHED[kind], served.grant.number, text=text)
            self._outcomes[(key[0], message_id)] = outcome, clock() + served.window
            if kind == "x" and message_id == key[1]:
                waited = clock() - one.waiter.started
                self._letters.bury(one.submission, one.waiter.number or 0, waited, text)
            while len(self._outcomes) > _MOST:
                del self._outcomes[next(iter(self._outcomes))]
            if message_id == key[1]:
                self._tell(one, outcome, served.error)
        if not served.settled:
            problem = LockStoreConnectionError("the message was not handled; send it again")
            self._fail(one, served.error or problem)

    def _tell(self, one: _Message, outcome: MessageOutcome, error: Exception | None = None) -> None:
        for listener in one.listeners:
            listener.tell(outcome, error)
        one.listeners.clear()

    def _fail(self, one: _Message, error: Exception) -> None:
        for listener in one.listeners:
            listener.fail(error)
        one.listeners.clear()

    # -- turns ---------------------------------------------------------------------------------

    async def begun(self, served: Served) -> int:
        key = (served.conversation_id, served.message_id)
        self._attempts[key] = served.attempts + 1, clock() + served.window
        while len(self._attempts) > _MOST:
            del self._attempts[next(iter(self._attempts))]
        return served.attempts

    def saying(self, served: Served, message_id: str) -> Saying:
        return Saying(partial(self._listeners, (served.conversation_id, message_id)))

    def _listeners(self, key: Key) -> list[Listener]:
        return [listener for one in self._messages.get(key, ()) for listener in one.listeners]

    async def carry(self, served: Served, most: int) -> list[tuple[str, str]]:
        found = await self._queue.collect(served.grant, most)
        # One that failed before has a turn of its own.
        found = [pair for pair in found if not self._tried((served.conversation_id, pair[0]))]
        for message_id, _ in found:
            served.carried[message_id] = 0
        return found

    def _tried(self, key: Key) -> int:
        count, until = self._attempts.get(key, (0, 0.0))
        return count if until > clock() else 0

    def finish(self, served: Served) -> Awaitable[None]:
        served.ended = True
        replies = {name: text for name, kind, text in served.outcomes if kind == "d"}
        for name in replies:
            self._attempts.pop((served.conversation_id, name), None)
        self._queue.answer(served.grant, replies, served.window)
        if served.delivery:
            self.store_delivery(served.conversation_id, served.delivery)
            self.on_deliveries(served.conversation_id)
        return self._queue.release(served.grant)

    # -- asking ----------------------------------------------------------------------------------

    async def outcome(self, conversation_id: str, message_id: str) -> MessageOutcome:
        key = (conversation_id, message_id)
        for one in self._messages.get(key, ()):
            if one.served is not None:
                return MessageOutcome("running", one.waiter.number, 0, one.served.attempts)
            place = await self._queue.position(conversation_id, one.waiter.number)
            return MessageOutcome("waiting", one.waiter.number, place or 0)
        if (due := self.later.find(*key)) is not None:
            return MessageOutcome("due", due=due[1])
        found, expires = self._outcomes.get(key, (MessageOutcome("unknown"), 0.0))
        return found if expires > clock() else MessageOutcome("unknown")

    async def wait(self, conversation_id: str, message_id: str, seconds: float) -> MessageOutcome:
        listener = Listener(sends_again=False)
        end = clock() + seconds
        await self.later.left(conversation_id, message_id, seconds)
        seconds = max(0.0, end - clock())
        with self.listening(conversation_id, message_id, listener):
            if (conversation_id, message_id) in self._messages:
                with suppress(asyncio.TimeoutError, TicketLockError):
                    return await asyncio.wait_for(asyncio.shield(listener.outcome), seconds)
            return await self.outcome(conversation_id, message_id)

    @contextmanager
    def listening(
        self, conversation_id: str, message_id: str, listener: Listener
    ) -> Iterator[None]:
        found = self._messages.get((conversation_id, message_id), [])[:1]
        for one in found:
            one.listeners.append(listener)
        try:
            yield
        finally:
            for one in found:
                if listener in one.listeners:
                    one.listeners.remove(listener)

    async def withdraw(self, conversation_id: str, message_id: str) -> Withdrawn:
        key = (conversation_id, message_id)
        for one in self._messages.get(key, ()):
            if one.served is not None or one.task is None:
                return "begun"
            one.task.cancel()
            self._outcomes[key] = MessageOutcome("withdrawn", one.waiter.number), clock() + 600.0
            return "withdrawn"
        if (due := self.later.find(*key)) is not None:
            self.later.cancel(conversation_id, due[0])
            return "withdrawn"
        return "finished" if key in self._outcomes else "unknown"

    async def waiting(self, conversation_id: str, most: int = 100) -> Sequence[SubmittedMessage]:
        return [
            SubmittedMessage(
                *key, one.waiter.number, clock() - one.waiter.started, 0, one.served is not None,
                one.submission.mode, one.submission.text,
            )
            for key, ones in self._messages.items() if key[0] == conversation_id for one in ones
        ][:most]  # fmt: skip

    # -- operators -------------------------------------------------------------------------------

    @property
    def unfinished(self) -> int:
        return sum(map(len, self._messages.values()))

    async def conversations(self, most: int = 100) -> Sequence[Pending]:
        by_name: dict[str, list[SubmittedMessage]] = {}
        for name in {name for name, _ in self._messages}:
            by_name[name] = list(await self.waiting(name, _MOST))
        pending = [
            Pending(
                name, len(rows), rows[0].waited, rows[0].attempts, any(row.running for row in rows)
            )
            for name, rows in by_name.items()
        ]  # fmt: skip
        return sorted(pending, key=lambda one: -one.waited)[:most]

    async def letters(self, conversation_id: str, most: int = 100) -> Sequence[Letter]:
        return self._letters.of(conversation_id)[:most]

    async def all_letters(self, most: int = 100) -> Letters:
        return self._letters.latest(most)

    async def bury(self, served: Served, text: str) -> None:
        served.end("x", text)

    async def resend(
        self, conversation_id: str, message_id: str, kind: LetterKind = "message"
    ) -> bool:
        for letter in self._letters.named(conversation_id, message_id, kind):
            self._attempts.pop((conversation_id, message_id), None)
            await self.submit(Submission(conversation_id, message_id, letter.text))
            return await self.drop(conversation_id, message_id, kind)
        return False

    async def drop(
        self, conversation_id: str, message_id: str, kind: LetterKind = "message"
    ) -> bool:
        return self._letters.drop(conversation_id, message_id, kind)

    async def delete(self, conversation_id: str) -> Deleted:
        waiting, broken = 0, False
        for key, ones in list(self._messages.items()):
            for one in list(ones) if key[0] == conversation_id else ():
                if one.served is not None:
                    broken = await self._store.break_lock(
                        conversation_id, one.served.grant.fence
                    )  # fmt: skip
                elif one.task is not None:
                    one.task.cancel()
                waiting += 1
        for kept in (self._outcomes, self._attempts):
            for key in [key for key in kept if key[0] == conversation_id]:
                kept.pop(key)
        return Deleted(waiting, 0, self._letters.forget(conversation_id), broken)

    async def drain(self) -> None:
        self._start = None
        await self.later.stop()
        for ones in list(self._messages.values()):
            for one in ones:
                if one.served is None and one.task is not None:
                    one.task.cancel()

    async def close(self) -> None:
        await self.drain()
