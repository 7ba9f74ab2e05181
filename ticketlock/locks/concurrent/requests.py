"""The calls of acquires and releases, several in one call, as the bytes that are sent.

Most of such a call is the same each time, and the driver takes 1,400 instructions for each word.
So what does not change is made once, and the keys of a conversation once for several turns. A process
that has more conversations than are kept makes them for each call, from what they have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ..grant import Grant
from ..waiter import Waiter
from .scripts import Scripts

#: Conversations whose keys are kept as they are sent, and characters of the longest id of one: each
#: stands in four keys. In all 10 MB with UUIDs, 42 MB at most.
_KEPT, _LONGEST = 16384, 80


def bulk(*words: object) -> str:
    """Words as they are sent, without their number in front."""
    texts = map(str, words)
    return "".join([f"${len(text.encode())}\r\n{text}\r\n" for text in texts])


class Requests:
    """The calls of waiters, to acquire, and of grants, to release; several in one call.

    Args:
        margin: seconds by which the engine gives a turn up before the server does.
    """

    def __init__(self, scripts: Scripts, margin: float) -> None:
        self._scripts = scripts
        self._margin = margin
        self._kept_keys = lru_cache(_KEPT)(self._keys_of)
        base = len(scripts.keys.base(""))
        self._ends = [(len(key) - base, f"{key[base:]}\r\n") for key in scripts.keys.of("")]
        self._word = lru_cache(64)(bulk)  # of the few numbers that come again and again
        # Cut at their keys, member, hold and most waiting, or fence.
        words = scripts.acquire("", "", 0)
        self._acquire = bulk(*words[:3]), bulk(*words[8:12]), bulk(words[13]), bulk(*words[15:])
        words = scripts.release("", "", 0)
        self._release = bulk(*words[:3]), bulk(*words[8:])
        words = scripts.batch((), ())
        self._batch = bulk(*words[:2]), bulk(*words[3:])

    def packed(self, subjects: Sequence[Waiter | Grant]) -> bytes:
        """One call for all of them; a single one gets its own script."""
        if len(subjects) > 1:
            return self._pack_batch(subjects)
        (subject,) = subjects
        counter, others = self._keys(subject.conversation_id)
        member = subject.member  # ASCII, as is its label
        if isinstance(subject, Grant):
            head, tail = self._release
            fence = str(subject.fence)
            text = f"*11\r\n{head}{others}${len(member)}\r\n{member}\r\n${len(fence)}\r\n{fence}\r\n{tail}"
        else:
            head, middle, idle, tail = self._acquire
            hold, most = self._word(self.hold(subject.lock_lifetime)), self._word(_most(subject))
            text = (
                f"*17\r\n{head}{counter}{others}${len(member)}\r\n{member}\r\n"
                f"{middle}{hold}{idle}{most}{tail}"
            )
        return text.encode()

    def _pack_batch(self, subjects: Sequence[Waiter | Grant]) -> bytes:
        head, common = self._batch
        keys: list[str] = []
        args: list[str] = []
        for subject in subjects:
            keys += self._keys(subject.conversation_id)
            member = subject.member
            if isinstance(subject, Grant):
                fence = str(subject.fence)
                args.append(f"${len(member)}\r\n{member}\r\n${len(fence)}\r\n{fence}\r\n$0\r\n\r\n")
            else:
                hold = self._word(self.hold(subject.lock_lifetime))
                args.append(f"${len(member)}\r\n{member}\r\n{hold}{self._word(_most(subject))}")
        count = len(subjects)
        counted = self._word(4 * count)
        text = f"*{8 + 7 * count}\r\n{head}{counted}{''.join(keys)}{common}{''.join(args)}"
        return text.encode()

    def _keys(self, conversation_id: str) -> tuple[str, str]:
        make = self._kept_keys if len(conversation_id) <= _LONGEST else self._keys_of
        return make(conversation_id)

    def _keys_of(self, conversation_id: str) -> tuple[str, str]:
        """The keys as they are sent: the counter, which a release does not need, and the others."""
        base = self._scripts.keys.base(conversation_id)
        size = len(base) if base.isascii() else len(base.encode())
        counter, *others = [f"${size + more}\r\n{base}{end}" for more, end in self._ends]
        return counter, "".join(others)

    def alone(self, subject: Waiter | Grant) -> tuple[Any, ...]:
        """A call for one, by its words."""
        if isinstance(subject, Grant):
            return self._scripts.release(subject.conversation_id, subject.member, subject.fence)
        return self.acquire(subject, max_waiting=_most(subject))

    def acquire(self, waiter: Waiter, **options: int) -> tuple[Any, ...]:
        """Acquire, after a look at the waiter's message if it has one."""
        hold = self.hold(waiter.lock_lifetime)
        args = self._scripts.acquire(waiter.conversation_id, waiter.member, hold, **options)
        if waiter.incoming is None:
            return args
        return self._scripts.admit(args, waiter.conversation_id, waiter.incoming)

    def hold(self, lock_lifetime: float) -> int:
        """Milliseconds after which the server ends a turn of that many seconds."""
        # The lifetime ends here first, and at the server only if we are frozen then.
        return round(1000 * (lock_lifetime + 2 * self._margin))


def _most(waiter: Waiter) -> int:
    """Most tickets that may wait before it."""
    if waiter.wait_timeout == 0:
        return 0
    return -1 if waiter.max_waiting is None else waiter.max_waiting
