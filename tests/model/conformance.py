"""Each call of a script in the model, made to the real script in the same state of the server.

A line of `calls.h` has the state before a call and after it. The state before is written as the
keys of docs/protocol.md; what the real script answers, rings and leaves must be what the model
says. The model's times are what is left of them, so one that is over is put before now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from faults.explorer.redis_model import NEVER, Frozen, ModelRedis

from ticketlock.locks.concurrent.scripts import Keys, Scripts, Timing
from ticketlock.redis.settings import RedisSettings
from ticketlock.settings.section import Section

from .spin import NONE, UNIT
from .steps import CLOCKS

#: Milliseconds.
NOW = 1_700_000_000_000
TIMING = Timing(*(round(1000 * CLOCKS[name]) for name in ("lease", "waiter_ttl")))
GRACE, HOLD = 2500, 3_600_000
#: A fence of the model is that far above this one; all are below those that the time makes.
FENCES = NOW * 1000 - 1000
#: As in `state.pml`.
IDLE, VACANT = 100, 101
SCRIPTS = ("acquire", "release", "renew", "attend", "withdraw", "break")


class Server(NamedTuple):
    """The state of the server, as `state.pml` has it."""

    counter: int
    known: int
    fence: int
    number: int
    lease: int
    fresh: int
    serving: int
    heard: int
    grace: int
    judged: int
    queue: tuple[int, ...]
    alive: tuple[int, ...]


class Conformance:
    """The real scripts, for one size of the model.

    Args:
        processes, each: as in `state.pml`.
    """

    def __init__(self, processes: int, each: int) -> None:
        settings = RedisSettings.read(Section({}, "model"))
        self._processes, self._each = processes, each
        self._keys = Keys(settings).of("c")
        self._server = ModelRedis()
        self._scripts = [Scripts(settings, TIMING, f"p{i}", "h:1") for i in range(processes)]
        self._where = self._scripts[0].where

    def differences(self, calls: Iterable[str]) -> Iterator[str]:
        """What the real scripts do otherwise, each with the call."""
        for line in calls:
            words = [int(word) for word in line.split()]
            script, ticket, word, top = words[:4]
            size = 10 + self._processes * self._each + self._processes
            before, said = self._read(words[4 : 4 + size]), words[4 + size : 11 + size]
            after = self._read(words[11 + size :])
            done = self._server.execute(
                NOW, self._written(before), self._command(script, ticket, word, before)
            )
            real = self._abstract(done.state, top)
            told = _told(done.published)
            ours = (self._answer(script, done.answer, top), *told, real)
            ended = SCRIPTS[script] == "break" and said[0] == 1
            wanted = (self._said(script, said), said[6], ended, self._comparable(after))
            if ours != wanted:
                yield f"{SCRIPTS[script]} {ticket} {word} in {before}: {ours}, modelled {wanted}"

    def _read(self, words: Sequence[int]) -> Server:
        tickets = self._processes * self._each
        return Server(*words[:10], tuple(words[10 : 10 + tickets]), tuple(words[10 + tickets :]))

    def _member(self, ticket: int) -> str:
        return f"p{ticket // self._each}.{ticket + 1}-s"

    # -- the state of the model, as keys ----------------------------------------------------------

    def _written(self, state: Server) -> Frozen:
        """The keys that are as the model says."""
        grace = NOW + UNIT * (state.grace - 1) if state.grace > 1 else NOW - 2 * GRACE
        heard = _until(state.heard)
        if state.heard == 1 and state.grace:  # it was over when the grace began, or not
            heard = grace - GRACE if state.judged else min(NOW, grace - GRACE + 1)
        waiters = {f"p{i}": f"{_until(l)} {self._where}" for i, l in enumerate(state.alive) if l}
        if state.heard:
            waiters["heard"] = str(heard)
        if state.grace:
            waiters["grace"] = str(grace)
        queue = {self._member(t): float(number) for t, number in enumerate(state.queue) if number}
        waiters |= {str(number): f"{NOW} {HOLD}" for number in state.queue if number}
        holder = str(FENCES + state.fence)
        if state.serving == VACANT:
            holder += " 0 - 0 0 0 -"
        elif state.serving != IDLE:
            lease = NOW + UNIT * state.lease if state.lease else NOW - UNIT
            member = self._member(state.serving)
            since = lease - TIMING.lease + (UNIT if state.fresh else 0)
            holder += f" {state.number} {member} {lease} {NOW + HOLD} {since} {self._where}"
        values: list[Any] = [str(state.counter) if state.counter else None]
        values += [holder if state.known else None]
        values += [tuple(sorted(each.items())) or None for each in (queue, waiters)]
        pairs = zip(self._keys, values, strict=True)
        return tuple(sorted((key, value, NEVER) for key, value in pairs if value is not None))

    def _command(self, script: int, ticket: int, word: int, state: Server) -> tuple[str, ...]:
        own = self._scripts[ticket // self._each]
        member, fence = self._member(ticket), FENCES + word
        words: tuple[Any, ...] = (
            lambda: own.acquire("c", member, HOLD, number=word),
            lambda: own.release("c", member, fence),
            lambda: own.renew([("c", member, fence)]),
            lambda: own.attend([("c", member)]),
            lambda: own.withdraw("c", member),
            lambda: own.break_turn("c", fence),
        )[script]()
        return tuple(map(str, words))

    # -- what is there afterwards, as the model says it -------------------------------------------

    def _comparable(self, state: Server) -> Server:
        """Without what has no meaning: a judgement of a silence that is not there."""
        judged = state.judged if state.heard and state.grace else 0
        return state._replace(judged=judged, fence=state.fence if state.known else 0)

    def _fence(self, fence: int, top: int) -> int:
        """One that is made of the time is the model's next one."""
        return top + 1 if fence == NOW * 1000 else max(0, fence - FENCES)

    def _abstract(self, data: Frozen, top: int) -> Server:
        found = {key: value for key, value, _ in data}
        counter, holder, queue, waiters = (found.get(key) for key in self._keys)
        fields = dict(waiters or ())
        times = {name: int(text.split()[0]) for name, text in fields.items()}

        def left(name: str) -> int:
            if name not in times:
                return 0
            return 1 + max(0, times[name] - NOW) // UNIT

        judged = int(
            {"heard", "grace"} <= times.keys() and times["grace"] - GRACE >= times["heard"]
        )
        numbers = dict(queue or ())
        words = (holder or "0").split()
        members = [self._member(t) for t in range(self._processes * self._each)]
        serving, number, lease, fresh = IDLE, 0, 0, 0
        if len(words) > 1:
            serving = VACANT if words[2] == "-" else members.index(words[2])
            number, lease = int(words[1]), max(0, int(words[3]) - NOW) // UNIT
            fresh = int(words[2] != "-" and int(words[3]) - int(words[5]) < TIMING.lease)
        names = [f"p{i}" for i in range(self._processes)]
        return Server(
            int(counter or 0), int(holder is not None), self._fence(int(words[0]), top), number,
            lease, fresh, serving, left("heard"), left("grace"), judged,
            tuple(int(numbers.get(member, 0)) for member in members),
            tuple(map(left, names)),
        )  # fmt: skip

    def _answer(self, script: int, answer: Any, top: int) -> tuple[int, ...]:
        """An answer as the variables r_* that count for the script."""
        name = SCRIPTS[script]
        if name == "acquire":
            fence = self._fence(answer[2], top) if answer[0] else 0
            return answer[0], answer[1], fence, answer[3] // UNIT
        if name == "renew":
            return (answer[0][0] // UNIT,)
        if name == "attend":
            missing, left, text = answer[1]
            return missing, max(0, left) // UNIT, _ticket(text)
        if name == "release":
            return int(bool(answer)), _ticket(answer)
        return (answer,)

    def _said(self, script: int, said: Sequence[int]) -> tuple[int, ...]:
        kind, number, fence, left, ticket, missing, _ = said
        return {
            "acquire": (kind, number, fence, left),
            "renew": (left,),
            "attend": (missing, left, ticket),
            "release": (kind, ticket),
        }.get(SCRIPTS[script], (kind,))


def _until(left: int) -> int:
    """When a time is over of which so much is left, as the model counts it."""
    return NOW + UNIT * (left - 1) if left > 1 else NOW - UNIT


def _told(published: Iterable[tuple[str, str]]) -> tuple[int, bool]:
    """The ticket whose grant's bell has rung, and whether one of a broken turn has."""
    texts = [text for _, text in published]
    granted = [text for text in texts if text.startswith("grant")]
    return _ticket(granted[0] if granted else ""), any(t.startswith("broken") for t in texts)


def _ticket(text: Any) -> int:
    """The ticket of a bell in an answer."""
    return int(text.split()[1]) - 1 if isinstance(text, str) and text else NONE
