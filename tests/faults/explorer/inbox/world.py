"""Every step that can come next, for processes that serve one conversation's messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .processes import CONVERSATION, HOLD, OLD, OPERATOR, WINDOW, Processes
from .state import START, TICK, Budget, Call, Message, Process, State, Step


class World(Processes):
    """Makes the steps."""

    def begin(self, messages: tuple[Message, ...], budget: Budget, rooms: tuple[int, ...]) -> State:
        processes = tuple(
            Process(f"p{i}", room, tuple(m for m in messages if m.by == i), plains=budget.plains)
            for i, room in enumerate(rooms)
        )
        return State(START, (), (0, ()), processes, budget)

    # -- steps ------------------------------------------------------------------------------------

    def steps(self, state: State) -> Iterator[Step]:
        """All that can happen next."""
        budget = state.budget
        for i, process in enumerate(state.processes):
            for late in range(len(process.late)):
                yield self.execute_late(state, i, late)
            if process.up:
                yield from self._of_process(state, i, process)
        if budget.ticks:
            yield Step(("tick",), self.tick(state.spent("ticks"), TICK))
        if budget.revokes:
            for name in sorted(state.ghost.stored - state.ghost.revoked):
                yield self.revoke(state.spent("revokes"), name)
        if budget.breaks:
            yield from self._breaks(state.spent("breaks"))
        if budget.olds:
            yield from self._old(state.spent("olds"))
        if budget.evicts:
            spent = state.spent("evicts")._replace(ghost=state.ghost._replace(olds=True))
            counter, _, queue, waiters = self.keys.of(CONVERSATION)
            for key in (counter, queue, waiters):
                left = tuple(entry for entry in state.data if entry[0] != key)
                if left != state.data:
                    yield Step(("evict", key), spent._replace(data=left))
        if budget.longs and not any(process.up for process in state.processes):
            gone = tuple(entry for entry in state.data if entry[2] == 0)
            long = state.spent("longs")
            long = long._replace(now=state.now + 7_200_000, data=gone)
            # What was kept of finished messages is gone as well.
            waiting = dict(next((v for k, v, _ in gone if k == self._submitted), ()))
            ghost = state.ghost
            ghost = ghost._replace(stored=ghost.stored & set(waiting))
            fresh = Process("fresh", 1, plains=min(1, len(state.processes) - 1))
            processes = (*state.processes, fresh)
            yield Step(("hours go by",), long._replace(ghost=ghost, processes=processes))

    def tick(self, state: State, by: int) -> State:
        return state._replace(now=state.now + by)

    def _of_process(self, state: State, i: int, process: Process) -> Iterator[Step]:
        budget = state.budget
        if process.out:
            yield self.execute(state, i)
        if process.back:
            yield self.hear(state, i)
        if process.submits:
            yield self.submit(state, i)
        for number, turn in enumerate(process.turns):
            yield from self.turn_steps(state, i, number, turn)
        if budget.looks and process.free > 0:
            yield self.look(state.spent("looks"), i)
        if budget.beats and (process.turns or process.plain):
            yield self.beat(state.spent("beats"), i)
        if process.plains and not process.plain and not process.turns:
            yield self.acquire(state, i)
        if budget.drops and (process.out or process.back):
            yield from self._drops(state.spent("drops"), i, process)
        if budget.crashes:
            spent = state.spent("crashes")
            down = process._replace(up=False, out=(), back=(), turns=(), submits=(), plain="")
            yield Step(("crash", i), spent.having(i, down))
            if budget.lates and process.out:
                late = down._replace(late=process.out)
                yield Step(("crash", i, "late"), spent.spent("lates").having(i, late))

    def _drops(self, state: State, i: int, process: Process) -> Iterator[Step]:
        again = tuple(
            call._replace(answer=None, sent=state.now) for call in process.back + process.out
        )
        repeats = process._replace(out=again, back=())
        yield Step(("drop", i), state.having(i, repeats))
        if state.budget.lates and process.out:
            repeats = repeats._replace(late=process.late + process.out)
            yield Step(("drop", i, "late"), state.spent("lates").having(i, repeats))

    # -- the server ---------------------------------------------------------------------------------

    def execute(self, state: State, i: int) -> Step:
        """The server executes the next command of a process."""
        process = state.processes[i]
        call = process.out[0]
        after, done = self.run(state, call.words)
        call = call._replace(answer=done.answer)
        process = process._replace(out=process.out[1:], back=(*process.back, call))
        after = self._noted(after.having(i, process), call)
        return Step(("execute", i, call.kind, call.subject, done.answer), after, call)

    def execute_late(self, state: State, i: int, which: int) -> Step:
        """The server executes what came over a connection that is gone."""
        process = state.processes[i]
        call = process.late[which]
        after, done = self.run(state, call.words)
        late = process.late[:which] + process.late[which + 1 :]
        call = call._replace(answer=done.answer)
        after = self._noted(after.having(i, process._replace(late=late)), call)
        return Step(("execute late", i, call.kind, call.subject, done.answer), after, call)

    def _noted(self, state: State, call: Call) -> State:
        ghost = state.ghost
        if call.kind == "submit" and call.answer[0] in (0, 1):
            ghost = ghost._replace(stored=ghost.stored | {call.subject[1]})
        tried = call.kind == "finish" and call.words[-1] == "0" and call.answer[0] in (1, 4)
        if call.kind == "begin" and call.answer:
            turn = call.subject
            ghost = ghost._replace(begun=ghost.begun | {(turn.name, turn.fence)})
        if tried:
            turn = call.subject[1]
            ghost = ghost._replace(begun=ghost.begun | {(turn.name, -turn.fence)})
        return state._replace(ghost=ghost)

    def _at_once(self, state: State, label: tuple[Any, ...], kind: str, words: Any) -> Step:
        after, done = self.run(state, words)
        call = Call(kind, tuple(map(str, words)), state.now, label[-1], done.answer)
        return Step((*label, done.answer), after, call)

    # -- operators, and the version before ------------------------------------------------------------

    def revoke(self, state: State, name: str) -> Step:
        words = self._of[OPERATOR][1].revoke(CONVERSATION, name, WINDOW, "withdrawn")
        step = self._at_once(state, ("revoke", name), "revoke", words)
        if step.call is None or step.call.answer[0] != 1:
            return step
        ghost = step.state.ghost
        ghost = ghost._replace(revoked=ghost.revoked | {name})
        return step._replace(state=step.state._replace(ghost=ghost))

    def _breaks(self, state: State) -> Iterator[Step]:
        held = self.holder(state)
        state = state._replace(ghost=state.ghost._replace(broken=True))
        if held:
            words = self._of[OPERATOR][0].break_turn(CONVERSATION, int(held[0]), 100)
            yield self._at_once(state, ("break", held[0]), "break", words)
        for number in range(1, 4):
            words = self._of[OPERATOR][0].withdraw(CONVERSATION, "", number)
            yield self._at_once(state, ("withdraw", number), "withdraw", words)

    def holder(self, state: State) -> list[str]:
        key = self.keys.of(CONVERSATION)[1]
        return next((str(v).split() for k, v, end in state.data if k == key), [])

    def _old(self, state: State) -> Iterator[Step]:
        """A process of the version before takes a ticket, attends it, or ends its turn."""
        ghost = state.ghost._replace(olds=True)
        state = state._replace(ghost=ghost)
        member, held = "old.1-s", self.holder(state)
        scripts = self._of[OLD][0]
        mine = len(held) > 2 and held[2] == member
        for name, words in {
            "acquire": scripts.acquire(CONVERSATION, member, HOLD),
            "attend": scripts.attend([(CONVERSATION, member)]),
            **({"release": scripts.release(CONVERSATION, member, int(held[0]))} if mine else {}),
        }.items():
            yield self._at_once(state, ("old", name), "old", self.server.of_old(words))
