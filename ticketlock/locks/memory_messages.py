"""The messages of an `InMemoryLockStore`: which waiter has each, and what it was answered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from ..errors import DuplicateMessage
from ..process import clock
from .incoming import MAX_REPLY
from .waiter import Waiter

#: Records looked at for having expired, whenever one is made.
_SWEEP = 4


class _Record:
    """A message: whose ticket it has, whose turn is to answer it, then the reply."""

    __slots__ = ("expires", "followers", "owner", "reply", "waiter")

    def __init__(self, waiter: Waiter, expires: float) -> None:
        self.waiter = waiter
        self.owner: Waiter | None = waiter
        self.reply: str | None = None
        self.followers: list[Waiter] = []
        self.expires = expires


class MemoryMessages:
    """What `lua/messages.lua` keeps, within one process.

    Args:
        requeue: gives a ticket to a waiter whose message no ticket has any more.
    """

    def __init__(self, requeue: Callable[[Waiter], None]) -> None:
        self._requeue = requeue
        #: In the order in which they were made, answered or looked at. A plain dictionary steps over each
        #: place that was freed in its front, thousands of them.
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()
        self._owned: dict[Waiter, list[_Record]] = {}

    def begin_anew(self) -> None:
        """Keep the replies only: those who waited are gone."""
        answered = self._records.items()
        self._records = OrderedDict(
            (key, record) for key, record in answered if record.reply is not None
        )
        self._owned.clear()

    def admit(self, waiter: Waiter) -> bool:
        """Whether the waiter needs a ticket; else it waits for the reply, or has it."""
        if waiter.incoming is None:
            return True
        key = (waiter.conversation_id, waiter.incoming.message_id)
        record = self._records.get(key)
        if record is not None and record.reply is not None and record.expires > clock():
            waiter.number = max(waiter.number, 0)
            self._tell(waiter, record.reply)
            return False
        if record is not None and record.owner is not None:
            waiter.number = max(waiter.number, 0)
            record.followers.append(waiter)
            return False
        self._sweep()
        self._own(waiter, key)
        return True

    def _own(self, waiter: Waiter, key: tuple[str, str]) -> None:
        assert waiter.incoming is not None  # it has a key
        self._records.pop(key, None)
        record = self._records[key] = _Record(waiter, clock() + waiter.incoming.window)
        self._owned.setdefault(waiter, []).append(record)

    def carry(self, waiter: Waiter, owner: Waiter) -> bool:
        """Give a waiter's message to a turn, if it is not there already; the waiter waits on."""
        (record,) = self._owned[waiter]
        if record.owner is owner:
            return False
        record.owner = owner
        self._owned.setdefault(owner, []).append(record)
        return True

    def answer(self, owner: Waiter, replies: Mapping[str, str], window: float) -> Iterator[Waiter]:
        """Keep the replies to messages that the owner has, and give them to the waiters.

        Yields the waiters of carried messages: their tickets have ended.
        """
        for message_id, reply in replies.items():
            key = (owner.conversation_id, message_id)
            record = self._records.get(key)
            if record is None or record.owner is not owner or len(reply.encode()) > MAX_REPLY:
                continue
            self._records.move_to_end(key)
            record.owner, record.reply, record.expires = None, reply, clock() + window
            for follower in record.followers:
                self._tell(follower, reply)
            record.followers.clear()
            if record.waiter is not owner:
                self._owned.pop(record.waiter, None)
                self._tell(record.waiter, reply)
                yield record.waiter

    def disown(self, ended: Waiter) -> None:
        """A ticket or turn has ended; what it has not answered goes to those who wait for it."""
        for record in self._owned.pop(ended, ()):
            if record.reply is not None or record.owner not in (ended, None):
                continue  # answered, or carried by a turn that goes on
            # A carried message has its own ticket still, unless its waiter gave up.
            record.owner = record.waiter if record.waiter in self._owned else None
            if record.owner is None:
                followers, record.followers = record.followers, []
                for follower in followers:
                    alive = follower.future is not None and not follower.future.done()
                    if alive and self.admit(follower):
                        self._requeue(follower)

    def close(self, error: Exception) -> None:
        """Forget everything; each waiter for a reply gets `error`."""
        for record in self._records.values():
            for follower in record.followers:
                if follower.future is not None and not follower.future.done():
                    follower.future.set_exception(error)
        self._records.clear()
        self._owned.clear()

    def _tell(self, waiter: Waiter, reply: str) -> None:
        assert waiter.incoming is not None  # else it would not follow
        assert waiter.future is not None  # made before it was admitted
        if not waiter.future.done():
            message_id = waiter.incoming.message_id
            waiter.future.set_exception(DuplicateMessage(waiter.conversation_id, message_id, reply))

    def _sweep(self) -> None:
        """Look at some, and forget those whose window is over; the others hide none behind them."""
        now = clock()
        for _ in range(min(_SWEEP, len(self._records))):
            key, record = self._records.popitem(last=False)
            if record.owner is not None or record.expires > now:
                self._records[key] = record
