"""The Lua scripts of `lua/`, each behind a typed method.

Keys and channels are named here and nowhere else. All keys of a conversation carry its id
as their hash tag, so that they share a slot in a Redis Cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...redis.scripts import load
from ...redis.settings import RedisSettings
from ..incoming import Incoming, field

#: The scripts of the inbox, whose commands are in `ticketlock/inbox/scripts.py`.
INBOX_SCRIPTS = (
    "submit", "finish", "take", "begin", "carry", "outcome", "revoke", "submitted", "look", "list",
    "say",
    "later_put", "later_due", "later_take", "later_done", "later_cancel", "later_list",
    "later_settle", "later_known",
)  # fmt: skip

#: The version of what is stored on Redis and rung by bells; each process tells its own in what
#: it writes. docs/protocol.md says what each version changed and how the one before reads it.
PROTOCOL = 2

#: How a submitted message ends whose turn is broken.
_BROKEN = '{"code": 503, "reason": "LockLost", "message": "its turn was broken by an operator"}'

#: Seconds for which dead letters are kept; `lua/inbox.lua` says the same.
LETTERS_KEPT = 30 * 86400.0

#: Milliseconds that a turn handed on lasts at least until its process is heard (`handoff.lua`).
_FIRST_LEASE = 1500


class Keys:
    """The key names of the conversations of one store."""

    def __init__(self, settings: RedisSettings) -> None:
        self._prefix = self.prefix = settings.prefixed("concurrent_lock:")
        self.bell = f"{self._prefix}bell:"
        #: The bell of a vacant conversation, for processes that serve the inbox; and what the
        #: sharded channels begin with that have it in a cluster.
        self.inbox_bell = f"{self.bell}inbox"
        self.inbox_bells = f"{self.bell}{{inbox:"

    def bell_of(self, process: str, tag: str) -> str:
        """The sharded channel of a process in the slot of a hash tag; `lua/handoff.lua` rings it."""
        return f"{self.bell}{{{tag}}}{process}"

    def base(self, conversation_id: str) -> str:
        """What all keys of a conversation begin with: it has their slot."""
        # A closing brace would end the hash tag early: the id is escaped, one to one.
        tag = conversation_id
        if "}" in tag or "%" in tag:
            tag = tag.replace("%", "%25").replace("}", "%7D")
        # Not an f-string: a subclass of `str` could print as another text.
        return self._prefix + "{" + tag + "}:"

    def of(self, conversation_id: str) -> tuple[str, str, str, str]:
        """The keys (counter, holder, queue, waiters) of a conversation."""
        base = self.base(conversation_id)
        return (
            base + "last_issued_ticket_number", base + "holder", base + "queue", base + "waiters"
        )  # fmt: skip

    def of_messages(self, conversation_id: str) -> tuple[str, str]:
        """The keys (messages, expiries) of a conversation."""
        base = self.base(conversation_id)
        return base + "messages", base + "expiries"

    def mark(self, conversation_id: str) -> str:
        """The key of what a traced turn leaves, at which no version before 0.3.0 looks."""
        return self.base(conversation_id) + "mark"

    def submitted(self, conversation_id: str) -> str:
        """The key of messages that were submitted and are not finished."""
        return self.base(conversation_id) + "submitted"

    def dead(self, conversation_id: str) -> str:
        """The key of the dead letters among the messages."""
        return self.base(conversation_id) + "dead"

    def of_deliveries(self, conversation_id: str) -> tuple[str, str, str]:
        """The keys (deliveries, sender, deliveries_dead) of what is sent out after turns."""
        base = self.base(conversation_id)
        return base + "deliveries", base + "sender", base + "deliveries_dead"

    @property
    def replicas(self) -> str:
        """The key of the reports of bot servers."""
        return f"{self._prefix}live"

    @property
    def dead_index(self) -> str:
        """The key of the conversations that have dead letters, or may have them soon."""
        return f"{self._prefix}dead_letters"

    @property
    def secret(self) -> str:
        """The key of a secret that replicas share."""
        return f"{self._prefix}secret"

    @property
    def audit(self) -> str:
        """The key of what operators have done."""
        return f"{self._prefix}audit"

    @property
    def holders(self) -> str:
        """The pattern of all conversations' holder keys."""
        return f"{self._prefix}{{*}}:holder"

    def conversation(self, holder: bytes) -> str:
        """The conversation of a holder key; the reverse of `of`."""
        tag = holder.decode(errors="replace").removeprefix(self._prefix + "{")
        return tag.removesuffix("}:holder").replace("%7D", "}").replace("%25", "%")

    def all(self, conversation_id: str) -> tuple[str, ...]:
        """All keys of a conversation: those of `of`, then those of `of_messages`."""
        return (*self.of(conversation_id), *self.of_messages(conversation_id))


def list_dead(keys: Keys, conversation_id: str, *, out: bool = False) -> tuple[Any, ...]:
    """The command that puts a conversation into the index of dead letters, or takes it `out`."""
    kept = "-" if out else round(1000 * LETTERS_KEPT)
    return ("EVAL", load("list_dead").source, 1, keys.dead_index, conversation_id, kept)


class Timing(NamedTuple):
    """The clocks of the protocol, in milliseconds. docs/protocol.md tells how they relate.

    Attributes:
        lease: how long a holder is believed without a renewal.
        waiter_ttl: how long a waiting process is believed without a heartbeat.
        idle: how long keys of a conversation stay after their last use.
    """

    lease: int = 4000
    waiter_ttl: int = 2500
    idle: int = 3_600_000


class Scripts:
    """Builds the EVALSHA command of each operation; see the scripts for what they return."""

    NAMES = (
        "batch", "acquire", "release", "withdraw", "renew", "attend", "inspect", "break",
        "admit", "answer", "reply", "collect", "supersede", *INBOX_SCRIPTS,
    )  # fmt: skip

    def __init__(self, settings: RedisSettings, timing: Timing, process: str, where: str) -> None:
        self.keys = Keys(settings)
        self.process = process
        self._host = where
        self._timing = self.timing = timing
        self._where = self.where = self._place(max(timing.lease, timing.waiter_ttl))
        self._sha = {name: load(name).sha for name in self.NAMES}
        lease, idle = timing.lease, timing.idle
        self._tail = (self.keys.bell, lease, idle)
        self._common = (self._where, lease, timing.waiter_ttl, idle, self.keys.bell)

    def _place(self, lease: int) -> str:
        """Where a process is, its protocol, and the longest lease that it can have (ms)."""
        return f"{self._host},{PROTOCOL},{max(lease, _FIRST_LEASE)}"

    @property
    def together(self) -> tuple[str, ...]:
        """Digests of the scripts of acquires and releases, which are alone or several in a call."""
        return self._sha["acquire"], self._sha["release"], self._sha["batch"]

    def prologue(self) -> list[tuple[Any, ...]]:
        """Commands that make a new connection ready for the scripts and the bells."""
        loads = [("SCRIPT", "LOAD", load(name).source) for name in self.NAMES]
        channels = (self.keys.bell + self.process, self.keys.inbox_bell)
        return [*loads, *(("SUBSCRIBE", channel) for channel in channels)]

    def acquire(
        self,
        conversation_id: str,
        member: str,
        hold_ms: int,
        *,
        number: int = 0,
        max_waiting: int = -1,
        floor: int = 0,
        lease: int | None = None,
        waiter_ttl: int | None = None,
    ) -> tuple[Any, ...]:
        timing = self._timing
        where = self._where if lease is None else self._place(lease)
        return (
            "EVALSHA", self._sha["acquire"], 4, *self.keys.of(conversation_id),
            member, where, number, lease or timing.lease, waiter_ttl or timing.waiter_ttl,
            hold_ms, timing.idle, max_waiting, int(floor),  # drivers have ints of their own
            self.keys.bell,
        )  # fmt: skip

    def release(self, conversation_id: str, member: str, fence: int) -> tuple[Any, ...]:
        keys = self.keys.of(conversation_id)[1:]
        return ("EVALSHA", self._sha["release"], 3, *keys, member, fence, *self._tail)

    def batch(self, keys: Sequence[str], args: Sequence[Any]) -> tuple[Any, ...]:
        """Several acquires and releases in one call; see the script for their keys and args."""
        return ("EVALSHA", self._sha["batch"], len(keys), *keys, *self._common, *args)

    def withdraw(self, conversation_id: str, member: str, number: int = 0) -> tuple[Any, ...]:
        keys = self.keys.of(conversation_id)[1:]
        return ("EVALSHA", self._sha["withdraw"], 3, *keys, member, number, *self._tail)

    def renew(
        self, turns: Sequence[tuple[str, str, int | None]], *, narrow: bool = False
    ) -> tuple[Any, ...]:
        """Renew turns given as (conversation, member, fence; None: whichever it has).

        `narrow`: by its holder's key alone, which a slot on the move serves wherever it is.
        """
        keys: list[str] = []
        args: list[Any] = []
        for conversation_id, member, fence in turns:
            counter, holder, _, *rest = self.keys.all(conversation_id)
            keys += 5 * (holder,) if narrow else (counter, holder, *rest)
            args += (member, "" if fence is None else fence)
        lease, idle = self._timing.lease, self._timing.idle
        return ("EVALSHA", self._sha["renew"], len(keys), *keys, lease, idle, *args)

    def attend(self, lowest: Sequence[tuple[str, str]], *, narrow: bool = False) -> tuple[Any, ...]:
        """Attend conversations, each given with the member of our lowest ticket in it.

        `narrow`: by the keys that are there while a ticket waits, for a slot on the move; the
        holder's stands for those of the messages, which live as long as they do.
        """
        timing = self._timing
        keys: list[str] = []
        for conversation_id, _ in lowest:
            state = self.keys.of(conversation_id)
            keys += (*state, state[1], state[1]) if narrow else self.keys.all(conversation_id)
        members = [member for _, member in lowest]
        return (
            "EVALSHA", self._sha["attend"], len(keys), *keys, self.process, self._where,
            timing.lease, timing.waiter_ttl, timing.idle, self.keys.bell, *members,
        )  # fmt: skip

    # -- messages ---------------------------------------------------------------------------------

    def admit(
        self, acquire: tuple[Any, ...], conversation_id: str, incoming: Incoming
    ) -> tuple[Any, ...]:
        """`acquire`'s args, for a message that gets no second ticket."""
        return (
            "EVALSHA", self._sha["admit"], 6, *self.keys.all(conversation_id), *acquire[7:],
            incoming.field,
            round(1000 * incoming.window), "w" if incoming.text is None else "c",
            incoming.text or "",
        )  # fmt: skip

    def answer(
        self,
        conversation_id: str,
        member: str,
        window: float,
        replies: Mapping[str, str],
        fence: int | None = None,
    ) -> tuple[Any, ...]:
        """Keep replies; with a fence, end the turn behind that, and return what `release` does."""
        keys = self.keys.all(conversation_id)[1:]
        pairs = [(field(message_id), reply) for message_id, reply in replies.items()]
        args = [word for pair in pairs for word in pair]
        return (
            "EVALSHA", self._sha["answer"], 5, *keys, member, "" if fence is None else fence,
            *self._tail, round(1000 * window), *args,
        )  # fmt: skip

    def reply(self, conversation_id: str, field: str, listener: str) -> tuple[Any, ...]:
        keys = self.keys.all(conversation_id)[1:]
        return ("EVALSHA", self._sha["reply"], 5, *keys, field, listener)

    def collect(
        self, conversation_id: str, member: str, fence: int, most: int, call: int
    ) -> tuple[Any, ...]:
        _, holder, queue, _, messages, _ = self.keys.all(conversation_id)
        keys = (holder, queue, messages)
        return ("EVALSHA", self._sha["collect"], 3, *keys, member, fence, most, call)

    def mark(self, conversation_id: str, mark: str) -> tuple[Any, ...]:
        """Only traced turns leave one: no connection loads the script ahead."""
        key = self.keys.mark(conversation_id)
        return ("EVAL", load("mark").source, 1, key, mark, self._timing.idle)

    def supersede(self, conversation_id: str, member: str, mode: str) -> tuple[Any, ...]:
        keys = self.keys.of(conversation_id)[1:]
        return ("EVALSHA", self._sha["supersede"], 3, *keys, member, mode, self.keys.bell)

    def rights(self, tag: int) -> tuple[Any, ...]:
        """Try what turns need; `tag` makes a key in some slot of a cluster."""
        key = self.keys.of(f"rights {tag} {self.process}")[1]
        return ("EVAL", load("rights").source, 1, key, f"{self.keys.bell}{self.process} rights")

    def inspect(self, conversation_id: str, limit: int, number: int = 0) -> tuple[Any, ...]:
        keys = (*self.keys.of(conversation_id), self.keys.submitted(conversation_id))
        return ("EVALSHA", self._sha["inspect"], 5, *keys, limit, number)

    def break_turn(
        self, conversation_id: str, fence: int, drop_up_to: int | None = None
    ) -> tuple[Any, ...]:
        keys, name = self.keys, conversation_id
        what = "" if drop_up_to is None else drop_up_to
        return (
            "EVALSHA", self._sha["break"], 7, *keys.all(name)[1:], keys.submitted(name),
            keys.dead(name), fence, *self._tail, what, _BROKEN, 600_000,
        )  # fmt: skip
