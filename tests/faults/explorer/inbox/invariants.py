"""What must never be, each with a name; an empty list is all that is well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .processes import CONVERSATION
from .state import State, Step
from .world import World

Violation = tuple[str, str]
WAITS = "inbox.1-.!"


class Data:
    """What the scripts keep of the conversation, as the invariants look at it."""

    def __init__(self, world: World, state: State) -> None:
        keys = world.keys
        self.found: dict[str, Any] = {key: value for key, value, _ in state.data}
        self.ends = {key: end for key, _, end in state.data}
        self.counter_key, self.holder_key, self.queue_key, self.waiters_key = keys.of(CONVERSATION)
        self.submitted_key = keys.submitted(CONVERSATION)
        held = self.found.get(self.holder_key, "0").split()
        self.fence, self.idle = int(held[0]), len(held) == 1
        self.number, self.member, self.lease = 0, "", 0
        if len(held) > 1 and held[2] != "-":
            self.number, self.member, self.lease = int(held[1]), held[2], int(held[3])
        self.serving = self.member.partition(".!")[2]
        self.queue = {m: int(score) for m, score in self.found.get(self.queue_key, ())}
        fields = dict(self.found.get(self.submitted_key, ()))
        #: Of each message that is not finished: the words of its state.
        self.waiting = {k: v.split() for k, v in fields.items() if not k.startswith(" ")}
        self.texts = {k[1:] for k in fields if k.startswith(" ") and not k.startswith("  ")}
        records = dict(self.found.get(keys.of_messages(CONVERSATION)[0], ()))
        self.finished = {k for k, v in records.items() if v[0] in "dexv"}
        self.index = dict(self.found.get(world.index.of(CONVERSATION), ()))

    def number_of(self, name: str) -> int:
        return int(self.waiting[name][0])


def violations(world: World, before: State, step: Step) -> Iterator[Violation]:
    """What is wrong after a step."""
    state, ghost = step.state, step.state.ghost
    if not ghost.broken:
        yield from exclusion(state)
    if len(set(ghost.commits)) < len(ghost.commits):
        yield "a message is handled once", f"committed were {ghost.commits}"
    if wrong := ghost.revoked & set(ghost.commits):
        yield "withdrawn means never handled", f"{wrong} were handled"
    if state.data is before.data or state.data == before.data:
        return
    old, new = Data(world, before), Data(world, state)
    if wrong := ghost.revoked & {new.serving}:
        yield "withdrawn means never handled", f"{wrong} is served"
    if new.fence < old.fence and new.found.get(new.holder_key):
        yield "fences grow", f"{old.fence} to {new.fence}"
    if new.member and new.member != old.member and new.fence <= old.fence:
        yield "fences grow", f"{new.member} is served under {new.fence}"
    yield from kept(world, state, old, new)
    if not ghost.olds:
        yield from places(new)
        yield from order(old, new)
        if step.label[0] != "hours go by":
            yield from expiries(new)
    if step.call is not None:
        yield from answers(world, before, step, old, new)


def exclusion(state: State) -> Iterator[Violation]:
    """Of the turns that are believed to be held there is one."""
    held = [
        (process.name, turn.member)
        for process in state.processes
        if process.up
        for turn in process.turns
        if state.now < turn.until
    ]
    if len(held) > 1:
        yield "mutual exclusion", f"inside are {held}"


def kept(world: World, state: State, old: Data, new: Data) -> Iterator[Violation]:
    """What was stored is there until it is finished, with its text, and is listed."""
    for name in state.ghost.stored - new.finished - set(new.waiting):
        yield "accepted is kept", f"{name} is gone"
    for name in set(new.waiting) - new.texts:
        yield "accepted is kept", f"{name} has no text"
    if new.texts - set(new.waiting):
        yield "accepted is kept", f"texts without messages: {new.texts}"
    if new.waiting and CONVERSATION not in new.index:
        yield "what waits is listed", f"{sorted(new.waiting)} wait"
    for name in set(old.waiting) & set(new.waiting):
        if old.number_of(name) != new.number_of(name):
            yield "a message keeps its number", f"{name}: {old.waiting[name]}, {new.waiting[name]}"
    begun: dict[str, int] = {}
    for name, _ in state.ghost.begun:
        begun[name] = begun.get(name, 0) + 1
    for name, words in new.waiting.items():
        if not 0 <= int(words[2]) <= begun.get(name, 0) + (name in old.finished):
            yield "attempts are begun", f"{name} has {words[2]}, begun were {begun.get(name, 0)}"


def places(data: Data) -> Iterator[Violation]:
    """Each message waits at its number or is served, and a conversation with one is not idle."""
    if data.waiting and data.idle and data.holder_key in data.found:
        yield "a conversation with a message is not idle", f"{sorted(data.waiting)} wait"
    for name in data.waiting:
        number = data.number_of(name)
        waits = data.queue.get(WAITS + name)
        lost = waits is None and data.serving != name
        if lost or waits not in (None, number):
            yield "a message has its place", f"{name}: {number}, queue {data.queue}"
        if waits is not None and data.serving == name:
            yield "a message has its place", f"{name} waits and is served"
        if data.serving == name and data.number != number:
            yield "a message has its place", f"{name} is served at {data.number}, not {number}"
    for member in data.queue:
        if member.startswith(WAITS) and member.removeprefix(WAITS) not in data.waiting:
            yield "a ticket has its message", f"{member} waits, and no message"
    numbers = [*data.queue.values(), *([data.number] if data.member else [])]
    if len(set(numbers)) < len(numbers):
        yield "a ticket has its own number", f"{data.queue}, {data.member} {data.number}"


def order(old: Data, new: Data) -> Iterator[Violation]:
    """No turn begins before a message with a lower number."""
    if not new.member or new.member == old.member:
        return
    for name in new.waiting:
        if name in old.waiting and name != new.serving and new.number_of(name) < new.number:
            yield "in the order of tickets", f"{new.member} {new.number} before {name}"


def expiries(data: Data) -> Iterator[Violation]:
    """While a message is not finished none of its keys expires; the holder's is restored."""
    keys = [data.counter_key, data.submitted_key, data.queue_key]
    for key in keys if data.waiting else []:
        if data.ends.get(key, 0):
            yield "no key expires under a message", key
    if data.waiting and data.counter_key not in data.found:
        yield "no key expires under a message", "the counter is gone"


def answers(world: World, before: State, step: Step, old: Data, new: Data) -> Iterator[Violation]:
    """What a script has answered, and what it has done."""
    call = step.call
    assert call is not None
    if call.kind == "submit":
        if call.answer[0] == -1 and old.found != new.found:
            yield "what is refused is not stored", str(call.answer)
        message = call.subject[2]
        if message.max_waiting == 0 and call.answer[0] == 0 and call.subject[0]:
            yield "who cannot wait is refused", f"{message.name} waits"
    served = None
    if call.kind in ("submit", "finish") and call.answer[0] == 1:
        served = call.answer
    if call.kind == "take" and call.answer[0][0] == 1:
        served = call.answer[0]
    if served is not None:
        later = [
            name
            for name, words in new.waiting.items()
            if words[5] in ("interrupt", "rollback") and int(words[0]) > served[1]
        ]
        if later and not served[11]:
            yield "a stop is not lost", f"{served} begins, and {later} wait"


def left_behind(world: World, state: State) -> Iterator[Violation]:
    """When all is finished, keys are left that expire, and no other."""
    data = Data(world, state)
    for key, end in data.ends.items():
        if end == 0 and not key.endswith(":dead"):
            yield "nothing is left", f"{key} = {data.found[key]}"
