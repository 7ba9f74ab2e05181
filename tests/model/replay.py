"""A trace of the model, done to the real client and the real scripts in the explorer's world.

Each event of the model is a step of `faults.explorer.world`, or a few of them. What the scripts
answer must be what the model says that they answer: else the model has drifted from the code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from faults.explorer.client import modelled
from faults.explorer.invariants import Data, process
from faults.explorer.turn import CONVERSATION
from faults.explorer.world import Step

from .spin import NONE, UNIT, Answer, Event, sizes
from .steps import TICK, Drift, Steps

#: Events after which a turn may be lost, and a wait may be long.
FAULTS = {
    "crash", "stop", "drop", "drop_late", "lose_answer", "release_unheard", "stand_still", "flush",
    "break", "late",
}  # fmt: skip


class Outcome(NamedTuple):
    """What came of a replay.

    Attributes:
        steps: how many events were done.
        drift: why it ended before the last one, or "".
        broken: the promises that did not hold, of the explorer and of this file.
    """

    steps: int
    drift: str
    broken: tuple[str, ...]


def replay(trace: Iterable[Event], bounds: Mapping[str, int]) -> Outcome:
    """Do a trace's events, and judge every step; then go on fairly to the end.

    Args:
        bounds: those within which the model has found the trace.
    """
    with modelled():
        replayed = Replay(*sizes(bounds), bounds.get("LONGEST_WAIT", 8))
        done, drift = 0, ""
        for event in trace:
            try:
                replayed.happen(event)
            except Drift as error:
                drift = f"event {done + 1}, {event}: {error}"
                break
            done += 1
        if not replayed.broken:
            replayed.go_on()
        return Outcome(done, drift, tuple(replayed.broken))


class Replay(Steps):
    """Steered by the model's events: each has a method of its name."""

    def happen(self, event: Event) -> None:
        """One event of the model. Raises Drift."""
        getattr(self, f"_{event.name}")(*event.words, *event.answers)
        self._faultless &= event.name not in FAULTS

    def go_on(self) -> None:
        """Let all that still runs come to its end, and judge that."""
        for i in sorted(self._stopped):
            self._go_on(i)
        self._search._continue(self.state, 0)
        self.broken += [name for name in self._search.found if self._promised(name)]

    # -- events of processes.pml ------------------------------------------------------------------

    def _start(self, t: int) -> None:
        i, _ = self._turn_of(t)
        self._node(i, begun=self.state.nodes[i].begun + 1)
        self._do(self.world.event(self.state, i, "start"))

    def _acquire(self, t: int, back: int, said: Answer) -> None:
        i, _ = self._turn_of(t)
        answer = self._execute(i, "acquire", "batch")
        self._silence.since[i] = 0
        number = _same_acquire(answer, said)
        if back and number != back and not self._flushed:
            self.broken.append("a ticket keeps its number")

    def _tell(self, i: int) -> None:
        while self.world.view(self.state.nodes[i]).heard:
            self._do(self.world.event(self.state, i, "told"))

    def _hear(self, t: int) -> None:
        self._hear_next(self._turn_of(t)[0])

    def _bell(self, t: int) -> None:
        self._hear_next(self._turn_of(t)[0])

    _broken = _bell

    def _lose_bell(self, t: int) -> None:
        i, _ = self._turn_of(t)
        kept = tuple(data for data in self.state.nodes[i].back if not data.startswith(b">"))
        if kept == self.state.nodes[i].back:
            raise Drift(f"no bell is on its way to process {i}")
        self._node(i, back=kept)

    _lose_broken = _lose_bell

    def _write(self, t: int) -> None:
        i, _ = self._turn_of(t)
        running = self.world.view(self.state.nodes[i]).inside
        if not running:  # its body has been told
            return
        fence = running[0].fence
        if fence >= self._stored:
            fences = [each for each, _ in self._grants]
            if fences.index(fence) < fences.index(self._stored):
                self.broken.append("no stale write stored")
            self._stored = fence

    def _leave(self, t: int) -> None:
        i, turn = self._turn_of(t)
        self._expect_turn(t, "inside")
        self._do(self.world.event(self.state, i, "leave", turn))

    def _lapse(self, t: int) -> None:
        i, _ = self._turn_of(t)
        if self._state_of(t) == "inside":
            self._do(self.world.event(self.state, i, "timers"))
        self._expect_turn(t, "lost", "leaves")
        if self._faultless:
            self.broken.append("a turn lasts without a fault")

    def _release(self, t: int, under: int, said: Answer) -> None:
        i, _ = self._turn_of(t)
        _same(bool(self._execute(i, "release")), bool(said.kind), "release")
        if i not in self._stopped:
            self._hear_next(i)

    def _release_unheard(self, t: int, under: int, said: Answer) -> None:
        i, _ = self._turn_of(t)
        _same(bool(self._execute(i, "release")), bool(said.kind), "release")
        self._cut_off(i)

    def _cancel(self, t: int) -> None:
        i, turn = self._turn_of(t)
        self._expect_turn(t, "waits")
        self._do(self.world.event(self.state, i, "cancel", turn))

    def _withdraw(self, t: int, said: Answer) -> None:
        i, _ = self._turn_of(t)
        _same(self._execute(i, "withdraw"), said.kind, "withdraw")
        if i not in self._stopped:
            self._hear_next(i)

    def _forget(self, t: int) -> None:
        i, _ = self._turn_of(t)
        if self.state.nodes[i].out:
            raise Drift(f"process {i} says something when it takes a ticket back")

    def _drop(self, t: int) -> None:
        self._cut_off(self._turn_of(t)[0])

    def _lose_answer(self, t: int) -> None:
        self._cut_off(self._turn_of(t)[0])

    def _drop_late(self, t: int) -> None:
        self._cut_off(self._turn_of(t)[0], late=True)

    def _beat(self, i: int, *said: Answer) -> None:
        step = self.world.beat(self.state, i)
        self._do(step)
        if said:
            self._silence.heard(i)
        attended = [answer for answer in step.label[2:] if isinstance(answer[0], int)]
        if said:
            _same_attend(attended, said[0])
            data = Data(self.world, self.state)
            places = [process(member) for member in (*data.queue, data.member)]
            if not attended[-1][1][0] and f"p{i}e1" not in places:
                self.broken.append("a waiter has its place")
        self._tell(i)
        data = Data(self.world, self.state)
        for body in self.world.view(self.state.nodes[i]).inside:
            if not data.member or body.fence != data.fence:
                self.broken.append("a heartbeat tells of a lost turn")

    def _crash(self, i: int) -> None:
        self._stall = 0
        self._stopped.discard(i)
        self._node(i, up=False, out=(), back=())

    def _stop(self, i: int) -> None:
        self._stopped.add(i)

    def _go_on(self, i: int) -> None:
        self._stall = 0
        self._stopped.discard(i)
        if i in self._cut:
            self._cut.discard(i)
            self._cut_off(i)

    # -- events of faults.pml ---------------------------------------------------------------------

    def _tick(self) -> None:
        for i, node in enumerate(self.state.nodes):
            if node.up and i not in self._stopped and (node.back or (node.out and not self._down)):
                raise Drift(f"process {i} has more to do: {node.out or node.back}")
        for i, node in enumerate(self.state.nodes):
            if node.up and i not in self._stopped:
                self._tell_the_lapsed(i)
        turns = {i: self.world.view(n).turns for i, n in enumerate(self.state.nodes) if n.up}
        waits = any("waits" in turns[i] for i in turns.keys() - self._stopped)
        served = any("inside" in each for each in turns.values())
        self._stall = self._stall + 1 if waits and not served and not self._down else 0
        if self._stall > self._longest_wait:
            self.broken.append("every living waiter is served")
        self.state = self.world.tick(self.state, TICK)
        self._silence.tick()

    def _tell_the_lapsed(self, i: int) -> None:
        """A body whose deadline is over is told by its own process."""

        def lapsed() -> bool:
            inside = self.world.view(self.state.nodes[i]).inside
            return any(body.until <= self.state.now for body in inside)

        if lapsed():
            self._do(self.world.event(self.state, i, "timers"))
            if lapsed():
                self.broken.append("a lapsed turn is told")

    def _late(self, said: Answer) -> None:
        for i, node in enumerate(self.state.nodes):
            if node.late:
                self._do(self.world.execute_late(self.state, i))
                self._stall = 0
                return
        raise Drift("no command of a broken connection is left")

    def _stand_still(self) -> None:
        for i, node in enumerate(self.state.nodes):
            if node.up and (node.begun or node.out):
                self._cut_off(i)
        self._down = True

    def _answer_again(self) -> None:
        self._silence.over(self._stopped)
        self._down, self._stall = False, 0

    def _flush(self) -> None:
        self._flushed, self._stall = True, 0
        # The fences to come are made of the time: it is another one by then.
        self.state = self.state._replace(now=self.state.now + 1, data=())

    def _break(self, under: int, said: Answer) -> None:
        client = self.world.clients._client(self.state.nodes[0].client)
        fence = Data(self.world, self.state).fence
        words = client.store.running.scripts.break_turn(CONVERSATION, fence)
        done = self.world.server.execute(self.state.now, self.state.data, tuple(map(str, words)))
        self._ended = True
        _same(done.answer, said.kind, "break")
        if said.kind and not any(text.startswith("broken") for _, text in done.published):
            self.broken.append("a broken turn is told")
        self._do(Step(("break",), self.world._published(self.state, done)))


def _same(real: Any, model: Any, what: str) -> None:
    if real != model:
        raise Drift(f"{what}.lua says {real}, the model says {model}")


def _same_acquire(real: Any, said: Answer) -> int:
    """The number of the ticket."""
    if isinstance(real[0], tuple):  # of a call for many, that had one
        real = real[0]
    _same((real[0], real[1], real[3]), (said.kind, said.number, said.left * UNIT), "acquire")
    return said.number


def _same_attend(answers: list[Any], said: Answer) -> None:
    rows = [answer[1] for answer in answers]
    if not rows:
        raise Drift("nothing was attended")
    missing, left, text = rows[-1]
    _same((missing, max(0, left)), (said.missing, said.left * UNIT), "attend")
    _same(bool(text), said.ticket != NONE, "the bell of attend")
