"""The commands of the inbox's scripts; each script's head says what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..locks.concurrent.scripts import INBOX_SCRIPTS, Scripts
from ..locks.incoming import WINDOW, field
from ..redis.scripts import load
from .served import Served
from .submission import Submission

Args = tuple[Any, ...]
#: Shards of the index in a Redis Cluster, where one key would be on one node.
CLUSTER_SHARDS = 16


class Index(NamedTuple):
    """The index of the conversations that have something to do.

    Attributes:
        shards: keys that it is made of; the number is part of their names.
    """

    prefix: str
    shards: int

    def key(self, shard: int) -> str:
        return f"{self.prefix}{{inbox:{self.shards}:{shard}}}"

    def bell(self, shard: int) -> str:
        """The sharded channel in the slot of a shard, for processes that serve the inbox."""
        return f"{self.prefix}bell:{{inbox:{self.shards}:{shard}}}"

    def of(self, conversation_id: str) -> str:
        """The key that lists a conversation."""
        return self.key(self.shard(conversation_id))

    def shard(self, conversation_id: str) -> int:
        """The shard of a conversation."""
        return sum(conversation_id.encode()) % self.shards

    def counts(self, shard: int) -> str:
        """The key of what is counted, in the same slot."""
        return self.key(shard) + ":counts"


class InboxScripts:
    """Builds the command of each operation.

    Args:
        cluster: the index is in another slot than the conversations.
    """

    def __init__(self, scripts: Scripts, prefix: str, cluster: bool) -> None:
        self._scripts = scripts
        self.index = Index(prefix, CLUSTER_SHARDS if cluster else 1)
        self.cluster = cluster
        self._sha = {name: load(name).sha for name in INBOX_SCRIPTS}
        self._timing = scripts.timing
        self._bell = scripts.keys.bell
        # As texts, which hiredis packs ten times as fast as numbers.
        self._lease, self._idle = str(scripts.timing.lease), str(scripts.timing.idle)

    def _call(self, name: str, keys: tuple[str, ...], *args: Any) -> Args:
        return ("EVALSHA", self._sha[name], str(len(keys)), *keys, *args)

    def _index(self, conversation_id: str) -> tuple[str, ...]:
        return () if self.cluster else (self.index.of(conversation_id),)

    def submit(
        self, message: Submission, server: str, hold: int, listener: str, listing: str,
        until: int | None = None, terms: str = "",
    ) -> Args:  # fmt: skip
        """Args: terms: its own window and lifetime, if others serve it under other ones; server: member of a turn here, "" without room; listing: in a cluster;
        until: of a message that came due, ms of the server's clock until which to submit it."""
        name, keys = message.conversation_id, self._scripts.keys
        return self._call(
            "submit",
            (*keys.all(name), keys.submitted(name), *self._index(name)),
            server, self._scripts.where, self._lease, str(hold), self._idle, self._bell,
            message.field, message.mode + terms, listener,
            "-1" if message.max_waiting is None else str(message.max_waiting),
            name, listing, message.text, *(() if until is None else (until,)),
        )  # fmt: skip

    def resend(self, name: str, field: str, listing: str) -> Args:
        """Submit a dead letter; no process has it then: one that serves takes it."""
        scripts, timing = self._scripts, self._timing
        keys = (
            *scripts.keys.all(name), scripts.keys.submitted(name), *self._index(name),
            scripts.keys.dead(name),
        )  # fmt: skip
        return (
            "EVAL", load("resend").source, len(keys), *keys, "", scripts.where, timing.lease, 0,
            timing.idle, self._bell, field, "enqueue", "", -1, name, listing,
        )  # fmt: skip

    def finish(
        self, served: Served, outcomes: list[tuple[str, str, str]], server: str, hold: int,
        most_letters: int,
    ) -> Args:  # fmt: skip
        name, keys = served.conversation_id, self._scripts.keys
        words = [word for outcome in outcomes for word in outcome]
        return self._call(
            "finish",
            (*keys.all(name), keys.submitted(name), keys.of_deliveries(name)[0], keys.dead(name),
             *self._index(name)),
            served.grant.member, str(served.grant.fence), self._bell, self._idle,
            str(round(1000 * (served.window or WINDOW))), server, self._scripts.where, self._lease,
            str(hold), name, served.delivery, str(most_letters), "1" if served.uncounted else "0", *words,
        )  # fmt: skip

    def settle(self, name: str, messages: Sequence[Submission]) -> Args:
        keys = self._scripts.keys
        *_, messages_key, expiries = keys.all(name)
        words = [word for one in messages for word in (one.field, round(1000 * one.window))]
        return self._call(
            "later_settle",
            (messages_key, expiries, keys.submitted(name)),
            self._timing.idle,
            *words,
        )

    def known(self, name: str, due_name: str) -> Args:
        """Whether a message that came due under a name is known."""
        keys = self._scripts.keys
        messages = keys.all(name)[4]
        return self._call("later_known", (messages, keys.submitted(name)), field(f"{due_name}@"))

    def take(self, name: str, server: str, hold: int, mark: str = "") -> Args:
        """Args: mark: in a cluster, the mark with which it was found; "": a bell has named it."""
        keys, timing = self._scripts.keys, self._timing
        return self._call(
            "take",
            (*keys.of(name), keys.submitted(name), *keys.of_deliveries(name)[:2],
             *self._index(name)),
            server, self._scripts.where, timing.lease, hold, timing.idle, self._bell, name, mark,
        )  # fmt: skip

    def begin(self, served: Served) -> Args:
        keys, name = self._scripts.keys, served.conversation_id
        return self._call(
            "begin", (keys.of(name)[1], keys.submitted(name)), served.grant.member,
            served.grant.fence,
        )  # fmt: skip

    def awaited(self, served: Served) -> Args:
        keys = (self._scripts.keys.submitted(served.conversation_id),)
        process = served.grant.member.partition(".")[0]
        words = (field(served.message_id), process, self._bell, "1" if self.cluster else "")
        return ("EVAL", load("awaited").source, len(keys), *keys, *words)

    def say(self, served: Served, message_id: str, first: int, text: str) -> Args:
        """Args: first: index of the first reply; text: the replies, a JSON list."""
        keys, name = self._scripts.keys, served.conversation_id
        return self._call(
            "say", (keys.of(name)[1], keys.submitted(name)), served.grant.member,
            served.grant.fence, self._bell, field(message_id), first, text,
        )  # fmt: skip

    def carry(self, served: Served, most: int, call: int) -> Args:
        keys, name = self._scripts.keys, served.conversation_id
        _, holder, queue, _ = keys.of(name)
        return self._call(
            "carry", (holder, queue, keys.submitted(name)), served.grant.member,
            served.grant.fence, most, call,
        )  # fmt: skip

    def outcome(self, name: str, field: str, listener: str) -> Args:
        keys = self._scripts.keys
        _, holder, queue, _, messages, expiries = keys.all(name)
        return self._call(
            "outcome", (holder, queue, messages, expiries, keys.submitted(name)), field, listener
        )

    def revoke(self, name: str, field: str, window: float, text: str) -> Args:
        keys = self._scripts.keys
        return self._call(
            "revoke", (*keys.all(name), keys.submitted(name)), field, round(1000 * window),
            self._timing.idle, self._bell, text,
        )  # fmt: skip

    def submitted(self, name: str, most: int) -> Args:
        keys = self._scripts.keys
        _, holder, queue, _ = keys.of(name)
        return self._call("submitted", (holder, queue, keys.submitted(name)), most)

    def look(self, shard: int, most: int, messages: int, size: int) -> Args:
        keys = (self.index.key(shard), self.index.counts(shard))
        furthest = 60_000 + 2 * self._timing.lease
        return self._call("look", keys, most, 2000, messages, size, furthest)

    def list(self, name: str, ms: int | None, mark: str = "") -> Args:
        """Put a conversation into the index; with None take it out, if it has that mark."""
        return self._call("list", (self.index.of(name),), name, "-" if ms is None else ms, mark)

    def tell(self, name: str) -> Args:
        """Put a conversation into the index of a cluster as due, and ring for those who serve."""
        keys, bell = self._scripts.keys, self.index.bell(self.index.shard(name))
        return (*self.list(name, 0), bell, keys.inbox_bell, keys.of(name)[1])

    def enlist(self, name: str, ms: int) -> Args:
        """Put a conversation into the index, to look at it after so long at the latest."""
        return self.list(name, ms, "<")
