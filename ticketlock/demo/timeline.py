"""The timelines of a few conversations, with the lock and without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .judge.records import BEGIN, TurnRecord

#: Conversations of a picture, and turns of each.
CONVERSATIONS, TURNS = 3, 8


@dataclass(frozen=True)
class Span:
    """One turn.

    Attributes:
        label: the place of its message among those shown, from 1, in the order of sending.
        begin, end: seconds.
        lane: its line; turns of one lane do not overlap.
        overlaps: whether it overlaps another turn.
    """

    message: int
    begin: float
    end: float
    label: int = 0
    lane: int = 0
    overlaps: bool = False


@dataclass(frozen=True)
class Strip:
    """Turns of one conversation; the first one begins at 0."""

    spans: tuple[Span, ...]

    @property
    def seconds(self) -> float:
        return max((span.end for span in self.spans), default=0.0)

    @property
    def lanes(self) -> int:
        return 1 + max((span.lane for span in self.spans), default=0)


@dataclass(frozen=True)
class Comparison:
    """The same messages of a conversation with the lock, and without it."""

    conversation: str
    locked: Strip
    unlocked: Strip


def spans(entries: Sequence[TurnRecord]) -> list[Span]:
    """The turns of a record that have ended, in the order of their begins."""
    going: dict[tuple[int, int, str], float] = {}
    found = []
    for entry in entries:
        key = entry.message, entry.fence, entry.replica
        if entry.event == BEGIN:
            going[key] = entry.at
        elif (begin := going.pop(key, None)) is not None:
            found.append(Span(entry.message, begin, entry.at))
    return sorted(found, key=lambda span: span.begin)


def compare(
    locked: Mapping[str, Sequence[Span]], unlocked: Mapping[str, Sequence[Span]]
) -> list[Comparison]:
    """The conversations with most overlaps without the lock, at that point.

    Args:
        locked, unlocked: turns by conversation; the messages of both are the same.
    """
    windows = {name: _worst(_marked(turns)) for name, turns in unlocked.items() if turns}
    order = sorted(windows, key=lambda name: -sum(span.overlaps for span in windows[name]))
    return [
        Comparison(
            name,
            _strip(locked.get(name, ()), messages := sorted({s.message for s in windows[name]})),
            _strip(unlocked[name], messages),
        )
        for name in order[:CONVERSATIONS]
    ]


def _worst(turns: Sequence[Span]) -> Sequence[Span]:
    """The consecutive turns with most overlaps; of several, those in the shortest time."""
    parts = [turns[i : i + TURNS] for i in range(max(1, len(turns) - TURNS + 1))]
    return max(
        parts, key=lambda part: (sum(s.overlaps for s in part), part[0].begin - part[-1].end)
    )


def _strip(turns: Sequence[Span], messages: Sequence[int]) -> Strip:
    label = {message: place for place, message in enumerate(messages, 1)}
    shown = _marked([span for span in turns if span.message in label])
    start = shown[0].begin if shown else 0.0
    return Strip(tuple(
        replace(s, begin=s.begin - start, end=s.end - start, label=label[s.message]) for s in shown
    ))  # fmt: skip


def _marked(turns: Sequence[Span]) -> list[Span]:
    """The turns with their overlaps and lanes."""
    marked: list[Span] = []
    lanes: list[float] = []  # when the last turn of each ended
    for place, span in enumerate(turns):
        behind = turns[place + 1 : place + 2]
        overlaps = span.begin < max(lanes, default=0.0) or any(o.begin < span.end for o in behind)
        lane = next((i for i, end in enumerate(lanes) if end <= span.begin), len(lanes))
        lanes[lane : lane + 1] = [span.end]
        marked.append(replace(span, lane=lane, overlaps=overlaps))
    return marked
