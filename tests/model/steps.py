"""The explorer's world, a step at a time, with a judge of every step."""

from __future__ import annotations

from typing import Any

from faults.explorer.invariants import Data, process, violations
from faults.explorer.search import Search
from faults.explorer.world import Budget, State, Step

#: Milliseconds of one tick of the model; seconds of the clients' clocks, as in state.pml.
TICK = 1000
CLOCKS = {"lease": 2.0, "waiter_ttl": 2.5}
#: Milliseconds within which a waiting process must be heard: `awaited` of lua/holder.lua.
AWAITED = 1500


class Drift(Exception):
    """The real scripts, or the real client, do something else than the model."""


class Silence:
    """For how long the server has not heard of each process; as `silent` in the model.

    Attributes:
        since: milliseconds.
        waited_for: all were silent, and waited for, and no heartbeat came since.
    """

    def __init__(self, processes: int) -> None:
        self.since = [0] * processes
        self.waited_for = False

    def living(self, i: int) -> bool:
        return self.since[i] < 1000 * CLOCKS["waiter_ttl"]

    def heard(self, i: int) -> None:
        self.since[i], self.waited_for = 0, False

    def tick(self) -> None:
        self.since = [since + TICK for since in self.since]

    def over(self, stopped: set[int]) -> None:
        """The server answers again: if no process was heard when one had to be, it stood still."""
        if not self.waited_for and min(self.since) >= AWAITED:
            self.waited_for = True
            self.since = [s if i in stopped else 0 for i, s in enumerate(self.since)]


class Steps:
    """Makes the steps that `Replay` asks for.

    Args:
        processes, each, longest_wait: as in `state.pml` and `lock.pml`.

    Attributes:
        broken: promises that did not hold, in their order.
    """

    def __init__(self, processes: int, each: int, longest_wait: int) -> None:
        budget = Budget(turns=each)
        self._search = Search(processes, budget, **CLOCKS)
        self.world = self._search.world
        self.state: State = self.world.begin(processes, budget)
        self.each = each
        self.broken: list[str] = []
        self._stopped: set[int] = set()
        #: Stopped processes that will find their connection broken.
        self._cut: set[int] = set()
        self._down = False
        #: The tracker store: the fence, and the grants in their order.
        self._stored, self._grants = 0, [(0, "")]
        self._flushed = self._ended = False
        self._silence = Silence(processes)
        self._stall, self._longest_wait = 0, longest_wait
        self._faultless = True

    # -- steps of the explorer --------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        before, self.state = self.state, step.state
        for name, _ in violations(self.world, before, step):
            if self._promised(name):
                self.broken.append(name)
        old, data = Data(self.world, before), Data(self.world, self.state)
        self._judge_order(old, data, step)
        if data.member and (data.fence, data.member) != self._grants[-1]:
            if data.fence <= self._grants[-1][0]:
                self.broken.append("fence growth")
            self._grants.append((data.fence, data.member))
            i = _owner(data.member)
            if not self.state.nodes[i].up and not self._silence.living(i):
                self.broken.append("the dead are passed over")
        same = data.member and (data.member, data.fence) == (old.member, old.fence)
        if same and old.lease <= self.state.now < data.lease:
            self.broken.append("what is lost stays lost")

    def _promised(self, name: str) -> bool:
        """Where data is gone, so is order; who is broken does not know it at once."""
        gone = ("mutual exclusion", "first in, first out", "fence growth", "one ticket a member")
        ended = ("mutual exclusion", "no turn is lost in no time")
        lost = (*gone, *ended) if self._flushed else ended if self._ended else ()
        return name not in lost

    def _judge_order(self, old: Data, new: Data, step: Step) -> None:
        """No ticket leaves the queue as a dead process's that is none."""
        self._silence.waited_for |= new.waiters.get("grace") != old.waiters.get("grace")
        for member in old.queue.keys() & new.queue.keys():
            if old.queue[member] != new.queue[member]:
                self.broken.append("a ticket keeps its number")
        for member in old.queue.keys() - new.queue.keys() - {new.member}:
            i = _owner(member)
            named = step.words is not None and member in step.words
            dead = self._state_of_member(member) != "waits" or not self.state.nodes[i].up
            if not named and not dead and self._silence.living(i) and not self._flushed:
                self.broken.append("first in, first out among the living")

    def _state_of_member(self, member: str) -> str:
        """The state of the turn that a member is the ticket of."""
        request = member.partition(".")[2].partition("-")[0]
        return self.world.view(self.state.nodes[_owner(member)]).turns[int(request) - 1]

    def _node(self, i: int, **changes: Any) -> None:
        nodes = [*self.state.nodes]
        nodes[i] = nodes[i]._replace(**changes)
        self.state = self.state._replace(nodes=tuple(nodes))

    def _execute(self, i: int, *names: str) -> Any:
        """The server executes a process's next command, which must be one of those."""
        node = self.state.nodes[i]
        if not node.out:
            raise Drift(f"process {i} has sent nothing, and should have sent {names[0]}")
        name = self.world.server.name(node.out[0])
        if name not in names:
            raise Drift(f"process {i} has sent {name}, and should have sent {names[0]}")
        step = self.world.execute(self.state, i)
        self._do(step)
        return step.label[3]

    def _hear_next(self, i: int) -> None:
        if not self.state.nodes[i].back:
            raise Drift(f"nothing is on its way to process {i}")
        self._do(self.world.hear(self.state, i, 1))

    def _cut_off(self, i: int, *, late: bool = False) -> None:
        if i in self._stopped:
            self._cut.add(i)
            self._node(i, back=())
        else:
            after = self.world._happen(self.state, i, ("drop",), keep=late)
            self._do(Step(("drop", i), after))

    def _turn_of(self, t: int) -> tuple[int, int]:
        """The process of the model's ticket, and which of its turns that is."""
        return divmod(t, self.each)

    def _state_of(self, t: int) -> str:
        i, turn = self._turn_of(t)
        return self.world.view(self.state.nodes[i]).turns[turn]

    def _expect_turn(self, t: int, *states: str) -> None:
        if self._state_of(t) not in states:
            raise Drift(f"ticket {t} is {self._state_of(t)!r}, and should be {states[0]!r}")


def _owner(member: str) -> int:
    """The number of the process that a member is of, whose name is "p<number>e<use>"."""
    return int(process(member)[1:].partition("e")[0])
