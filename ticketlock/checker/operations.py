"""What processes did to a lock and to its inbox, and what went wrong around them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["acquire", "write", "release", "submit", "begin", "finish"]
Outcome = Literal["ok", "fail", "unknown"]

KINDS: tuple[str, ...] = get_args(Kind)
OUTCOMES: tuple[str, ...] = get_args(Outcome)


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of one process. Times are seconds of one monotonic clock that all processes share.

    A process does one operation after another; tasks and threads are processes of their own, named
    `worker/task`. `ok` means that it happened: a ticket was granted, a write was accepted, a message
    was submitted or finished. `fail` means that it certainly did not: a wait that was given up, a
    write that was refused. `unknown`: the answer is missing, it may have happened.

    Attributes:
        kind: `acquire` and `release` are a turn, as are `begin` and `finish` of a message;
            `write` is to a store that may compare fences.
        invoked, completed: when it was called, and when it returned; infinity: it did not.
        arrived: of an acquire: when its place in the queue was certain; None: not known.
        fence: of a grant, or the one that a write was sent with; None: there is none.
        lease_until: up to when this process, at `invoked` or (acquire, begin) at `completed`, knew
            the turn to be its own; None: until it is released.
        message: the id of the message, unique in its conversation.
        position: of an accepted write: its place in the order in which the store accepted writes
            of the conversation; None: not known.
    """

    kind: Kind
    process: str
    conversation: str
    invoked: float
    completed: float = math.inf
    outcome: Outcome = "unknown"
    arrived: float | None = None
    fence: int | None = None
    lease_until: float | None = None
    message: str | None = None
    position: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if self.outcome not in OUTCOMES:
            raise ValueError(f"outcome {self.outcome!r} is not one of {', '.join(OUTCOMES)}")
        if not self.completed >= self.invoked:  # nan too
            raise ValueError(f"completed ({self.completed}) is before invoked ({self.invoked})")
        if self.outcome != "unknown" and math.isinf(self.completed):
            raise ValueError(f"an operation with outcome {self.outcome!r} has completed: say when")
        if self.kind in ("submit", "begin", "finish") and self.message is None:
            raise ValueError(f"{self.kind!r} needs a message id")


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to a process or to the servers.

    Attributes:
        since, until: seconds of the clock of the operations; infinity: to the end.
        process: the process that was killed or did not run, with all that are named
            `process/...`; None: the servers.
        loses: the servers may have forgotten what they had answered; of a process: what it was told
            meanwhile was not durable.
        conversations: of the servers that it is about; None: of all.
        durable: of servers that lose: not what was durable, which grants and accepted messages
            are; places in queues and renewals are not.
    """

    kind: str
    since: float
    until: float = math.inf
    process: str | None = None
    loses: bool = False
    conversations: tuple[str, ...] | None = None
    durable: bool = False
