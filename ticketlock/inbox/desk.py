"""What operators ask of the inbox on Redis, and do to it: `RedisInbox` without its turns.

Conversations with dead letters are in an index, in which a conversation is put before a letter is
stored: they may be in different slots. Its entries without letters are removed when they are old.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from ..locks.concurrent.engine import Engine
from ..locks.concurrent.scripts import list_dead
from ..locks.incoming import field
from ..redis.scripts import load
from .asking import AskedInbox
from .inbox import Withdrawn
from .served import Served
from .submission import Deleted, Letter, LetterKind, Letters, Pending, SubmittedMessage

#: Conversations with dead letters that are looked at.
_SEARCHED = 1000
#: Milliseconds after which an entry of the index without a letter is removed: by then the script
#: that was to store one has run, or never will.
_EMPTY = 600_000
#: Seconds for which a deleted message is known as withdrawn to those who wait for it.
_TOLD = 600.0
_WITHDRAWN: tuple[Withdrawn, ...] = ("unknown", "withdrawn", "begun", "finished")


class RedisDesk(AskedInbox):
    """The part for operators."""

    def engine(self) -> Engine:
        """The engine of the lock store. Raises LockStoreConnectionError."""
        raise NotImplementedError

    def counted(self, conversation_id: str, messages: int, size: int) -> None:
        """Count unfinished messages that have come, or gone, and their bytes."""
        raise NotImplementedError

    async def withdraw(
        self, conversation_id: str, message_id: str, window: float = 600.0
    ) -> Withdrawn:
        text = '{"reason": "withdrawn"}'
        args = self.connected().revoke(conversation_id, field(message_id), window, text)
        found, *size = await self.call(args)
        self.counted(conversation_id, -len(size), -sum(size))
        return _WITHDRAWN[int(found)]

    async def waiting(self, conversation_id: str, most: int = 100) -> Sequence[SubmittedMessage]:
        args = self.connected().submitted(conversation_id, most)
        _, serving, now, *found = await self.call(args)
        rows = []
        for id_, state, text in zip(found[::3], found[1::3], found[2::3], strict=True):
            number, _, attempts, _, since, mode, _ = state.decode().split(" ")
            age = max(0.0, now - int(since)) / 1000
            rows.append(
                SubmittedMessage(
                    conversation_id, unquote(id_.decode()), int(number), age, int(attempts),
                    int(number) == serving, mode, text.decode(),
                )
            )  # fmt: skip
        return rows[:most]

    async def conversations(self, most: int = 100) -> Sequence[Pending]:
        scripts = self.connected()
        names = []
        for shard in range(scripts.index.shards):
            names += [name for name, _ in await self._entries(scripts.index.key(shard), most)]
        found = await asyncio.gather(*map(self._pending, names))
        found.sort(key=lambda pair: (not pair[1].messages, pair[0]))
        return [one for _, one in found if one.messages or one.deliveries][:most]

    async def _pending(self, name: str) -> tuple[int, Pending]:
        """When its first message was submitted, and what there is."""
        keys = self.engine().scripts.keys
        _, holder, queue, _ = keys.of(name)
        count, since, attempts, running, deliveries, now = await self._eval(
            "pending", (holder, queue, keys.submitted(name), keys.of_deliveries(name)[0])
        )
        waited = max(0.0, now - since) / 1000 if since else 0.0
        return since, Pending(name, count, waited, attempts, bool(running), deliveries)

    # -- dead letters --------------------------------------------------------------------------------

    async def letters(self, conversation_id: str, most: int = 100) -> Sequence[Letter]:
        keys = self.engine().scripts.keys
        named = (keys.dead(conversation_id), keys.of_deliveries(conversation_id)[2])
        _, *found = await self._eval("letters", named, most)
        letters = [
            _letter(conversation_id, kind == b"m", id_, text)
            for kind, id_, text in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]
        return sorted(letters, key=lambda letter: letter.died)[:most]

    async def all_letters(self, most: int = 100) -> Letters:
        keys = self.engine().scripts.keys
        names = await self._entries(keys.dead_index, _SEARCHED)
        found: list[Letter] = []
        looked = 0
        for name, age in reversed(names):  # those that were listed last
            if len(found) > most:
                break
            looked += 1
            letters = await self.letters(name, most + 1)
            found += letters
            if not letters and age > _EMPTY:
                await self.call(list_dead(keys, name, out=True))
        found.sort(key=lambda letter: -letter.died)
        return Letters(found[:most], len(found) > most or looked < len(names))

    async def bury(self, served: Served, text: str) -> None:
        engine = self.engine()
        await self.call(list_dead(engine.scripts.keys, served.conversation_id))
        served.end("x", text)

    async def resend(
        self, conversation_id: str, message_id: str, kind: LetterKind = "message"
    ) -> bool:
        if kind == "delivery":
            return await self._settle(conversation_id, message_id, again=True)
        scripts, listing = self.connected(), "0"
        while True:
            await self._put_into_index(conversation_id)
            args = scripts.resend(conversation_id, field(message_id), listing)
            state, *rest = await self.call(args)
            if state != -2:
                break
            listing = rest[0].decode()
        if state == 0:
            self.counted(conversation_id, 1, rest[-1])
            if scripts.cluster:
                await self.call(scripts.tell(conversation_id))
        if state == 2:
            raise ValueError(
                f"message {message_id!r} was submitted again by its sender, and is finished: "
                "drop the dead letter"
            )
        return bool(state != -3)

    async def drop(
        self, conversation_id: str, message_id: str, kind: LetterKind = "message"
    ) -> bool:
        if kind == "delivery":
            return await self._settle(conversation_id, message_id)
        key = self.engine().scripts.keys.dead(conversation_id)
        return bool(await self._eval("drop", (key,), field(message_id)))

    async def _settle(self, name: str, message_id: str, *, again: bool = False) -> bool:
        """Remove the deliveries of a message that are dead letters, or send them `again`."""
        keys, scripts = self.engine().scripts.keys, self.connected()
        deliveries, _, dead = keys.of_deliveries(name)
        index = () if scripts.cluster else (scripts.index.of(name),)
        done = 0
        for letter in await self.letters(name, 1000):
            if letter.kind != "delivery" or letter.message_id != message_id:
                continue
            if again:
                await self._put_into_index(name)
            digest = hashlib.sha1(letter.stored.encode()).hexdigest()
            delivery = letter.text if again else ""
            done += await self._eval(
                "deliver_settle", (dead, deliveries, *index), digest, name, delivery
            )
        return done > 0

    async def _put_into_index(self, name: str) -> None:
        """In a cluster: before something is stored, so that some process looks at it."""
        if (scripts := self.connected()).cluster:
            await self.call(scripts.enlist(name, 0))

    # -- deleting ------------------------------------------------------------------------------------

    async def delete(self, conversation_id: str) -> Deleted:
        engine = self.engine()
        keys, timing = engine.scripts.keys, engine.scripts.timing
        named = (
            *keys.all(conversation_id), keys.submitted(conversation_id),
            *keys.of_deliveries(conversation_id)[:2], keys.dead(conversation_id),
            keys.of_deliveries(conversation_id)[2],
        )  # fmt: skip
        messages, deliveries, letters, broken, size = await self._eval(
            "delete", named, keys.bell, timing.lease, timing.idle, '{"reason": "deleted"}',
            round(1000 * _TOLD),
        )  # fmt: skip
        # The index of messages forgets the conversation at the next look.
        await self.call(list_dead(keys, conversation_id, out=True))
        self.counted(conversation_id, -messages, -size)
        return Deleted(messages, deliveries, letters, bool(broken))

    # -- scripts that only operators use, so that no connection loads them ahead ----------------------

    async def _eval(self, script: str, keys: tuple[str, ...], *args: Any) -> Any:
        command = ("EVAL", load(script).source, len(keys), *keys, *args)
        return await self.call(command)

    async def _entries(self, index: str, most: int) -> list[tuple[str, float]]:
        """The first conversations of an index, and the milliseconds since their marks."""
        now, _, *found = await self._eval("listed", (index,), most)
        pairs = zip(found[::2], found[1::2], strict=True)
        return [(name.decode(), now - float(mark)) for name, mark in pairs]


def _letter(name: str, message: bool, id_: bytes, stored: bytes) -> Letter:
    """A dead letter as scripts keep it."""
    if message:
        died, number, since, size, rest = stored.split(b" ", 4)
        reason, text = rest[: int(size)].decode(), rest[int(size) :].decode()
        name_of = unquote(id_.decode())
        return Letter(name, name_of, int(number), int(since), int(died), reason, text)
    made = json.loads(stored)
    try:
        delivery = json.loads(made["delivery"])
        message_id, ticket = str(delivery["message_id"]), int(delivery["number"])
        ended = int(delivery["at"])
    except (ValueError, TypeError, KeyError):  # it is dead because it cannot be read
        message_id, ticket, ended = "", 0, 0
    return Letter(
        name, message_id, ticket, ended, int(made["dead_at"]), made["reason"], made["delivery"],
        "delivery", stored.decode(),
    )  # fmt: skip
