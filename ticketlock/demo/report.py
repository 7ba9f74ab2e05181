"""The results of a demo, as a table and as a JSON object."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..events.event import Event
from .judge.events import EVENT_KINDS, BrokerSnapshot, EventCounts, verify_events
from .judge.records import BEGIN, TurnRecord
from .judge.turns import KINDS, Violation, verify
from .sender import SentMessage
from .timeline import Span, spans

#: Violations that are printed; the others are only counted.
SHOWN = 10


@dataclass
class Report:
    """The outcome of one demo. Times are seconds.

    Attributes:
        handled: messages that are stored as complete turns.
        waits: from sending a message to the begin of its turn, with the history read.
        handoffs: from the end of a turn, with its events written, to the begin of the next one,
            if that message had its ticket before and no replica died in between.
        recoveries: from the death of a replica to the next turn in a conversation whose turn it
            had left open.
        seconds: from the first message sent to the last answer.
        events: the broker's side; None without a broker.
        turns: the times of the turns by conversation; None if they are not kept.
    """

    messages: int
    conversations: int
    replicas: int
    seconds: float
    kills: int
    tracker_store: str = ""
    lock_store: str = ""
    resent: int = 0
    handled: int = 0
    violations: list[Violation] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    handoffs: list[float] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    events: EventCounts | None = None
    turns: dict[str, list[Span]] | None = None

    def add(
        self,
        conversation: str,
        deliveries: Sequence[SentMessage],
        events: Sequence[Event],
        entries: Sequence[TurnRecord | None],
        deaths: Mapping[str, float],
    ) -> None:
        """Judge and measure one conversation.

        Args:
            events: its history in the tracker store.
            entries: its record.
            deaths: when replicas were killed, by the clock of the record.
        """
        by_id = {delivery.message.id: delivery for delivery in deliveries}
        resent = {id for id, delivery in by_id.items() if delivery.sends > 1}
        sent = [delivery.message for delivery in deliveries]
        found = verify(conversation, sent, events, entries, resent=resent)
        incomplete = {one.message for one in found if one.kind in ("lost", "torn")}
        self.resent += len(resent)
        self.handled += len(by_id.keys() - incomplete)
        self.violations += found
        readable = [entry for entry in entries if entry is not None and entry.message in by_id]
        self._measure(by_id, readable, deaths)
        if self.turns is not None:
            self.turns[conversation] = spans(readable)

    def add_events(
        self, conversation: str, events: Sequence[Event], snapshot: BrokerSnapshot
    ) -> None:
        """Judge the published events of one conversation with these stored `events`."""
        self.events = self.events or EventCounts(snapshot.broker, snapshot.unread)
        self.violations += verify_events(conversation, events, snapshot, self.events)

    def _measure(
        self,
        by_id: Mapping[int, SentMessage],
        entries: Sequence[TurnRecord],
        deaths: Mapping[str, float],
    ) -> None:
        begun: set[int] = set()
        last: TurnRecord | None = None
        for entry in entries:
            if entry.event == BEGIN:
                delivery = by_id[entry.message]
                if entry.message not in begun and delivery.sent_at is not None:
                    self.waits.append(entry.at - delivery.sent_at)
                begun.add(entry.message)
                accepted = delivery.accepted_at
                if last is not None and last.event == BEGIN and last.replica in deaths:
                    self.recoveries.append(entry.at - deaths[last.replica])
                elif (
                    last is not None
                    and (accepted is not None and accepted < last.at)
                    and not any(last.at <= death <= entry.at for death in deaths.values())
                ):
                    self.handoffs.append(entry.at - last.at)
            last = entry

    def counts(self) -> dict[str, int]:
        """The number of violations of each kind."""
        kinds = [*KINDS, *(EVENT_KINDS if self.events else ())]
        found = Counter(violation.kind for violation in self.violations)
        return {kind: found[kind] for kind in kinds}

    def as_json(self) -> dict[str, Any]:
        """The documented keys of `ticketlock demo --json`."""
        counts = self.counts()
        return {
            "messages": self.messages,
            "conversations": self.conversations,
            "handled": self.handled,
            **{kind: counts[kind] for kind in KINDS},
            "throughput_per_s": round(self.handled / self.seconds, 1),
            "handoff_ms": _percentiles(self.handoffs),
            "wait_ms": _percentiles(self.waits),
            "recovery_s": round(max(self.recoveries), 3) if self.recoveries else None,
            "replicas": self.replicas,
            "kills": self.kills,
            "resent": self.resent,
            "unfinished": len(self.recoveries),
            "tracker_store": self.tracker_store,
            "lock_store": self.lock_store,
            "seconds": round(self.seconds, 3),
            "events": self.events and self.events.as_json(counts),
        }

    def rows(self) -> list[tuple[str, str]]:
        """The rows of the table: name and value."""
        values = self.as_json()
        shown_first = ("tracker_store", "lock_store", "messages", "conversations", "replicas")
        rows = [(key.replace("_", " "), str(values[key])) for key in shown_first]
        rows.append(("handled", str(self.handled)))
        rows.append(("throughput", f"{values['throughput_per_s']:,.0f} messages/s"))
        for title, key in (("wait", "wait_ms"), ("hand-off", "handoff_ms")):
            times = values[key]
            shown = "not seen" if times["p50"] is None else f"{times['p50']} / {times['p99']} ms"
            rows.append((f"{title} p50 / p99", shown))
        if self.kills:
            rows.append(("replicas killed", str(self.kills)))
            rows.append(("turns they left open", str(values["unfinished"])))
            rows.append(("messages sent again", str(self.resent)))
            if self.recoveries:
                rows.append(("longest recovery", f"{values['recovery_s']} s"))
        if self.events is not None:
            rows += self.events.rows()
        return rows + [(kind.replace("_", " "), str(n)) for kind, n in self.counts().items()]


def _percentiles(seconds: Sequence[float]) -> dict[str, float | None]:
    """The 50th and the 99th percentile, in milliseconds."""
    ordered = sorted(seconds)

    def at(share: float) -> float | None:
        if not ordered:
            return None
        return round(1000 * ordered[math.ceil(share * len(ordered)) - 1], 3)

    return {"p50": at(0.5), "p99": at(0.99)}
