"""Processes that serve one conversation's messages: what they ask, hear and do."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from ticketlock.inbox.scripts import InboxScripts
from ticketlock.inbox.submission import Submission
from ticketlock.locks.concurrent.scripts import Scripts, Timing
from ticketlock.redis.settings import RedisSettings
from ticketlock.settings.section import Section

from ..redis_model import Executed
from .redis import InboxRedis
from .state import LEASE, Call, Message, Process, State, Step, Turn

CONVERSATION = "c"
HOLD, WINDOW = 60_000, 600.0
#: Requests of an operator and of the version before, which are executed at once.
OPERATOR, OLD = "operator", "old"


class Processes:
    """What processes do, on a server of their own.

    Args:
        cluster: the index is in another slot than the conversation.
    """

    def __init__(self, *, cluster: bool = False) -> None:
        self.server = InboxRedis()
        settings = RedisSettings.read(Section({}, "model"))
        timing = Timing(lease=LEASE, waiter_ttl=LEASE)
        self.cluster = cluster
        self._of = {}
        for name in ("p0", "p1", "p2", "fresh", OPERATOR, OLD):
            scripts = Scripts(settings, timing, name, f"host:{name}")
            self._of[name] = scripts, InboxScripts(scripts, scripts.keys.prefix, cluster)
        self.keys = scripts.keys
        self.index = self._of[OLD][1].index
        self._submitted = self.keys.submitted(CONVERSATION)

    def run(self, state: State, words: Any) -> tuple[State, Executed]:
        done = self.server.execute(state.now, state.data, tuple(map(str, words)))
        return state._replace(data=done.state), done

    # -- a process asks --------------------------------------------------------------------------------

    def ask(
        self, state: State, i: int, kind: str, words: Any, subject: Any = None, **fields: Any
    ) -> State:
        process = state.processes[i]
        call = Call(kind, tuple(map(str, words)), state.now, subject)
        return state.having(i, process._replace(out=(*process.out, call), **fields))

    def _offer(self, process: Process) -> tuple[str, int]:
        """The member of a turn that may begin, "" for none, and the requests up to now."""
        if process.free <= 0 or not process.up:
            return "", process.requests
        return f"{process.name}.{process.requests + 1}-s", process.requests + 1

    def submit(self, state: State, i: int) -> Step:
        process = state.processes[i]
        message, *rest = process.submits
        process = process._replace(submits=tuple(rest))
        return Step(("submit", i, message.name), self._submit(state.having(i, process), i, message))

    def _submit(self, state: State, i: int, message: Message) -> State:
        process = state.processes[i]
        scripts = self._of[process.name][1]
        listing, until = process.listing
        if self.cluster and until <= state.now:  # list it first
            words = scripts.enlist(CONVERSATION, LEASE + 1000 if process.free > 0 else 0)
            return self.ask(state, i, "list", words, message)
        server, requests = self._offer(process)
        words = scripts.submit(
            Submission(
                CONVERSATION, message.name, f"text of {message.name}", message.mode,  # type: ignore[arg-type]
                max_waiting=None if message.max_waiting < 0 else message.max_waiting,
            ),
            server, HOLD, "", listing if self.cluster else "",
        )  # fmt: skip
        subject = (server, message.name, message)
        return self.ask(state, i, "submit", words, subject, requests=requests)

    def look(self, state: State, i: int) -> Step:
        words = self._of[state.processes[i].name][1].look(self._shard(), 10, 0, 0)
        return Step(("look", i), self.ask(state, i, "look", words))

    def _shard(self) -> int:
        shards = range(self.index.shards)
        return next(n for n in shards if self.index.key(n) == self.index.of(CONVERSATION))

    def _take(self, state: State, i: int, mark: str) -> State:
        process = state.processes[i]
        server, requests = self._offer(process)
        words = self._of[process.name][1].take(CONVERSATION, server, HOLD, mark)
        return self.ask(state, i, "take", words, (server, mark), requests=requests)

    def finish(self, state: State, i: int, turn: Turn, outcomes: Any, uncounted: bool) -> State:
        process = state.processes[i]
        turns = tuple(other for other in process.turns if other.member != turn.member)
        process = process._replace(turns=turns)
        server, requests = self._offer(process)
        served: Any = SimpleNamespace(
            conversation_id=CONVERSATION, grant=SimpleNamespace(member=turn.member, fence=turn.fence),
            window=WINDOW, delivery="", uncounted=uncounted,
        )  # fmt: skip
        words = self._of[process.name][1].finish(served, outcomes, server, HOLD, 100)
        state = state.having(i, process)
        return self.ask(state, i, "finish", words, (server, turn), requests=requests)

    def acquire(self, state: State, i: int) -> Step:
        process = state.processes[i]
        member = f"{process.name}.{process.requests + 1}-s"
        words = self._of[process.name][0].acquire(CONVERSATION, member, HOLD)
        state = self.ask(
            state, i, "acquire", words, member, requests=process.requests + 1,
            plain=member, plains=process.plains - 1,
        )  # fmt: skip
        return Step(("acquire", i), state)

    # -- a process hears -------------------------------------------------------------------------------

    def hear(self, state: State, i: int) -> Step:
        process = state.processes[i]
        call = process.back[0]
        state = state.having(i, process._replace(back=process.back[1:]))
        state = getattr(self, f"_heard_{call.kind}")(state, i, call)
        return Step(("hear", i, call.kind), state)

    def _begin(self, state: State, i: int, server: str, answer: Any, sent: int) -> State:
        """Begin the turn that a script has granted."""
        _, _, fence, lease, name, granted, *_ = answer
        process = state.processes[i]
        turn = Turn(name, f"{server}.!{name}", fence, sent + lease, "new", granted)
        return state.having(i, process._replace(turns=(*process.turns, turn)))

    def _heard_submit(self, state: State, i: int, call: Call) -> State:
        if call.answer[0] == 1:
            return self._begin(state, i, call.subject[0], call.answer, call.sent)
        if call.answer[0] == -2:
            process = state.processes[i]
            process = process._replace(listing=(call.answer[1], 0))
            return self._submit(state.having(i, process), i, call.subject[2])
        return state

    def _heard_list(self, state: State, i: int, call: Call) -> State:
        if call.subject is None:
            return state
        process = state.processes[i]
        until = call.sent + 2000 if process.free > 0 else call.sent + 1
        process = process._replace(listing=(process.listing[0], until))
        return self._submit(state.having(i, process), i, call.subject)

    def _heard_look(self, state: State, i: int, call: Call) -> State:
        found = call.answer[3:]
        return self._take(state, i, found[1]) if found else state

    def _heard_take(self, state: State, i: int, call: Call) -> State:
        served, _, again = call.answer
        server, mark = call.subject
        if served[0] == 1:
            state = self._begin(state, i, server, served, call.sent)
        if self.cluster and (again >= 0 or mark):
            scripts = self._of[state.processes[i].name][1]
            words = scripts.list(CONVERSATION, None if again < 0 else again, mark)
            state = self.ask(state, i, "list", words)
        return state

    def _heard_finish(self, state: State, i: int, call: Call) -> State:
        if call.answer[0] == 1:
            return self._begin(state, i, call.subject[0], call.answer, call.sent)
        if call.answer[0] == 4 and len(call.answer) > 1:
            return self._told(state, i, call.answer[1])
        if call.answer[0] == 7:
            words = self._of[state.processes[i].name][1].list(CONVERSATION, 0)
            return self.ask(state, i, "list", words)
        return state

    def _heard_release(self, state: State, i: int, call: Call) -> State:
        return self._told(state, i, call.answer) if isinstance(call.answer, str) else state

    def _heard_acquire(self, state: State, i: int, call: Call) -> State:
        process = state.processes[i]
        if call.answer[0] != 1 or process.plain != call.subject:
            return state
        _, _, fence, lease = call.answer
        turn = Turn("", process.plain, fence, call.sent + lease, "held")
        return state.having(i, process._replace(plain="", turns=(*process.turns, turn)))

    def _told(self, state: State, i: int, bell: str) -> State:
        """A bell's text, in an answer, says that a ticket of the process was granted."""
        process = state.processes[i]
        _, request, _, fence, until, *_ = bell.split()
        if process.plain.startswith(f"{process.name}.{request}-"):
            turn = Turn("", process.plain, int(fence), int(until), "held")
            process = process._replace(plain="", turns=(*process.turns, turn))
        return state.having(i, process)

    def _heard_begin(self, state: State, i: int, call: Call) -> State:
        process = state.processes[i]
        turns = [
            turn._replace(phase="ready") if turn.member == call.subject.member else turn
            for turn in process.turns
            if turn.member != call.subject.member or call.answer  # else it is lost
        ]
        return state.having(i, process._replace(turns=tuple(turns)))

    def _heard_carry(self, state: State, i: int, call: Call) -> State:
        return self._phase(state, i, call.subject, "carried", others=call.answer[::3])

    # -- turns -----------------------------------------------------------------------------------------

    def _phase(self, state: State, i: int, turn: Turn, phase: str, **fields: Any) -> State:
        process = state.processes[i]
        turns = tuple(
            one._replace(phase=phase, **fields) if one.member == turn.member else one
            for one in process.turns
        )
        return state.having(i, process._replace(turns=turns))

    def turn_steps(self, state: State, i: int, number: int, turn: Turn) -> Iterator[Step]:
        """What a turn does next. One that has lost its lease may not know it."""
        process = state.processes[i]
        scripts = self._of[process.name][1]
        served: Any = SimpleNamespace(conversation_id=CONVERSATION, grant=turn)
        names = (turn.name, *turn.others)
        if turn.phase == "held":
            words = self._of[process.name][0].release(CONVERSATION, turn.member, turn.fence)
            without = process._replace(turns=tuple(t for t in process.turns if t is not turn))
            yield Step(("release", i), self.ask(state.having(i, without), i, "release", words))
        elif turn.phase == "new":
            if state.budget.raises:
                yield self._raise(state.spent("raises"), i, turn)
            yield Step(("claim", i, turn.name), self._claim(state, i, turn))
        elif turn.phase == "claimed":
            waits = self._phase(state, i, turn, "begins")
            words = scripts.begin(served)
            yield Step(("begin", i, turn.name), self.ask(waits, i, "begin", words, turn))
        elif turn.phase in ("ready", "carried"):
            yield Step(("commit", i, *names), self._commit(state, i, turn, names))
            if state.budget.carries and turn.phase == "ready":
                waits = self._phase(state.spent("carries"), i, turn, "carries")
                words = scripts.carry(served, 10, process.requests)
                yield Step(("carry", i, turn.name), self.ask(waits, i, "carry", words, turn))
            if state.budget.faults:
                yield from self._faults(state.spent("faults"), i, turn)
        elif turn.phase == "done":
            replies = [(name, "d", "reply") for name in names]
            yield Step(("finish", i, *names), self.finish(state, i, turn, replies, False))

    def _raise(self, state: State, i: int, turn: Turn) -> Step:
        """Ask for a fence above one that the tracker store has seen."""
        words = self._of[state.processes[i].name][0].acquire(
            CONVERSATION, turn.member, HOLD, max_waiting=0, floor=turn.fence + 10
        )
        waits = self._phase(state, i, turn, "raises")
        return Step(("raise", i, turn.name), self.ask(waits, i, "raise", words, turn))

    def _heard_raise(self, state: State, i: int, call: Call) -> State:
        turn = call.subject
        if call.answer[0] == 1 and turn.until > state.now:
            return self._phase(state, i, turn, "new", fence=call.answer[2])
        state = self._lost(state, i, turn)
        if call.answer[0] != 1:
            return state
        words = self._of[state.processes[i].name][0].withdraw(CONVERSATION, turn.member)
        return self.ask(state, i, "withdraw", words)

    def _heard_withdraw(self, state: State, i: int, call: Call) -> State:
        return state

    def _claim(self, state: State, i: int, turn: Turn) -> State:
        """Claim the conversation in the tracker store; a message that is marked is handled."""
        fence, mark = state.tracker
        if turn.fence < fence:
            return self._lost(state, i, turn)
        state = state._replace(tracker=(turn.fence, mark))
        phase = "claimed" if turn.granted else "ready"
        return self._phase(state, i, turn, "done" if turn.name in mark else phase)

    def _commit(self, state: State, i: int, turn: Turn, names: tuple[str, ...]) -> State:
        fence, _ = state.tracker
        if turn.fence != fence:
            return self._lost(state, i, turn)
        ghost = state.ghost
        ghost = ghost._replace(commits=tuple(sorted((*ghost.commits, *names))))
        state = state._replace(tracker=(fence, names), ghost=ghost)
        return self._phase(state, i, turn, "done")

    def _lost(self, state: State, i: int, turn: Turn) -> State:
        process = state.processes[i]
        turns = tuple(other for other in process.turns if other.member != turn.member)
        return state.having(i, process._replace(turns=turns))

    def _faults(self, state: State, i: int, turn: Turn) -> Iterator[Step]:
        for label, outcomes, uncounted in (
            ("give back", [], True), ("try again", [], False),
            ("fail", [(turn.name, "e", "no")], False), ("die", [(turn.name, "x", "no")], False),
        ):  # fmt: skip
            after = self.finish(state, i, turn, outcomes, uncounted)
            yield Step((label, i, turn.name), after)

    # -- the heartbeat, on a connection of its own ----------------------------------------------------

    def beat(self, state: State, i: int) -> Step:
        """Renew what is held, and attend what waits; the server answers at once."""
        process = state.processes[i]
        scripts, turns, said = self._of[process.name][0], [], []
        for turn in process.turns:
            if turn.until <= state.now:
                turns.append(turn)
                continue
            words = scripts.renew([(CONVERSATION, turn.member, turn.fence)])
            state, done = self.run(state, words)
            left, _ = done.answer[0]
            said.append(done.answer)
            if left:
                turns.append(turn._replace(until=state.now + left))
        process = process._replace(turns=tuple(turns))
        state = state.having(i, process)
        if process.plain:
            state, done = self.run(state, scripts.attend([(CONVERSATION, process.plain)]))
            said.append(done.answer)
            missing, _, bell = done.answer[1]
            if bell:
                state = self._told(state, i, bell)
            asked = any(call.kind == "acquire" for call in process.out + process.back)
            if missing and not asked and state.processes[i].plain:  # skipped: it queues again
                words = scripts.acquire(CONVERSATION, process.plain, HOLD)
                state = self.ask(state, i, "acquire", words, process.plain)
        return Step(("beat", i, *said), state)
