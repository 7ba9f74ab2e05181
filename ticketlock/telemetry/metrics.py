"""The metrics: their names, units and sources.

OpenTelemetry and Prometheus get the same ones; docs/reference/metrics.md lists them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..errors import (
    ActionRejected,
    ActionServerConnectionError,
    DuplicateMessage,
    LockStoreConnectionError,
    LockTimeout,
    QueueFull,
    StaleFence,
    UnknownAction,
)
from ..publishing.message import Published
from .observer import ActionCall, Handled, Observer, Written

if TYPE_CHECKING:
    from ..locks.grant import Grant
    from ..locks.waiter import Waiter
    from ..tracker.outbox import Backlog, DeadLetter

#: Bounds of the buckets of a histogram, seconds.
BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0
)  # fmt: skip

#: Conversations whose last turn here is remembered, to measure hand-offs.
_ENDED = 10_000


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: for OpenTelemetry; `prometheus` is derived from it.
        kind: `counter` only grows, `sum` goes up and down, `gauge` is the last measured value.
        unit: in UCUM, as OpenTelemetry requires; words in braces count things.
        attributes: names of its attributes; each has few values.
    """

    name: str
    kind: Literal["counter", "sum", "gauge", "histogram"]
    unit: str
    meaning: str
    attributes: tuple[str, ...] = ()

    @property
    def prometheus(self) -> str:
        """Its name in Prometheus, by the rules of OpenTelemetry's exporters."""
        unit = {"s": "_seconds"}.get(self.unit, "")
        return self.name.replace(".", "_") + unit + ("_total" if self.kind == "counter" else "")


WAIT = Metric(
    "ticketlock.turn.wait", "histogram", "s", "From asking for a ticket to the start of the turn"
)
HOLD = Metric("ticketlock.turn.hold", "histogram", "s", "From the start of a turn to its end")
HANDOFF = Metric(
    "ticketlock.turn.handoff", "histogram", "s",
    "From the end of a turn to the start of the next, where one process has both",
)  # fmt: skip
TURNS = Metric(
    "ticketlock.turns", "counter", "{turn}",
    "Turns that ended, and waits that ended without a turn, by outcome", ("outcome",),
)  # fmt: skip
HELD = Metric("ticketlock.turns.held", "sum", "{turn}", "Turns held by this process now")
QUEUE = Metric(
    "ticketlock.queue.depth",
    "sum",
    "{ticket}",
    "Tickets of this process that wait for their turn now",
)
LOST = Metric(
    "ticketlock.turns.lost", "counter", "{turn}", "Turns that were lost, by cause", ("cause",)
)
LATE = Metric(
    "ticketlock.renewals.late", "counter", "{renewal}",
    "Renewals of turns that failed, or were confirmed a heartbeat late",
)  # fmt: skip
SKIPPED = Metric(
    "ticketlock.tickets.skipped", "counter", "{ticket}",
    "Tickets that were skipped because this process seemed dead, before it came back",
)  # fmt: skip
DEGRADED = Metric(
    "ticketlock.durability.degraded", "gauge", "1",
    "1 while what this process writes to a Redis is not durable in time, 0 after that", ("server",),
)  # fmt: skip
CLAIM = Metric("ticketlock.claim.duration", "histogram", "s", "Claiming and reading a history")
COMMIT = Metric("ticketlock.commit.duration", "histogram", "s", "Writing the events of a turn")
REFUSED = Metric(
    "ticketlock.writes.refused", "counter", "{write}",
    "Claims and writes that the tracker store refused because their fence was stale",
)  # fmt: skip
ACTIONS = Metric(
    "ticketlock.actions", "counter", "{call}", "Calls of custom actions, by result", ("result",)
)
ACTION = Metric(
    "ticketlock.action.duration", "histogram", "s", "Calling a custom action, with all tries"
)
RETRIES = Metric(
    "ticketlock.retries",
    "counter",
    "{retry}",
    "Messages that were handled again, and writes that were repeated",
)
DUPLICATES = Metric(
    "ticketlock.duplicates",
    "counter",
    "{message}",
    "Messages that came again and got the first reply",
)
MESSAGES = Metric(
    "ticketlock.messages", "counter", "{message}", "Messages that the bot server answered, by the reason in the answer",
    ("reason",),
)  # fmt: skip
PUBLISHED = Metric(
    "ticketlock.events.published", "counter", "{event}", "Events that the broker confirmed"
)
DEAD = Metric(
    "ticketlock.events.dead", "counter", "{event}", "Events that were set apart as dead letters"
)
DEPTH = Metric(
    "ticketlock.outbox.depth",
    "gauge",
    "{event}",
    "Events that wait to be published, for all replicas together",
)
AGE = Metric(
    "ticketlock.outbox.age",
    "gauge",
    "s",
    "How long the oldest of them has been waiting",
)

#: No turn.
_NONE = (-1, 0.0)

#: All of them.
METRICS = (
    WAIT, HOLD, HANDOFF, TURNS, HELD, QUEUE, LOST, LATE, SKIPPED, DEGRADED, CLAIM, COMMIT, REFUSED, ACTIONS,
    ACTION, RETRIES, DUPLICATES, MESSAGES, PUBLISHED, DEAD, DEPTH, AGE,
)  # fmt: skip

#: Values of `outcome`: of turns, and of waits without a turn.
OUTCOMES = (
    "ok", "error", "lost", "timeout", "queue_full", "duplicate", "unavailable", "withdrawn"
)  # fmt: skip

#: Values of `result`: of calls of actions.
RESULTS = ("ok", "rejected", "unknown", "failed", "unreachable", "cancelled")

#: Values of `cause`; see `Grant.cause`.
CAUSES = ("too_slow", "lease", "broken", "closed")

_NO_TURN: tuple[tuple[type[BaseException], str], ...] = (
    (LockTimeout, "timeout"),
    (QueueFull, "queue_full"),
    (DuplicateMessage, "duplicate"),
    (LockStoreConnectionError, "unavailable"),
)

_NO_RESULT: tuple[tuple[type[BaseException], str], ...] = (
    (ActionRejected, "rejected"),
    (UnknownAction, "unknown"),
    (ActionServerConnectionError, "unreachable"),
    (asyncio.CancelledError, "cancelled"),
)


class Metered(Observer):
    """Derives the metrics from its notifications; `add` passes each value to a library."""

    def __init__(self) -> None:
        #: conversation -> number and time of its last turn that ended here, and of its last turn
        #: that began before the end of its predecessor was known.
        self._ended: dict[str, tuple[int, float]] = {}
        self._begun: dict[str, tuple[int, float]] = {}

    def add(self, metric: Metric, value: float, *attributes: str) -> None:
        """Record a value; `attributes` are the values of the metric's attributes, in order."""
        raise NotImplementedError

    def on_wait(self, waiter: Waiter) -> None:
        self.add(QUEUE, 1)

    def on_no_turn(self, waiter: Waiter, error: BaseException | None) -> None:
        self.add(QUEUE, -1)
        self.add(TURNS, 1, no_turn(error))

    def on_turn(self, grant: Grant) -> None:
        self.add(QUEUE, -1)
        self.add(HELD, 1)
        self.add(WAIT, grant.waited)
        if grant.ahead:
            self._begun[grant.conversation_id] = (grant.number, grant.granted_at)
            self._handed_on(grant.conversation_id)

    def on_turn_lost(self, grant: Grant) -> None:
        self.add(LOST, 1, grant.cause)

    def on_turn_end(self, grant: Grant, held: float, error: BaseException | None) -> None:
        self.add(HELD, -1)
        self.add(HOLD, held)
        self.add(TURNS, 1, outcome(grant, error))
        self._ended.pop(grant.conversation_id, None)
        if len(self._ended) >= _ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[grant.conversation_id] = (grant.number, grant.granted_at + held)
        self._handed_on(grant.conversation_id)

    def _handed_on(self, name: str) -> None:
        """Record the hand-off between two consecutive turns, in any order of notification."""
        (before, ended), (after, begun) = self._ended.get(name, _NONE), self._begun.get(name, _NONE)
        if after == before + 1:
            self.add(HANDOFF, max(0.0, begun - ended))
        if after <= before + 1:
            self._begun.pop(name, None)

    def on_late_renewals(self, count: int) -> None:
        self.add(LATE, count)

    def on_skipped(self, conversation_id: str, number: int) -> None:
        self.add(SKIPPED, 1)

    def on_durability(self, server: str, why: str) -> None:
        self.add(DEGRADED, 1 if why else 0, server)

    def on_claim(self, grant: Grant, seconds: float, error: BaseException | None) -> None:
        self.add(CLAIM, seconds)
        if isinstance(error, StaleFence):
            self.add(REFUSED, 1)

    def on_commit(
        self, grant: Grant, written: Written, seconds: float, error: BaseException | None
    ) -> None:
        self.add(COMMIT, seconds)
        if isinstance(error, StaleFence):
            self.add(REFUSED, 1)

    def on_action(self, grant: Grant, call: ActionCall) -> None:
        self.add(ACTIONS, 1, action_result(call.error))
        self.add(ACTION, call.seconds)

    def on_retry(self, grant: Grant, message_id: str | None, attempt: int, why: str) -> None:
        self.add(RETRIES, 1)

    def on_duplicate(self, conversation_id: str, message_id: str) -> None:
        self.add(DUPLICATES, 1)

    def on_handled(self, message: Handled) -> None:
        self.add(MESSAGES, 1, message.reason)

    def on_published(self, published: Published) -> None:
        self.add(PUBLISHED, published.delivered)

    def on_dead_letter(self, letter: DeadLetter) -> None:
        self.add(DEAD, 1)

    def on_backlog(self, backlog: Backlog) -> None:
        self.add(DEPTH, backlog.events)
        self.add(AGE, backlog.age)


def no_turn(error: BaseException | None) -> str:
    """The outcome of a wait without a turn."""
    return next((name for kind, name in _NO_TURN if isinstance(error, kind)), "withdrawn")


def action_result(error: BaseException | None) -> str:
    """The result of a call of an action."""
    if error is None:
        return "ok"
    return next((name for kind, name in _NO_RESULT if isinstance(error, kind)), "failed")


def outcome(grant: Grant, error: BaseException | None) -> str:
    """The outcome of a turn."""
    if grant.reason is not None:
        return "lost"
    return "ok" if error is None else "error"
