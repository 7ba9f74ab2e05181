"""Messages on Redis that come due later; scripts: `lua/later.lua` and those beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..errors import QueueFull
from ..locks.concurrent.engine import Engine
from ..locks.incoming import field
from ..redis.scripts import load
from .due import (
    MAX_AHEAD,
    MAX_DUE,
    MAX_DUE_BYTES,
    MAX_OF_CONVERSATION,
    Cancelled,
    Due,
    When,
    check_text,
    names,
    too_far,
)
from .submission import Receipt, Submission

if TYPE_CHECKING:
    from .scripts import Index

_CANCELLED: tuple[Cancelled, ...] = ("unknown", "cancelled", "submitted")


class Later:
    """What waits until it is due.

    Args:
        index: says how many shards there are.
    """

    def __init__(self, engine: Engine, index: Index) -> None:
        self._engine = engine
        self._index = index
        self.shards = index.shards

    # -- keys and calls --------------------------------------------------------------------------

    def _tag(self, shard: int) -> str:
        return f"{self._index.prefix}{{later:{self.shards}:{shard}}}"

    def _keys(self, conversation_id: str) -> tuple[str, str, str, str]:
        """The keys (later, due, messages, counts) of a conversation."""
        tag = self._tag(self.shard(conversation_id))
        return tag, f"{tag}:due:{field(conversation_id)}", f"{tag}:messages", f"{tag}:counts"

    def shard(self, conversation_id: str) -> int:
        """The shard of a conversation."""
        return self._index.shard(conversation_id)

    async def call(self, name: str, keys: Sequence[str], *args: Any) -> Any:
        """Call a script. Raises LockStoreConnectionError."""
        words = ("EVALSHA", load(name).sha, len(keys), *keys, *args)
        return await self._engine.link.call(words)

    # -- for senders and operators ---------------------------------------------------------------

    async def put(self, message: Submission, when: When) -> Receipt:
        """Store a message until it is due. Raises ValueError, QueueFull, LockStoreConnectionError."""
        check_text(message.text)
        name = message.conversation_id
        due = (
            f"+{1000 * when.after:.0f}"
            if when.after is not None
            else f"{1000 * (when.at or 0):.0f}"
        )
        shares = (-(-MAX_DUE // self.shards), MAX_DUE_BYTES // self.shards)
        kind, found = await self.call(
            "later_put", self._keys(name), field(name), field(when.key), message.field, due,
            round(1000 * MAX_AHEAD), MAX_OF_CONVERSATION, *shares, _options(message), message.text,
        )  # fmt: skip
        if kind == -1:
            raise QueueFull(name, found)
        if kind == -2:
            raise too_far(found / 1000)
        return Receipt(0, known=kind == 0, message_id=message.message_id, due=found / 1000)

    def kept(self, conversation_id: str, when: When) -> tuple[str, str]:
        """The key and the field that a message has until it is due."""
        messages = self._keys(conversation_id)[2]
        return messages, f"{field(conversation_id)} {field(when.key)}"

    async def cancel(self, conversation_id: str, name: str, message_id: str = "") -> Cancelled:
        """Cancel a message; one with that id, or whichever has the name."""
        found: int = await self.call(
            "later_cancel", self._keys(conversation_id), field(conversation_id), field(name),
            field(message_id),
        )  # fmt: skip
        return _CANCELLED[found]

    async def cancel_all(self, conversation_id: str) -> int:
        """Cancel all messages of a conversation; returns how many there were."""
        keys = self._keys(conversation_id)
        found: int = await self.call("later_cancel", keys, field(conversation_id), "", "")
        return found

    async def due(self, conversation_id: str, most: int = 100, *only: str) -> list[Due]:
        """Messages of a conversation that come due later, in order; or some by name."""
        _, due, messages, _ = self._keys(conversation_id)
        wanted = map(field, only)
        found = await self.call(
            "later_list", (due, messages), field(conversation_id), most, *wanted
        )
        rows = zip(found[::4], found[1::4], found[2::4], found[3::4], strict=True)
        made = []
        for name, at, submitting, record in rows:
            message = submission(conversation_id, record)
            made.append(
                Due(
                    conversation_id, unquote(name.decode()), message.message_id, at / 1000,
                    bool(submitting), message.mode, message.text,
                )
            )  # fmt: skip
        return made

    async def find(self, conversation_id: str, message_id: str) -> Due | None:
        """The message with that id, if it is not due yet."""
        found = await self.due(conversation_id, 1, *names(message_id))
        return next((one for one in found if one.message_id == message_id), None)

    # -- for the mover ---------------------------------------------------------------------------

    async def take_conversations(
        self, shard: int, most: int, lease: int
    ) -> tuple[int, list[tuple[str, str]]]:
        """Milliseconds until the next is due (-1: none), and conversations with due ones: (id, mark)."""
        left, *found = await self.call("later_due", (self._tag(shard),), most, lease)
        decoded = [word.decode() for word in found]
        ids = map(unquote, decoded[::2])
        return left, list(zip(ids, decoded[1::2], strict=True))

    async def take(
        self, conversation_id: str, mark: str, most: int, refused: int
    ) -> list[tuple[str, Submission]]:
        """Due messages of a conversation, in order: (name, message)."""
        keys = self._keys(conversation_id)[:3]
        found = await self.call("later_take", keys, field(conversation_id), mark, most, refused)
        return [
            (unquote(name.decode()), submission(conversation_id, record))
            for name, record in zip(found[::2], found[1::2], strict=True)
        ]

    async def done(
        self, conversation_id: str, mark: str, pause: int | None,
        ended: Sequence[tuple[str, Submission, bool]],
    ) -> None:  # fmt: skip
        """Remove what was submitted; `pause`: ms after which to look again, None: the mover goes on."""
        words = [
            word
            for name, message, submitted in ended
            for word in (field(name), message.field, "1" if submitted else "0")
        ]
        keys, left = self._keys(conversation_id), "" if pause is None else pause
        await self.call("later_done", keys, field(conversation_id), mark, left, *words)


def _options(message: Submission) -> str:
    """What a record has between the message id and the text."""
    most = -1 if message.max_waiting is None else message.max_waiting
    window = round(1000 * message.window)
    return f"{message.mode} {window} {most} {message.lock_lifetime!r}"


def submission(conversation_id: str, record: bytes) -> Submission:
    """The message of a record."""
    message_id, mode, window, most, lifetime, text = record.decode().split(" ", 5)
    return Submission(
        conversation_id, unquote(message_id), text,
        mode,  # type: ignore[arg-type]  # as it was stored
        int(window) / 1000, None if int(most) < 0 else int(most), float(lifetime),
    )  # fmt: skip
