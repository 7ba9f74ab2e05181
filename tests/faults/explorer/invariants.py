"""What must never be, each with a name; an empty list is all that is well."""

from __future__ import annotations

from collections.abc import Iterator

from .turn import CONVERSATION, MESSAGE
from .world import START, State, Step, World

Violation = tuple[str, str]


class Data:
    """What the scripts keep of the conversation, as the invariants look at it."""

    def __init__(self, world: World, state: State) -> None:
        keys = world.keys.of(CONVERSATION)
        found = {key: value for key, value, _ in state.data}
        held = found.get(keys[1], "0").split()
        self.fence = int(held[0])
        #: Of the turn that is served: its number, member, and when its lease ends.
        self.number, self.member, self.lease = 0, "", 0
        if len(held) > 1 and held[2] != "-":
            self.number, self.member, self.lease = int(held[1]), held[2], int(held[3])
        self.queue = {member: int(number) for member, number in found.get(keys[2], ())}
        self.waiters = dict(found.get(keys[3], ()))
        self.messages = dict(found.get(world.keys.of_messages(CONVERSATION)[0], ()))
        self.idle = len(held) == 1

    def alive(self, member: str, now: int) -> bool:
        """Whether the process of a member is believed to live."""
        until = self.waiters.get(process(member), "0").split()[0]
        return int(until) > now


def process(member: str) -> str:
    return member.partition(".")[0]


def violations(world: World, before: State, step: Step) -> Iterator[Violation]:
    """What is wrong after a step."""
    state = step.state
    yield from mutual_exclusion(world, state)
    for node in state.nodes:
        view = world.view(node)
        for error in view.errors:
            yield "no callback raises", error
        if node.up and view.forgotten:
            yield "nothing is forgotten", f"the engine knows nothing of turns {view.forgotten}"
    if state.now == START and not world.closes:
        yield from no_turn_lost_in_no_time(world, state)
    if state.data is not before.data and state.data != before.data:
        old, new = Data(world, before), Data(world, state)
        yield from one_ticket_a_member(new)
        yield from fence_growth(old, new)
        yield from first_in_first_out(old, new, state.now, step)
        yield from handled_once(old, new)


def mutual_exclusion(world: World, state: State) -> Iterator[Violation]:
    """Of the bodies that may believe to have the turn by their own deadline there is one."""
    inside = [
        (i, each.fence)
        for i, node in enumerate(state.nodes)
        if node.up
        for each in world.view(node).inside
        if state.now < each.until
    ]
    if len(inside) > 1:
        yield "mutual exclusion", f"inside are (client, fence) {inside}"


def handled_once(old: Data, new: Data) -> Iterator[Violation]:
    """A message that was answered gets no other turn."""
    for_it = new.member.endswith(f".{MESSAGE}")
    if old.messages.get(MESSAGE, "").startswith("d ") and for_it and new.member != old.member:
        yield "a message is handled once", f"it was answered, and {new.member} is served"


def one_ticket_a_member(data: Data) -> Iterator[Violation]:
    """A ticket waits or is served, and its number is its own."""
    if data.member in data.queue:
        yield "one ticket a member", f"{data.member} is served and waits as {data.queue}"
    if len(set(data.queue.values())) < len(data.queue):
        yield "one ticket a member", f"two wait under one number: {data.queue}"
    if data.number and data.number in data.queue.values():
        yield "one ticket a member", f"{data.number} is served and waits: {data.queue}"


def fence_growth(old: Data, new: Data) -> Iterator[Violation]:
    """Each turn has a higher fence than all before it."""
    if new.fence < old.fence:
        yield "fence growth", f"the fence fell from {old.fence} to {new.fence}"
    if new.member and new.member != old.member and new.fence <= old.fence:
        yield "fence growth", f"{new.member} is served under the old fence {new.fence}"


def first_in_first_out(old: Data, new: Data, now: int, step: Step) -> Iterator[Violation]:
    """A hand-off passes over no ticket whose process is believed to live."""
    if new.idle and new.queue:
        yield "first in, first out", f"nobody is served, and there wait {new.queue}"
    if not new.member or new.member == old.member:
        return
    for member, number in old.queue.items():
        named = step.words is not None and member in step.words
        if number < new.number and old.alive(member, now) and member != new.member and not named:
            yield "first in, first out", f"{number} was passed over for {new.number}"


def no_turn_lost_in_no_time(world: World, state: State) -> Iterator[Violation]:
    """A lease ends by time alone."""
    if any("lost" in world.view(node).turns for node in state.nodes):
        yield "no turn is lost in no time", "a body was told that its turn was lost"


def left_behind(world: World, state: State) -> Iterator[Violation]:
    """Some seconds after all turns are over, no ticket is in anybody's way."""
    data = Data(world, state)
    if data.lease > state.now:
        yield "nothing is left behind", f"{data.member} is served"
    for member in data.queue:
        # One that is believed dead is passed over; it can be there if its request came late.
        if data.alive(member, state.now):
            yield "nothing is left behind", f"{member} waits"
    for i, node in enumerate(state.nodes):
        if node.up and world.view(node).left:
            yield "nothing is left behind", f"client {i} still knows {world.view(node).left}"
