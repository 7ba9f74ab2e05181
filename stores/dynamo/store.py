"""`DynamoTrackerStore`: a turn is one transaction of a small item and its events.

The documented table has one item per conversation, with numbers only. Events are stored in
`<table_name>_events`, in items of at most 300 KB, so neither a long conversation nor a large event
exceeds the limit of an item. An append is a TransactWriteItems with conditions on fence, owner and
sequence. A write too large for one transaction first puts its events where they are not read yet,
and commits them by a last conditional update. A claim is one conditional update and a query for the
events of the latest session.

The transaction that commits events also notes in `<table_name>_outbox` that they wait.

An item of the documented format (with `events`) can be read, and the first claim or write of its
conversation converts it in one transaction.

boto3 blocks, so it runs in the store's own threads, and never blocks the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from ticketlock import process
from ticketlock.aio.threads import Threads
from ticketlock.settings.section import Section
from ticketlock.settings.store_keys import DynamoKeys
from ticketlock.tracker.fenced import EventLog, FencedTrackerStore, Write

from .client import DynamoClient, explained
from .conversations import Conversations
from .outbox import DynamoOutbox

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class DynamoTrackerStore(FencedTrackerStore):
    """Conversations in DynamoDB. Credentials come from the usual AWS chain.

    Tables that do not exist are created, billed per request.

    Args:
        values: the keys of `DynamoKeys`, see docs/reference/endpoints.md.
        where: how error messages name these settings.
    """

    max_id_length = 512  # a key has 2048 bytes, and a character up to four

    def __init__(
        self,
        domain: Any = None,
        event_broker: Any = None,
        *,
        where: str = "tracker_store",
        **values: Unpack[DynamoKeys],
    ) -> None:
        super().__init__(domain, event_broker)
        section = Section(values, where)
        keys = section.read(DynamoKeys)
        section.finish()
        connections = keys["max_pool_connections"]
        self._client = DynamoClient(
            keys["table_name"],
            keys["region"],
            keys["endpoint_url"],
            keys["socket_timeout"],
            connections,
        )
        self._conversations = Conversations(self._client)
        self._connections = connections
        self._threads = self._make_threads()
        self.outbox = DynamoOutbox(self._client, self._run)

    def _make_threads(self) -> Threads:
        return Threads(min(32, self._connections), "ticketlock-dynamo")

    def forked(self) -> None:
        super().forked()
        process.leave_to_parent(self._threads)
        self._threads = self._make_threads()

    @property
    def histories_at(self) -> str:
        return f"DynamoDB at {self._client.where}, {self._client.heads}"

    async def _run(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._translated, work, *args
        )

    def _translated(self, work: Callable[..., T], *args: Any) -> T:
        try:
            return work(*args)
        except (ClientError, BotoCoreError) as error:
            raise explained(self._client.where, error) from error

    async def _do_connect(self) -> None:
        await self._run(self._client.connect)

    async def _do_close(self) -> None:
        waiting = Threads(1, "ticketlock-dynamo")
        await asyncio.get_running_loop().run_in_executor(waiting, self._threads.shutdown)
        waiting.shutdown(wait=False)
        self._client.close()

    # -- the backend's part of the contract ------------------------------------------------------

    async def _do_claim(self, sender_id: str, fence: int, owner: str) -> EventLog:
        return await self._run(self._conversations.claim, sender_id, fence, owner)

    async def _do_write(self, write: Write) -> int:
        return await self._run(self._conversations.write, write)

    async def _do_read(self, sender_id: str, full: bool) -> EventLog:
        return await self._run(self._conversations.read, sender_id, full)

    async def _do_keys(self) -> list[str]:
        return await self._run(self._conversations.keys)

    async def _do_count(self, after_timestamp: float) -> int:
        return await self._run(self._conversations.count, after_timestamp)

    async def _do_delete(self, sender_id: str) -> bool:
        return await self._run(self._conversations.delete, sender_id)
