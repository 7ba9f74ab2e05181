"""The messages of a batch, how far it got at the broker, and counts of what became of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..process import clock
from ..tracker.outbox import Batch, DeadLetter
from .message import DELIVERED, BrokerMessage, Outcome, Published

#: How often the broker refuses an event, having accepted others since it refused it before, until
#: the event becomes a dead letter, and in how many seconds at least: a part of a broker, as the
#: leader of a partition, may be away for less, and the events for the other parts pass meanwhile.
REFUSALS, REFUSED_SECONDS = 6, 60.0

#: Suspects that a relay remembers; the oldest is forgotten, and has to be refused as often again.
SUSPECTS = 10_000


def messages_of(
    batch: Batch, headers: Callable[[str, int], Mapping[str, str] | None] | None
) -> list[BrokerMessage]:
    """The messages of a batch; `headers` returns those of an event by its number."""
    name, history, numbered = batch.sender_id, batch.history, enumerate(batch.events, batch.first)
    if headers is None:
        return [BrokerMessage(name, number, event, None, history) for number, event in numbered]
    return [
        BrokerMessage(name, number, event, headers(name, number), history)
        for number, event in numbered
    ]


@dataclass
class Counts:
    """What a relay has done since its process began.

    Attributes:
        published: events that the broker has confirmed.
        retries: how often an event had to be sent again.
        dead_lettered: events that became dead letters.
        trouble: why no events are published at the moment; empty while all is well.
    """

    published: int = 0
    retries: int = 0
    dead_lettered: int = 0
    trouble: str = ""


@dataclass
class Reached:
    """How far a batch got: the events before number `to` are published or dead letters.

    Attributes:
        waits: why the event with this number waits; empty if none of the batch does.
        retries: how many events have to be sent again.
    """

    batch: Batch
    to: int
    letters: list[DeadLetter] = field(default_factory=list)
    waits: str = ""
    retries: int = 0

    @property
    def name(self) -> str:
        return self.batch.sender_id

    @property
    def more(self) -> bool:
        """Whether more events wait in the store, and none of them has to wait."""
        return self.to < self.batch.sequence and not self.waits

    @property
    def published(self) -> int:
        """How many events the broker has confirmed."""
        return self.to - self.batch.first - len(self.letters) if self.batch.events else 0

    def report(self, seconds: float) -> Published:
        """The report to observers; `seconds`: how long the broker took."""
        first, dead = self.batch.first, len(self.letters)
        return Published(self.name, first, self.published, dead, self.waits, seconds)


class Suspects:
    """Judges outcomes; an event that the broker refuses again and again is a suspect.

    What the broker accepts between two refusals counts, not only what it accepts beside one: the
    relay may deliver a suspect alone and other conversations in the rounds between.
    """

    def __init__(self) -> None:
        self._of: dict[str, _Suspect] = {}
        self._accepted = 0

    def refusals(self, sender_id: str) -> int:
        """How often the first waiting event of the conversation was refused; at least 1."""
        suspect = self._of.get(sender_id)
        return suspect.refusals if suspect else 1

    def all_reached(self, batches: Sequence[Batch], outcomes: Sequence[Outcome]) -> list[Reached]:
        """How far each batch got, by the outcomes of all their messages, in this order.

        Raises ValueError unless there is one outcome for each message.
        """
        if len(outcomes) != (count := sum(len(batch.events) for batch in batches)):
            raise ValueError(f"the broker returned {len(outcomes)} outcomes for {count} messages")
        before = self._accepted
        if outcomes.count(DELIVERED) == count:  # nearly always: no look at each of them
            self._accepted += count
            for batch in batches if self._of else ():
                self._forget(batch)
            return [Reached(batch, batch.end) for batch in batches]
        self._accepted += sum(outcome.status == "delivered" for outcome in outcomes)
        results, start = [], 0
        for batch in batches:
            end = start + len(batch.events)
            results.append(self._reached(batch, outcomes[start:end], before))
            start = end
        return results

    def _reached(self, batch: Batch, outcomes: Sequence[Outcome], before: int) -> Reached:
        """How far a batch got; `before`: how many events were accepted before this delivery."""
        result = Reached(batch, batch.first if batch.events else batch.sequence)
        pairs = zip(batch.events, outcomes, strict=True)
        for number, (event, outcome) in enumerate(pairs, batch.first):
            if outcome.status == "retry" and not self._at_fault(batch, number, outcome, before):
                result.waits = outcome.reason or "the broker has not confirmed"
                result.retries += 1
                break
            if outcome.status != "delivered":
                result.letters.append(
                    DeadLetter(batch.sender_id, batch.history, number, event, outcome.reason)
                )
            self._forget(batch)
            result.to = number + 1
            if outcome.status == "retry":
                result.waits = "an event before it was set apart as a dead letter"
                break
        return result

    def _forget(self, batch: Batch) -> None:
        """Forget the suspect before an event of the batch, which is published or set apart."""
        if batch.events:
            self._of.pop(batch.sender_id, None)

    def _at_fault(self, batch: Batch, number: int, outcome: Outcome, before: int) -> bool:
        """Whether the broker often refused this event, for some time, while it accepted others."""
        if not outcome.suspect:
            return False
        event = batch.history, number
        suspect = self._of.get(batch.sender_id)
        if suspect is None or suspect.event != event:
            if suspect is None and len(self._of) >= SUSPECTS:
                # Others have published them, or they were deleted.
                del self._of[next(iter(self._of))]
            suspect = self._of[batch.sender_id] = _Suspect(event, before, clock())
        suspect.refusals += 1
        suspect.counted += self._accepted > suspect.accepted
        suspect.accepted = self._accepted
        return suspect.counted >= REFUSALS and clock() - suspect.since >= REFUSED_SECONDS


@dataclass
class _Suspect:
    """An event that the broker refused, perhaps for what is in it.

    Attributes:
        event: its history and number.
        accepted: how many events the broker had accepted when it refused this one last.
        since: when it refused it first, by `clock`.
        counted: the refusals before which it had accepted others since the last refusal.
    """

    event: tuple[int, int]
    accepted: int
    since: float
    refusals: int = 0
    counted: int = 0
