"""The promises of an inbox, judged in one conversation. Only what is certain is a violation."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .operations import Operation
from .verdict import Violation, moment


@dataclass(slots=True)
class Message:
    """What was done with a message.

    Attributes:
        submitted: the submission that returned first, of those that were accepted.
        earliest: when it can have been accepted at the earliest.
        finished: the times that it was certainly finished, in their order.
        doubtful: it may have been finished another time.
    """

    submitted: Operation | None = None
    earliest: float = math.inf
    finished: list[Operation] = field(default_factory=list)
    doubtful: bool = False


def messages(operations: Sequence[Operation]) -> dict[str, Message]:
    """The messages of a conversation by their ids."""
    found: defaultdict[str, Message] = defaultdict(Message)
    for one in sorted(operations, key=lambda one: one.completed):
        if one.kind not in ("submit", "finish") or one.outcome == "fail":
            continue
        message = found[one.message or ""]
        if one.kind == "submit":
            message.earliest = min(message.earliest, one.invoked)
            if one.outcome == "ok" and message.submitted is None:
                message.submitted = one
        elif one.outcome == "ok":
            message.finished.append(one)
        else:
            message.doubtful = True
    return dict(found)


def lost(found: dict[str, Message], end: float) -> Iterator[Violation]:
    """Messages that were accepted and never finished."""
    for name, message in found.items():
        submitted = message.submitted
        if submitted is not None and not message.finished and not message.doubtful:
            yield Violation(
                "lost", submitted, None, submitted.invoked, end,
                f"message {name!r} was accepted at {moment(submitted.completed)}, and not finished",
            )  # fmt: skip


def duplicated(found: dict[str, Message]) -> Iterator[Violation]:
    """Each time that a message was finished after the first one."""
    for name, message in found.items():
        for again in message.finished[1:]:
            first = message.finished[0]
            yield Violation(
                "duplicated", again, first, first.invoked, again.completed,
                f"message {name!r} was finished by process {first.process} at "
                f"{moment(first.completed)}, and by {again.process} at {moment(again.completed)}",
            )  # fmt: skip


def out_of_order(found: dict[str, Message]) -> Iterator[Violation]:
    """Messages that were finished when one was finished already that was submitted after them."""
    # One that no submission is known of may have been accepted at any time.
    done = [one for one in found.values() if one.finished and one.earliest < math.inf]
    ended = iter(sorted(done, key=lambda one: one.finished[0].completed))
    latest, following = None, next(ended, None)
    for message in sorted(done, key=lambda one: one.finished[0].invoked):
        finish, submitted = message.finished[0], message.submitted
        while following is not None and following.finished[0].completed < finish.invoked:
            if latest is None or following.earliest > latest.earliest:
                latest = following
            following = next(ended, None)
        if latest is None or submitted is None or message.doubtful:
            continue
        if latest.earliest > submitted.completed:
            before = latest.finished[0]
            yield Violation(
                "out_of_order", finish, before, submitted.invoked, finish.completed,
                f"message {finish.message!r} was accepted at {moment(submitted.completed)} and "
                f"finished at {moment(finish.completed)}; message {before.message!r}, submitted at "
                f"{moment(latest.earliest)}, was finished at {moment(before.completed)}",
            )  # fmt: skip
