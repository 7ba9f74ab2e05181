"""The judgement of a storm: what its workers have recorded, beside what was done to them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import redis

from ticketlock.stress.targets import One

from .events import Event, Events

#: Seconds before a loss in which its cause must lie: a lease, and the beat that finds out.
LEASE = 5.0
#: What may cost a turn of the same shard, or of the same process. The rest must not: connections
#: that are closed, stops and pauses of less than a second, a replica that is gone, and memory that
#: is short, for a renewal needs none.
COSTLY = {
    "server stopped", "server killed", "failover asked for", "cluster down", "process stopped",
    "process stopped briefly", "process starved",
}  # fmt: skip


@dataclass
class Verdict:
    """What was found.

    Attributes:
        problems: kind -> how often a promise was broken.
        examples: the first of each, in words.
        lost: trouble -> turns that it has cost.
        longest: the longest wait for a turn, and what was wrong meanwhile.
    """

    problems: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    figures: Counter[str] = field(default_factory=Counter)
    longest: tuple[float, str] = (0.0, "")

    def broken(self, kind: str, example: object) -> None:
        self.problems[kind] += 1
        if self.problems[kind] <= 3:
            self.examples.append(f"{kind}: {example}")


def judge(records: redis.Redis, names: Iterable[str], target: One, events: Events) -> Verdict:
    """The verdict on what was recorded; the starving of workers becomes part of the events."""
    verdict = Verdict()
    notes = [json.loads(text) for text in records.lrange("notes", 0, -1)]
    for note in notes:
        if note["what"] == "starved" and not _stopped(events, note["p"], note["since"], note["t"]):
            events.add(Event("process starved", note["since"], note["t"], pid=note["p"]))
        elif note["what"] in ("begin refused", "connection"):
            verdict.figures[note["what"]] += 1
    for note in notes:
        if note["what"] == "lost":
            _judge_loss(verdict, note, target.shard_of(note["c"]), events)
        elif note["what"] == "overlap":
            shard = target.shard_of(note["c"])
            # A server that forgets a turn gives another one: the fence is what protects then.
            if events.forgot(shard, note["t"] - LEASE, note["t"]):
                verdict.figures["overlaps of what a server forgot"] += 1
            else:
                verdict.broken("overlap", note)
    for name in dict.fromkeys(names):
        entries = [json.loads(text) for text in records.lrange(f"log:{name}", 0, -1)]
        _judge_turns(verdict, name, entries, target.shard_of(name), events)
    return verdict


def _stopped(events: Events, pid: int, since: float, until: float) -> bool:
    """Whether a process did not run all of that time."""
    return any(event.pid == pid for event in events.near(since, until, -1, pid))


def _judge_loss(verdict: Verdict, note: dict[str, Any], shard: int, events: Events) -> None:
    """A turn is lost by its own server's trouble, or by its own process's."""
    near = events.near(note["t"] - LEASE, note["t"], shard, note["p"])
    causes = [event.kind for event in near if event.kind in COSTLY]
    if causes:
        verdict.lost[causes[-1]] += 1
        return
    kinds = sorted({event.kind for event in near}) or ["no trouble"]
    verdict.lost[f"only {', '.join(kinds)}"] += 1
    verdict.broken("turn lost", f"{note}, {_trouble(events, near, note['t'] - LEASE, note['t'])}")


def _trouble(events: Events, near: list[Event], since: float, until: float) -> str:
    """What was wrong in that time, in words: what could matter, and all else."""
    own = {event.kind for event in near}
    others = {event.kind for event in events.during(since, until)} - own
    return f"near: {sorted(own)}, elsewhere: {sorted(others)}"


def _judge_turns(
    verdict: Verdict, name: str, entries: list[dict[str, Any]], shard: int, events: Events
) -> None:
    """One conversation: fences that grow, one turn under each, in the order of the tickets."""
    last, last_at, highest = 0, 0.0, 0
    begun: set[str] = set()
    for entry in entries:
        if entry["refused"]:
            continue
        if int(entry["f"]) < highest:
            verdict.broken("older fence", (name, entry, highest))
        highest = max(highest, int(entry["f"]))
        if entry["e"] != "begin":
            continue
        if entry["f"] in begun:
            verdict.broken("fence twice", (name, entry))
        begun.add(entry["f"])
        verdict.figures["turns"] += 1
        if (waited := entry["t"] - entry["since"]) > verdict.longest[0]:
            near = events.near(entry["since"], entry["t"], shard, entry["p"])
            beside = dict(Counter(event.kind for event in near))
            verdict.longest = (waited, f"in {name!r}, beside {beside}")
        # Order is judged of the living, and of what the servers have kept.
        waiting = entry["since"] - LEASE, entry["t"]
        if events.forgot(shard, *waiting) or _stopped(events, entry["p"], *waiting):
            continue
        if events.forgot(shard, last_at, entry["since"]):
            last = 0  # numbers may have begun anew
        if entry["n"] <= last:
            near = events.near(*waiting, shard, entry["p"])
            said = _trouble(events, near, *waiting)
            verdict.broken("out of order", f"{name!r}: {entry} after {last}, {said}")
        last, last_at = max(last, entry["n"]), entry["t"]
