"""A model of one Redis: the commands that the scripts use, over a state that can be frozen.

`test_explorer.py` holds it against a real server, command by command.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, NamedTuple

from lupa import lua51

from ticketlock.locks.concurrent import scripts
from ticketlock.redis import scripts as lua_scripts

#: Milliseconds. What expires later than that never does here, but at the moment `NEVER`: states
#: differ less.
HORIZON = 120_000
NEVER = 10**15

Frozen = tuple[Any, ...]


class Executed(NamedTuple):
    """What a command has done: its answer, the state after it, and (channel, text) of each bell."""

    answer: Any
    state: Frozen
    published: tuple[tuple[str, str], ...]


class ModelRedis:
    """Executes scripts on a frozen state, and remembers what came of it."""

    def __init__(self) -> None:
        self._lua = lua51.LuaRuntime(encoding="latin1", unpack_returned_tuples=False)
        self._table = self._lua.table_from
        self._lua.globals().redis = self._table(
            {
                "call": self._call,
                "pcall": self._call,
                "sha1hex": lambda text: hashlib.sha1(text.encode("latin1")).hexdigest(),
            }
        )
        self._now = 0
        self._data: dict[str, Any] = {}
        self._expires: dict[str, int] = {}
        self._published: list[tuple[str, str]] = []
        # Of this instance: a mutant has scripts of its own.
        self.execute = cache(self._execute)
        self._function = cache(self._compile)
        self._names = {lua_scripts.load(name).sha: name for name in scripts.Scripts.NAMES}

    def _compile(self, sha: str) -> Any:
        source = lua_scripts.load(self._names[sha]).source
        return self._lua.execute(f"return function(KEYS, ARGV)\n{source}\nend")

    def name(self, words: tuple[str, ...]) -> str:
        """The script that a command runs."""
        return self._names[words[1]]

    def _execute(self, now: int, state: Frozen, words: tuple[str, ...]) -> Executed:
        """Run `EVALSHA`, or a plain command, at a moment (milliseconds)."""
        self._thaw(now, state)
        if words[0] == "EVALSHA":
            count = int(words[2])
            keys, args = self._table(words[3 : 3 + count]), self._table(words[3 + count :])
            answer = _converted(self._function(words[1])(keys, args))
        else:
            answer = _converted(self._call(*words))
        return Executed(answer, self._freeze(), tuple(self._published))

    def _thaw(self, now: int, state: Frozen) -> None:
        self._now, self._published = now, []
        alive = [(key, value, end) for key, value, end in state if end == 0 or end > now]
        self._data = {k: v if isinstance(v, str) else dict(v) for k, v, _ in alive}
        self._expires = {key: end for key, _, end in alive if end}

    def _freeze(self) -> Frozen:
        return tuple(
            (
                key,
                value if isinstance(value, str) else tuple(sorted(value.items())),
                self._expires.get(key, 0),
            )
            for key, value in sorted(self._data.items())
        )

    def _call(self, name: str, *args: Any) -> Any:
        words = [_text(word) for word in args]
        answer = getattr(self, "_" + name.lower())(*words)
        return self._table(answer) if isinstance(answer, list) else answer

    # -- keys -------------------------------------------------------------------------------------

    def _time(self) -> list[str]:
        return [str(self._now // 1000), str(self._now % 1000 * 1000)]

    def _get(self, key: str) -> str | bool:
        return self._data.get(key, False)

    def _set(self, key: str, value: str, *options: str) -> str:
        self._data[key] = value
        if options == ("KEEPTTL",):
            return "OK"
        self._expires.pop(key, None)
        if options:
            assert options[0].upper() == "PX", options
            self._pexpire(key, options[1])
        return "OK"

    def _incr(self, key: str) -> int:
        self._data[key] = str(int(self._data.get(key, "0")) + 1)
        return int(self._data[key])

    def _del(self, *keys: str) -> int:
        found = [key for key in keys if self._data.pop(key, None) is not None]
        for key in found:
            self._expires.pop(key, None)
        return len(found)

    def _exists(self, *keys: str) -> int:
        return sum(key in self._data for key in keys)

    def _pexpire(self, key: str, milliseconds: str) -> int:
        if key not in self._data:
            return 0
        soon = int(milliseconds) <= HORIZON
        self._expires[key] = self._now + int(milliseconds) if soon else NEVER
        return 1

    def _persist(self, key: str) -> int:
        return int(self._expires.pop(key, None) is not None)

    def _pttl(self, key: str) -> int:
        if key not in self._data:
            return -2
        return self._expires[key] - self._now if key in self._expires else -1

    def _publish(self, channel: str, text: str) -> int:
        self._published.append((channel, text))
        return 1

    def _drop_empty(self, key: str) -> None:
        if not self._data.get(key, True):
            self._del(key)

    # -- hashes -----------------------------------------------------------------------------------

    def _hset(self, key: str, *pairs: str) -> int:
        fields = self._data.setdefault(key, {})
        before = len(fields)
        fields.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(fields) - before

    def _hget(self, key: str, field: str) -> str | bool:
        return self._data.get(key, {}).get(field, False)

    def _hmget(self, key: str, *fields: str) -> list[str | bool]:
        return [self._hget(key, field) for field in fields]

    def _hgetall(self, key: str) -> list[str]:
        return [word for pair in sorted(self._data.get(key, {}).items()) for word in pair]

    def _hkeys(self, key: str) -> list[str]:
        return sorted(self._data.get(key, {}))

    def _hincrby(self, key: str, field: str, by: str) -> int:
        fields = self._data.setdefault(key, {})
        fields[field] = str(int(fields.get(field, "0")) + int(by))
        return int(fields[field])

    def _hlen(self, key: str) -> int:
        return len(self._data.get(key, {}))

    def _hexists(self, key: str, field: str) -> int:
        return int(field in self._data.get(key, {}))

    def _hdel(self, key: str, *fields: str) -> int:
        found = [self._data.get(key, {}).pop(field, None) for field in fields]
        self._drop_empty(key)
        return len(fields) - found.count(None)

    def _hrandfield(self, key: str, count: str, *values: str) -> list[str]:
        # Not by chance: a search that is repeated must find the same.
        chosen = sorted(self._data.get(key, {}).items())[: abs(int(count))]
        return [word for pair in chosen for word in (pair if values else pair[:1])]

    # -- sorted sets ------------------------------------------------------------------------------

    def _sorted(self, key: str) -> list[tuple[str, float]]:
        return sorted(self._data.get(key, {}).items(), key=lambda pair: (pair[1], pair[0]))

    def _zadd(self, key: str, *words: str) -> int:
        *options, score, member = words
        members = self._data.setdefault(key, {})
        new = member not in members
        if new or options != ["NX"]:
            members[member] = float(score)
        return int(new)

    def _zscore(self, key: str, member: str) -> str | bool:
        score = self._data.get(key, {}).get(member)
        return False if score is None else _text(score)

    def _zcard(self, key: str) -> int:
        return len(self._data.get(key, {}))

    def _zrem(self, key: str, *members: str) -> int:
        found = [self._data.get(key, {}).pop(member, None) for member in members]
        self._drop_empty(key)
        return len(members) - found.count(None)

    def _zpopmin(self, key: str) -> list[str]:
        for member, score in self._sorted(key)[:1]:
            self._zrem(key, member)
            return [member, _text(score)]
        return []

    def _zpopmax(self, key: str) -> list[str]:  # a mutant's
        for member, score in self._sorted(key)[-1:]:
            self._zrem(key, member)
            return [member, _text(score)]
        return []

    def _zrange(self, key: str, start: str, stop: str, *options: str) -> list[str]:
        end = int(stop)
        chosen = self._sorted(key)[int(start) : None if end == -1 else end + 1]
        return [w for m, s in chosen for w in ((m, _text(s)) if options else (m,))]

    def _in_range(self, key: str, low: str, high: str) -> list[str]:
        above, below = (bound.startswith("(") for bound in (low, high))
        least, most = (float(bound.lstrip("(")) for bound in (low, high))
        return [
            member
            for member, score in self._sorted(key)
            if least <= score <= most
            and not (above and score == least)
            and not (below and score == most)
        ]

    def _zrangebyscore(self, key: str, low: str, high: str, *options: str) -> list[str]:
        found = self._in_range(key, low, high)
        if options == ("WITHSCORES",):
            return [w for m in found for w in (m, _text(self._data[key][m]))]
        return found[int(options[1]) : int(options[1]) + int(options[2])] if options else found

    def _zremrangebyscore(self, key: str, low: str, high: str) -> int:
        return self._zrem(key, *self._in_range(key, low, high))

    def _zcount(self, key: str, low: str, high: str) -> int:
        return len(self._in_range(key, low, high))


def _text(word: Any) -> str:
    """A word as Redis writes it: Lua's numbers with 17 digits."""
    if isinstance(word, float):
        return str(int(word)) if word == int(word) and abs(word) < 1e17 else f"{word:.17g}"
    return word if isinstance(word, str) else str(word)


def _converted(value: Any) -> Any:
    """A script's result as Redis hands it out."""
    if lua51.lua_type(value) == "table":
        if value["err"] is not None:
            raise AssertionError(f"a script failed: {value['err']}")
        items: list[Any] = []
        while (item := value[len(items) + 1]) is not None:
            items.append(_converted(item))
        return tuple(items)
    if value is True:
        return 1
    if value is False:
        return None
    return int(value) if isinstance(value, float) else value
