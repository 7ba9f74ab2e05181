"""The model of Redis, with the scripts of the version before beside ours."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from ticketlock.redis import scripts as lua_scripts

from ...mutation import replaced
from ..redis_model import ModelRedis

#: What the version before does not do: it knows nothing of messages that were submitted.
_BEFORE = [
    ("if id then redis.call('ZADD', queue, number, WAITS .. id) end", ""),
    ("if process == 'inbox' then", "if false then"),
    ("if string.find(member, '.!', 1, true) then redis.call('SET', holder, text)", "if false then"),
    ("return redis.call('PTTL', counter) == -1", "return false"),
]


class InboxRedis(ModelRedis):
    """Executes the scripts of both versions."""

    def __init__(self) -> None:
        super().__init__()
        self._sources: dict[str, str] = {}
        self._old = cache(self._of_old)

    def of_old(self, words: tuple[Any, ...]) -> tuple[Any, ...]:
        """The command as the version before has it."""
        return (words[0], self._old(words[1]), *words[2:])

    def _of_old(self, sha: str) -> str:
        source = lua_scripts.load(self._names[sha]).source
        for old, new in _BEFORE:
            source = replaced(source, old, new, self._names[sha])
        old_sha = hashlib.sha1(source.encode()).hexdigest()
        self._names[old_sha], self._sources[old_sha] = f"old {self._names[sha]}", source
        return old_sha

    def _compile(self, sha: str) -> Any:
        if sha not in self._sources:
            return super()._compile(sha)
        return self._lua.execute(f"return function(KEYS, ARGV)\n{self._sources[sha]}\nend")
