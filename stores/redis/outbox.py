"""`RedisOutbox`: waiting events are noted in the conversation's hash, and found by an index.

The hash is authoritative (lua/tracker_read.lua lists its fields): the script that appends events
notes the number of the first waiting one, atomically. The index,
`[<key_prefix>:]tracker_outbox:{waiting}`, is a sorted set of conversation ids. The score is the
time from which a relay may take the conversation.

On one server a script changes both. In a cluster they are in different slots, so the index may
have entries without waiting events, which cost a relay one request, but it never lacks one:

- A writer adds the entry first, then its script notes the waiting events. If it is killed in
  between, the entry is superfluous. While events wait the entry exists, and is not added again.
- A relay that finds no waiting events removes the entry, unless a writer has added it again
  since *before* the relay read the hash: each addition leaves a mark of its own beside the index.
- If the entry was added before that read, for a script that runs after it, the mark does not
  show that. So reading invalidates earlier additions, by a counter in the hash: a script that
  was sent for an earlier addition writes nothing and returns {"list"}. Then the writer adds the
  entry again, and repeats the script. A hash that does not exist has no counter; the next one
  has another `born`.
- A relay changes the score of conversations that it takes or releases, and never adds an entry
  (ZADD XX). If it is frozen in between, it may set an old score: that delays events by seconds.

A node of a cluster may lose an entry in a failover. The next write of the conversation adds it
again, once the events are overdue (lua/tracker_write.lua).
"""

from __future__ import annotations

import asyncio
import heapq
import json
import secrets
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from ticketlock.events.stored import StoredEvent
from ticketlock.tracker.outbox import VOID_MS, Backlog, Batch, DeadLetter, Lease, Outbox, now_ms

from .client import RedisClient

#: Bytes of JSON in a batch; a larger event makes a batch of its own.
MAX_BATCH_BYTES = 1_000_000

#: Events that one script reads at most: the server runs no other command meanwhile.
_EVENTS = 800

#: Conversations, or dead letters, read in one request.
_PAGE = 500


class RedisOutbox(Outbox):
    """The outbox of a `RedisTrackerStore`. Except in a cluster, one script takes or advances
    several conversations.

    Args:
        key_of: returns the key of a conversation's hash.
        expiry_ms: milliseconds after which a conversation without waiting events expires; 0:
            never.

    Attributes:
        keys: additional keys for scripts that change the hash, with which they update the index.
    """

    parallel = 64

    def __init__(self, client: RedisClient, key_of: Callable[[str], str], expiry_ms: int) -> None:
        self._client = client
        self._key_of = key_of
        self._expiry_ms = expiry_ms
        # Not below `tracker:`, where a conversation of the documented format may have any name.
        self._index = client.settings.prefixed("tracker_outbox:{waiting}")
        self._marks = self._index + ":marks"
        self._letters = client.settings.prefixed("tracker_outbox:dead_letters")
        self.keys = [] if client.cluster else [self._index]

    # -- relays ------------------------------------------------------------------------------------

    async def waiting(self, limit: int, before: int) -> list[str]:
        names = await self._listed("-inf", before, limit)
        if len(names) < limit:  # leases of a wrong clock; `take` checks again
            void = max(before, now_ms() + VOID_MS)
            names += await self._listed(f"({void}", "+inf", limit - len(names))
        return names

    async def take(self, sender_id: str, lease: Lease, limit: int) -> Batch | None:
        return (await self.take_each([sender_id], lease, limit))[0]

    async def take_each(
        self, sender_ids: Sequence[str], lease: Lease, limit: int
    ) -> list[Batch | None]:
        if self._client.cluster and len(sender_ids) != 1:
            return await super().take_each(sender_ids, lease, limit)
        mark = await self._mark(sender_ids)
        answers = await self._change(
            "outbox_take", sender_ids, lease.relay, lease.now, lease.until, lease.beyond,
            min(limit, _EVENTS // len(sender_ids)), MAX_BATCH_BYTES, *sender_ids,
        )  # fmt: skip
        if answers[0][0] == b"none":
            await self._unlist(sender_ids, mark)
        if answers[0][0] == b"taken":
            await self._move(sender_ids, lease.until)
        return [_batch(*pair) for pair in zip(sender_ids, answers, strict=True)]

    async def advance(self, batch: Batch, lease: Lease, to: int) -> bool:
        return (await self.advance_each([(batch, to)], lease))[0]

    async def advance_each(self, reached: Sequence[tuple[Batch, int]], lease: Lease) -> list[bool]:
        if self._client.cluster and len(reached) != 1:
            return await super().advance_each(reached, lease)
        sender_ids = [batch.sender_id for batch, _ in reached]
        mark = await self._mark(sender_ids)
        args = [(p.sender_id, p.history, p.first, to) for p, to in reached]
        answers = await self._change(
            "outbox_advance", sender_ids, lease.relay, lease.until, self._expiry_ms,
            *chain.from_iterable(args),
        )  # fmt: skip
        if answers[0] == 0:
            await self._unlist(sender_ids, mark)
        if answers[0] == 1:
            await self._move(sender_ids, lease.until)
        return [answer == 1 for answer in answers]

    async def exchange(
        self,
        reached: Sequence[tuple[Batch, int]],
        sender_ids: Sequence[str],
        lease: Lease,
        limit: int,
    ) -> tuple[list[bool], list[Batch | None]]:
        same = {batch.sender_id for batch, _ in reached}.intersection(sender_ids)
        if same or not reached or not sender_ids:
            return await super().exchange(reached, sender_ids, lease, limit)
        # Both in one packet; in a cluster one for each node.
        return await asyncio.gather(
            self.advance_each(reached, lease), self.take_each(sender_ids, lease, limit)
        )

    async def release(self, sender_id: str, relay: str) -> None:
        now = now_ms()
        if await self._change("outbox_release", [sender_id], relay, now, sender_id):
            await self._move([sender_id], now)

    async def backlog(self) -> Backlog:
        """See `Outbox.backlog`. Concurrent changes may be counted twice or not at all."""
        conversations = events = 0
        since, cursor = None, b"0"
        while True:
            cursor, page = await self._client.command("ZSCAN", self._index, cursor, "COUNT", _PAGE)
            keys = [self._key_of(name.decode()) for name in page[::2]]
            fields = ("outbox", "sequence", "outbox_since")
            for first, end, begun in await self._client.of_each(keys, "HMGET", *fields):
                if first is not None:
                    conversations, events = conversations + 1, events + int(end) - int(first)
                    since = int(begun) if since is None else min(since, int(begun))
            if cursor == b"0":
                return Backlog(conversations, events, since)

    # -- the index ---------------------------------------------------------------------------------

    async def add(self, sender_id: str, now: int) -> None:
        """In a cluster: add a conversation to the index, before events wait."""
        keys = [self._index, self._marks]
        await self._client.script("outbox_list", keys, sender_id, now, secrets.token_hex(8))

    async def delete(self, sender_id: str) -> bool:
        """Remove a conversation and its waiting events; return whether it had events."""
        mark = await self._mark([sender_id])
        had_events = await self._change("tracker_delete", [sender_id], sender_id)
        await self._unlist([sender_id], mark)
        return bool(had_events)

    async def _change(self, script: str, sender_ids: Sequence[str], *args: Any) -> Any:
        return await self._client.script(
            script, [*map(self._key_of, sender_ids), *self.keys], *args
        )

    async def _listed(self, low: str, high: int | str, limit: int) -> list[str]:
        args = ("ZRANGEBYSCORE", self._index, low, high, "LIMIT", 0, limit)
        return [name.decode() for name in await self._client.command(*args)]

    # These work in a cluster only, for one conversation at a time. On one server the scripts
    # update the index.

    async def _mark(self, sender_ids: Sequence[str]) -> bytes:
        """The mark of an entry, for `_unlist`."""
        if not self._client.cluster:
            return b""
        mark: bytes | None = await self._client.command("HGET", self._marks, sender_ids[0])
        return mark or b""

    async def _unlist(self, sender_ids: Sequence[str], mark: bytes) -> None:
        if self._client.cluster:
            keys = [self._index, self._marks]
            await self._client.script("outbox_unlist", keys, sender_ids[0], mark)

    async def _move(self, sender_ids: Sequence[str], at: int) -> None:
        if self._client.cluster:
            await self._client.command("ZADD", self._index, "XX", at, sender_ids[0])

    # -- dead letters ------------------------------------------------------------------------------

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            pairs = [part for letter in letters for part in (_field(letter), _text(letter))]
            await self._client.command("HSET", self._letters, *pairs)

    async def dead_letters(self, limit: int = 1000) -> list[DeadLetter]:
        names = await self._client.command("HKEYS", self._letters)
        fields = heapq.nsmallest(limit, names, key=_order)
        found: list[DeadLetter] = []
        for start in range(0, len(fields), _PAGE):
            page = fields[start : start + _PAGE]
            texts = await self._client.command("HMGET", self._letters, *page)
            found += (DeadLetter(**json.loads(text)) for text in texts if text is not None)
        return found

    async def remove_dead_letter(self, letter: DeadLetter) -> bool:
        return bool(await self._client.command("HDEL", self._letters, _field(letter)))


def _batch(sender_id: str, answer: Sequence[bytes]) -> Batch | None:
    if answer[0] != b"taken":
        return None
    history, first, sequence = map(int, answer[1:4])
    events = list(map(StoredEvent, map(bytes.decode, answer[4:])))
    return Batch(sender_id, history, first, sequence, events)


def _field(letter: DeadLetter) -> str:
    return f"{letter.history}:{letter.sequence}:{letter.sender_id}"


def _text(letter: DeadLetter) -> str:
    return json.dumps({**vars(letter), "event": dict(letter.event)})


def _order(field: bytes) -> tuple[str, int, int]:
    history, sequence, sender_id = field.decode().split(":", 2)
    return sender_id, int(history), int(sequence)
