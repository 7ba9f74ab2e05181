"""`RedisLockStore`: the documented storage, one JSON document a conversation, made atomic."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ..aio.portal import finalizer
from ..checks import check_conversation_id
from ..errors import LockStoreConnectionError
from ..redis.connect import connect, explain
from ..redis.link import Link
from ..redis.scripts import load
from ..redis.settings import RedisSettings
from ..settings.section import Section, endpoint_values
from ..settings.store_keys import RedisLockStoreKeys
from .documents import LEASE, DocumentQueue
from .store import LockStore
from .tickets import TicketLock

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")

#: Seconds a document stays after its last use, so that numbers and fences go on growing.
IDLE_EXPIRY = 3600.0


class RedisDocuments(DocumentQueue):
    """Turns over documents that are swapped by a script, with the server's clock.

    Args:
        prefix: of the documents' keys.
        store: whose `lease` counts.
    """

    def __init__(self, settings: RedisSettings, prefix: str, store: LockStore) -> None:
        self._settings = settings
        self._prefix = prefix
        self._finalizer = finalizer(self, lambda: None)
        # Weakly: a store that is dropped takes its link along at once.
        self._store = weakref.ref(store)
        self._lease = store.lease
        super().__init__()

    @property
    def lease(self) -> float:
        if (store := self._store()) is not None:
            self._lease = store.lease
        return self._lease

    @property
    def beat(self) -> float:
        return min(self.lease, LEASE) / 10  # a program that drops our ticket lets the next one in

    def _begin_anew(self) -> None:
        self._link: Link | None = None
        super()._begin_anew()

    def _live_link(self) -> Link:
        self._check_home()
        if self._link is None:
            settings = self._settings  # a link that knew its queue would keep it alive
            self._link = Link(
                lambda: connect(settings),
                lambda error: explain(settings, error),
                prologue=[("SCRIPT", "LOAD", load("document").source)],
                timeout=settings.socket_timeout,
            )
            self._finalizer.detach()
            self._finalizer = finalizer(self, _abandon, self._link, asyncio.get_running_loop())
        return self._link

    async def _swap(self, conversation_id: str, *texts: str) -> tuple[bool, float, str]:
        """Run the script: whether it swapped, epoch seconds, the document as it was."""
        key = self._prefix + check_conversation_id(conversation_id)
        expiry = (round(1000 * (IDLE_EXPIRY + self.lease)),) if len(texts) == 2 else ()
        args = ("EVALSHA", load("document").sha, 1, key, *texts, *expiry)
        command = self._live_link().submit(args)
        swapped, micros, text = await command.future
        found = text.decode()
        # Sent twice because its answer was lost: the first one did it.
        done = bool(swapped) or (command.repeated and len(texts) == 2 and found == texts[1])
        return done, micros / 1e6, found

    async def update(self, conversation_id: str, change: Callable[[TicketLock, float], T]) -> T:
        _, now, before = await self._swap(conversation_id)
        while True:
            lock = _parse(conversation_id, before)
            lock.remove_expired_tickets(now)
            changed = change(lock, now)
            after = lock.dumps()
            if after == before or (not before and not lock.tickets):
                return changed
            swapped, now, current = await self._swap(conversation_id, before, after)
            if swapped:
                return changed
            before = current

    async def now(self) -> float:
        return (await self._swap("clock"))[1]

    async def get_or_create(self, conversation_id: str) -> TicketLock:
        _, _, text = await self._swap(conversation_id)
        return _parse(conversation_id, text)

    async def get_lock(self, conversation_id: str) -> TicketLock | None:
        """The stored lock; None if there is none."""
        _, _, text = await self._swap(conversation_id)
        return _parse(conversation_id, text) if text else None

    async def save_lock(self, lock: TicketLock) -> None:
        """Replace the stored lock, whatever it was."""
        key = self._prefix + check_conversation_id(lock.conversation_id)
        expiry = round(1000 * (IDLE_EXPIRY + self.lease))
        await self._live_link().call(("SET", key, lock.dumps(), "PX", expiry))

    async def delete_lock(self, conversation_id: str) -> None:
        """Remove the stored lock."""
        await self._live_link().call(("DEL", self._prefix + check_conversation_id(conversation_id)))

    async def close(self) -> None:
        await super().close()  # which forgets the link of a parent, or of a loop that is gone
        link, self._link = self._link, None
        self._finalizer.detach()
        if link is not None:
            await link.close()


class RedisLockStore(LockStore):
    """Locks in documents `[<key_prefix>:]lock:<id>`, as existing deployments have them.

    Waiters poll. Every change is a compare-and-swap, with the server's clock. For new
    deployments `ConcurrentRedisLockStore` is faster by orders of magnitude.

    Args: as for `ConcurrentRedisLockStore`.
    """

    def __init__(
        self,
        endpoint_config: Any = None,
        *,
        where: str = "lock_store",
        **keys: Unpack[RedisLockStoreKeys],
    ) -> None:
        values = endpoint_values(endpoint_config) if endpoint_config is not None else {}
        section = Section({**values, **keys}, where)
        self.settings = RedisSettings.read(section)
        read = section.read(RedisLockStoreKeys)
        if self.settings.deployment_mode == "cluster":
            raise section.error(
                "deployment_mode", "cluster is not for type redis; use concurrent_redis"
            )
        section.finish()
        super().__init__(max_waiting=read["max_waiting"])
        if read["lease"] is not None:
            self.lease = read["lease"]

    def _make_queue(self) -> RedisDocuments:
        prefix = self.settings.prefixed("lock:")
        self._redis_documents = RedisDocuments(self.settings, prefix, self)
        return self._redis_documents

    async def get_lock(self, conversation_id: str) -> TicketLock | None:
        return await self._redis_documents.get_lock(conversation_id)

    async def save_lock(self, lock: TicketLock) -> None:
        await self._redis_documents.save_lock(lock)

    async def delete_lock(self, conversation_id: str) -> None:
        await self._redis_documents.delete_lock(conversation_id)


def _abandon(link: Link, loop: asyncio.AbstractEventLoop) -> None:
    """Close the link of a queue that was dropped; called on any thread."""

    def close() -> None:
        _closing.add(task := loop.create_task(link.close()))
        task.add_done_callback(_closing.discard)

    with suppress(RuntimeError):  # the loop is closed, and with it the connection
        loop.call_soon_threadsafe(close)


_closing: set[asyncio.Task[None]] = set()


def _parse(conversation_id: str, text: str) -> TicketLock:
    if not text:
        return TicketLock(conversation_id)
    try:
        return TicketLock.from_dict(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LockStoreConnectionError(
            f"the stored lock of conversation {conversation_id!r} is not a ticket lock ({error}): "
            "delete_lock removes it"
        ) from error
