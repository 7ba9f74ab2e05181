"""The judgement: sender's record, tracker store and event service's database must agree."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from servers.consumers import query

from .sender import Delivery, Sender
from .topology import Topology

#: Seconds for which the event service may store nothing before we stop waiting for it.
PATIENCE = 60.0


@dataclass
class Verdict:
    """How often each promise was broken, by its name; and the first ones, in words."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            (
                "lost",
                "twice",
                "unknown",
                "stopped",
                "out_of_order",
                "other_reply",
                "unlike_service",
            ),
            0,
        )
    )
    examples: list[str] = field(default_factory=list)

    def broken(self, kind: str, example: object) -> None:
        self.counts[kind] += 1
        if len(self.examples) < 10:
            self.examples.append(f"{kind}: {example}")


def judge(
    topology: Topology, sender: Sender, on_stored: Callable[[int], None] = lambda stored: None
) -> tuple[Verdict, int]:
    """The verdict, and how many events there are."""
    verdict = Verdict()
    stored = _histories(query(topology.tracker, "SELECT sender_id, data FROM events ORDER BY id"))
    count = sum(map(len, stored.values()))
    published = _published(topology, count, on_stored)
    if problem := _unlike(stored, published):
        verdict.broken("unlike_service", problem)
    sent: dict[str, list[Delivery]] = defaultdict(list)
    for delivery in sender.deliveries:
        sent[delivery.message.conversation].append(delivery)
    for name in sent.keys() | stored.keys():
        _judge(verdict, sent[name], stored.get(name, []), ordered=name in sender.narrow)
    return verdict, count


def _histories(rows: Iterable[Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, data in rows:
        found[name].append(json.loads(data) if isinstance(data, str) else data)
    return dict(found)


def _published(
    topology: Topology, count: int, on_stored: Callable[[int], None]
) -> dict[str, list[dict[str, Any]]]:
    """What the event service has, once it has so many events or no more come."""
    end, last = time.monotonic() + PATIENCE, -1
    while time.monotonic() < end:
        ((now,),) = query(topology.events, "SELECT count(*) FROM ticketlock_service_events")
        on_stored(now)
        if now >= count:
            break
        if now != last:
            end, last = time.monotonic() + PATIENCE, now
        time.sleep(0.2)
    rows = query(
        topology.events,
        "SELECT sender_id, data FROM ticketlock_service_events"
        " ORDER BY sender_id, history, sequence",
    )
    return _histories(rows)


def _unlike(stored: dict[str, Any], published: dict[str, Any]) -> str | None:
    """The first difference between the two databases, event by event."""
    for name in sorted(stored.keys() | published.keys()):
        ours, theirs = stored.get(name, []), published.get(name, [])
        if len(ours) != len(theirs):
            return f"{name!r} has {len(ours)} events, the event service {len(theirs)}"
        for place, (event, other) in enumerate(zip(ours, theirs, strict=True)):
            # What is published says whose it is, and where it stands.
            if any(other.get(key) != value for key, value in event.items()):
                return f"{name!r}, event {place}: {event} is published as {other}"
    return None


def _judge(
    verdict: Verdict, sent: list[Delivery], stored: list[dict[str, Any]], *, ordered: bool
) -> None:
    """One conversation."""
    texts = {delivery.message_id: delivery.message.text for delivery in sent}
    turns = _turns(stored)
    seen = [message_id for message_id, _, _ in turns]
    for message_id in texts:
        if (times := seen.count(message_id)) != 1:
            verdict.broken("twice" if times else "lost", message_id)
    for message_id, text, _ in turns:
        if texts.get(message_id) != text:
            verdict.broken("unknown", (message_id, text))
    for message_id, _, reply in turns:
        if reply is None:  # none of them asks another one to stop
            verdict.broken("stopped", message_id)
    replies = {message_id: reply for message_id, _, reply in turns}
    for delivery in sent:
        if not delivery.replies:
            verdict.broken("lost", f"no reply to {delivery.message_id}")
        for reply in delivery.replies:
            if [part.get("custom") for part in reply] != [replies.get(delivery.message_id)]:
                verdict.broken("other_reply", (delivery.message_id, reply))
    fences = [reply["fence"] for _, _, reply in turns if reply]
    if fences != sorted(set(fences)):
        verdict.broken("out_of_order", f"turns of {sent[0].message.conversation!r}: {fences}")
    if ordered and seen != list(texts):
        verdict.broken("out_of_order", f"{seen} were sent as {list(texts)}")


def _turns(events: list[dict[str, Any]]) -> list[tuple[str, str, dict[str, Any] | None]]:
    """Of each message that is stored: its id, its text, and the bot's reply to it."""
    turns: list[tuple[str, str, dict[str, Any] | None]] = []
    for event in events:
        if event["event"] == "user":
            turns.append((event["message_id"], event["text"], None))
        elif event["event"] == "bot" and turns:
            turns[-1] = (*turns[-1][:2], event["data"]["custom"])
    return turns
