"""`RedisTrackerStore`: a conversation is one hash, changed by scripts that only append.

A conversation has one key, `[<key_prefix>:]tracker:{<id>}:events`. It expires, is evicted and moves
between nodes of a cluster as a whole, so its events are complete or gone. One script claims and
reads, another appends; the time of neither grows with the number of stored events. Events that wait
to be published are noted in the hash too, see `outbox`.

A value in the documented format (`[<key_prefix>:]tracker:<id>`, one JSON document) can be read, and
the first claim or write of its conversation converts it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from ticketlock.aio.running import CutOff
from ticketlock.errors import EventsWaiting, StaleFence, UnreadableHistory
from ticketlock.events.codec import EncodedEvent, encode_events
from ticketlock.plain_json import MAX_DEPTH, load
from ticketlock.redis.settings import RedisSettings
from ticketlock.settings.section import Section
from ticketlock.settings.store_keys import RedisTrackerKeys
from ticketlock.tracker.fenced import EventLog, FencedTrackerStore, Write
from ticketlock.tracker.store import PROBE
from ticketlock.tracker.stored import StoredEvents

from .client import RedisClient
from .outbox import RedisOutbox

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Conversations that `keys` and `count_conversations` read in one request.
_PAGE = 500


class RedisTrackerStore(FencedTrackerStore):
    """Conversations in Redis: one server, a cluster, or servers behind sentinels.

    Args:
        values: the keys of `RedisTrackerKeys`, see docs/reference/endpoints.md.
        where: how error messages name these settings.
    """

    def __init__(
        self,
        domain: Any = None,
        event_broker: Any = None,
        *,
        where: str = "tracker_store",
        **values: Unpack[RedisTrackerKeys],
    ) -> None:
        super().__init__(domain, event_broker)
        self._running = CutOff()  # a script is done or not, and shares its connection with others
        section = Section(values, where)
        self.settings = RedisSettings.read(section, RedisTrackerKeys)
        self.record_exp = section.read(RedisTrackerKeys)["record_exp"]
        section.finish()
        self._expiry_ms = 0 if self.record_exp is None else max(1, round(1000 * self.record_exp))
        self._prefix = self.settings.prefixed("tracker:")
        self._client = RedisClient(self.settings)
        self._outbox = RedisOutbox(self._client, self._key, self._expiry_ms)
        self.outbox = self._outbox

    @property
    def histories_at(self) -> str:
        return f"Redis at {self.settings.address}, db {self.settings.db}, keys {self._prefix}"

    # -- the backend's part of the contract ------------------------------------------------------

    async def check_ready(self) -> None:
        """Run a write without effect: replicas, and masters without enough replicas, refuse it."""
        await self._running.finish(self._client.command("PERSIST", self._prefix + PROBE))

    async def _do_claim(self, sender_id: str, fence: int, owner: str) -> EventLog:
        args = (fence, owner, "session", self._expiry_ms)
        answer = await self._change("tracker_read", sender_id, self._keys(sender_id), *args)
        return _history(sender_id, fence, answer)

    async def _do_write(self, write: Write) -> int:
        fence, owner = write.guard or (0, "")
        events, expected, listing = write.events, write.sequence, b""
        mark = "" if write.mark is None else f"={write.mark}"
        keys = self._keys(write.sender_id) + (self._outbox.keys if write.publish else [])
        while True:
            answer = await self._change(
                "tracker_write", write.sender_id, keys, fence, owner,
                "replace" if write.replace else "append", expected, _last_start(events),
                _latest(events), self._expiry_ms, write.publish, write.sender_id, listing,
                mark, _lines(events),
            )  # fmt: skip
            if answer[0] == b"stale":
                raise StaleFence(write.sender_id, fence, int(answer[1]))
            if answer[0] == b"waiting":
                raise EventsWaiting(write.sender_id)
            if answer[0] == b"done":
                return int(answer[1])
            if answer[0] == b"list":
                listing = answer[1]
                await self._outbox.add(write.sender_id, write.publish)
                continue
            # A reply was lost, or another writer appended: compare with the stored events.
            beyond = await self._look(write.sender_id, str(write.sequence))
            events, expected = write.new_events(beyond.events), beyond.sequence

    async def _do_read(self, sender_id: str, full: bool) -> EventLog:
        return await self._look(sender_id, "all" if full else "session")

    async def _do_keys(self) -> list[str]:
        found = {sender_id async for sender_id, latest in self._scan() if latest is not None}
        return list(found)

    async def _do_count(self, after_timestamp: float) -> int:
        found = {
            sender_id
            async for sender_id, latest in self._scan()
            if latest is not None and latest >= after_timestamp
        }
        return len(found)

    async def _do_delete(self, sender_id: str) -> bool:
        # The documented value first: left alone, it would be converted again.
        old = await self._client.command("DEL", self._prefix + sender_id)
        return await self._outbox.delete(sender_id) or bool(old)

    async def _do_connect(self) -> None:
        await self._client.command("EXISTS", self._prefix + PROBE)

    async def _do_close(self) -> None:
        await self._client.close()

    # -- keys --------------------------------------------------------------------------------------

    def _key(self, sender_id: str) -> str:
        # A closing brace would end the hash tag early: the id is escaped, one to one.
        tag = sender_id.replace("%", "%25").replace("}", "%7D")
        return f"{self._prefix}{{{tag}}}:events"

    def _keys(self, sender_id: str) -> list[str]:
        """The keys for a script; in a cluster without that of the documented value."""
        key = self._key(sender_id)
        return [key] if self._client.cluster else [key, self._prefix + sender_id]

    async def _scan(self) -> AsyncIterator[tuple[str, float | None]]:
        """(id, greatest timestamp or None without events) of all conversations; some twice."""
        head, tail = len(self._prefix) + 1, len("}:events")
        async for page in self._pages("hash", f"{self._prefix}{{*}}:events"):
            for key, (latest,) in zip(page, await self._client.of_each(page, "HMGET", "latest")):  # noqa: B905  # one answer a key
                sender_id = key[head:-tail].replace("%7D", "}").replace("%25", "%")
                yield sender_id, None if latest is None else _number(latest)
        async for page in self._pages("string", f"{self._prefix}*"):
            for key, text in zip(page, await self._client.of_each(page, "GET")):  # noqa: B905  # as above
                sender_id = key[len(self._prefix) :]
                if text is not None:
                    found: float | None = 0.0  # for a broken one; reading it raises the error
                    with contextlib.suppress(UnreadableHistory):
                        events = _documented(key, text)
                        found = float(_latest(events)) if events else None
                    yield sender_id, found

    async def _pages(self, kind: str, pattern: str) -> AsyncIterator[list[str]]:
        async for keys in self._client.scan(pattern, kind):
            names = [key.decode(errors="surrogateescape") for key in keys]
            for start in range(0, len(names), _PAGE):
                yield names[start : start + _PAGE]

    # -- the documented format ---------------------------------------------------------------------

    async def _look(self, sender_id: str, start: str) -> EventLog:
        """Read the hash, or the value in the documented format, without writing."""
        keys = self._keys(sender_id)
        for _ in range(2):  # another process may convert it between script and GET
            answer = await self._client.script("tracker_read", keys, "", "", start, 0)
            if answer[0] != b"look":
                return _history(sender_id, 0, answer)
            text = await self._client.command("GET", self._prefix + sender_id)
            if text is not None:
                events = _documented(self._prefix + sender_id, text)
                wires = [event.wire for event in events]
                first = 0 if start == "all" else max(0, _last_start(events))
                return EventLog(wires[first:], len(wires))
        return EventLog([], 0)

    async def _do_beside(self, sender_id: str) -> tuple[list[EncodedEvent], str]:
        key = self._prefix + sender_id
        text = await self._client.command("GET", key)
        if text is None:
            return [], ""
        return _documented(key, text), hashlib.sha1(text).hexdigest()

    async def _do_drop_beside(self, sender_id: str, seen: str) -> None:
        await self._client.script("tracker_drop", [self._prefix + sender_id], seen)

    async def _change(self, name: str, sender_id: str, keys: list[str], *args: Any) -> Any:
        """Run a script that writes; convert the conversation first if needed."""
        while True:
            answer = await self._client.script(name, keys, *args)
            if answer[0] != b"look":
                return answer
            old = self._prefix + sender_id
            text = await self._client.command("GET", old)
            events = [] if text is None else _documented(old, text)
            await self._client.script(
                "tracker_adopt", [self._key(sender_id)], max(0, _last_start(events)),
                _latest(events) if events else "", self._expiry_ms, _lines(events),
            )  # fmt: skip
            if text is not None:
                await self._client.script("tracker_drop", [old], hashlib.sha1(text).hexdigest())


def _history(sender_id: str, fence: int, answer: list[Any]) -> EventLog:
    if answer[0] == b"stale":
        raise StaleFence(sender_id, fence, int(answer[1]))
    events, mark = StoredEvents([text.decode() for text in answer[4:]]), answer[3].decode()
    beside = answer[0] == b"beside"
    return EventLog(events, int(answer[1]), int(answer[2]), mark=mark, beside=beside)


def _documented(key: str, text: bytes) -> list[EncodedEvent]:
    """The events of a value in the documented format. Raises UnreadableHistory."""
    try:
        return encode_events(load(text, 2 + MAX_DEPTH)["events"])
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableHistory(
            f"Redis key {key!r} is not a tracker (JSON with a list 'events'): {error!r:.300}; "
            "repair or remove it"
        ) from error


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _lines(events: Sequence[EncodedEvent]) -> str:
    """The events as one argument of a script: their JSON has no line ends."""
    return "\n".join(event.text for event in events)


def _last_start(events: Sequence[EncodedEvent]) -> int:
    """Index of the last event that starts a session; -1 without one."""
    return next((i for i in range(len(events) - 1, -1, -1) if events[i].starts_session), -1)


def _latest(events: Sequence[EncodedEvent]) -> str:
    """The greatest timestamp, as text with every digit."""
    return repr(max((event.timestamp or 0.0 for event in events), default=0.0))
