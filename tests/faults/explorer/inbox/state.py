"""All of the model at one moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..redis_model import Frozen
from ..wire import Words

#: Milliseconds: where the clock starts, how far one tick turns it, and the lease of a turn.
START, TICK, LEASE = 1_700_000_000_000, 1300, 1000


class Budget(NamedTuple):
    """How many of each are still to happen.

    Attributes:
        ticks: steps of the clock.
        drops: connections that break: what was not answered is asked again on the next one.
        lates: of those, and of crashes, the ones whose requests reach the server later as well.
        crashes: processes that die.
        looks: looks of any process.
        beats: heartbeats of any process.
        revokes: messages withdrawn.
        breaks: turns broken by an operator, who drops all that waits.
        faults: turns that end with a failure: given back, failed, or dead.
        carries: turns that carry what waits behind them.
        raises: turns that raise their fence.
        olds: turns of a process of the version before.
        longs: hours in which nothing lives, so that all keys with an expiry are gone.
        evicts: keys that are evicted: a counter, queue or waiters.
        plains: turns of each process that are not a message's.
    """

    ticks: int = 0
    drops: int = 0
    lates: int = 0
    crashes: int = 0
    looks: int = 0
    beats: int = 0
    revokes: int = 0
    breaks: int = 0
    faults: int = 0
    carries: int = 0
    raises: int = 0
    olds: int = 0
    longs: int = 0
    evicts: int = 0
    plains: int = 0


class Message(NamedTuple):
    """A message that is submitted: by which process, how, and how many may wait (-1: any)."""

    name: str
    by: int = 0
    mode: str = "enqueue"
    max_waiting: int = -1


class Call(NamedTuple):
    """A command on its way: what asks it, when it was sent, and its answer once there is one."""

    kind: str
    words: Words
    sent: int
    subject: Any = None
    answer: Any = None


class Turn(NamedTuple):
    """A turn that a process believes to have until a moment.

    Attributes:
        phase: new, claimed, begins, ready, carries, carried, done | of plain turns: held
        others: the messages that it has carried.
    """

    name: str
    member: str
    fence: int
    until: int
    phase: str
    granted: int = 0
    others: tuple[str, ...] = ()


class Process(NamedTuple):
    """A process and its connection.

    Attributes:
        out: commands that the server has not executed; back: answers that are not heard.
        late: commands of broken connections, which the server may still execute.
        plain: the member of the ticket of its own that waits, "" for none.
    """

    name: str
    room: int = 1
    submits: tuple[Message, ...] = ()
    up: bool = True
    requests: int = 0
    out: tuple[Call, ...] = ()
    back: tuple[Call, ...] = ()
    late: tuple[Call, ...] = ()
    turns: tuple[Turn, ...] = ()
    plain: str = ""
    plains: int = 0
    listing: tuple[str, int] = ("0", 0)

    @property
    def free(self) -> int:
        """Turns that may begin."""
        offered = sum(call.kind in ("submit", "take", "finish") for call in self.out + self.back)
        return self.room - sum(turn.name != "" for turn in self.turns) - offered


class Ghost(NamedTuple):
    """What the search remembers, and the library does not.

    Attributes:
        stored: messages that Redis has taken.
        commits: messages whose handling was committed, one for each time.
        revoked: messages that were withdrawn.
        begun: messages whose begin was counted, with its fence.
        olds: whether scripts of the version before have run, or a key was evicted: no message is
            lost then, but its place may be.
        broken: whether a turn was broken, whose process is told by a bell, or its next heartbeat.
    """

    stored: frozenset[str] = frozenset()
    commits: tuple[str, ...] = ()
    revoked: frozenset[str] = frozenset()
    begun: frozenset[tuple[str, int]] = frozenset()
    olds: bool = False
    broken: bool = False


class State(NamedTuple):
    """`tracker` is the fence and the mark that the tracker store has of the conversation."""

    now: int
    data: Frozen
    tracker: tuple[int, tuple[str, ...]]
    processes: tuple[Process, ...]
    budget: Budget
    ghost: Ghost = Ghost()

    def spent(self, what: str) -> State:
        left = getattr(self.budget, what) - 1
        return self._replace(budget=self.budget._replace(**{what: left}))

    def having(self, i: int, process: Process) -> State:
        return self._replace(processes=(*self.processes[:i], process, *self.processes[i + 1 :]))


class Step(NamedTuple):
    """What happens, and what comes of it; `words` and `answer` of a command that was executed."""

    label: tuple[Any, ...]
    state: State
    call: Call | None = None


Change = Callable[[Process], Process]
