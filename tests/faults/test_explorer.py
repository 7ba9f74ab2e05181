"""The protocol in every order of things, up to a small bound; `make explore` goes further."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import pytest
import redis
from faults.explorer import client
from faults.explorer.bounds import LARGE, SMALL, Bound
from faults.explorer.client import modelled
from faults.explorer.redis_model import ModelRedis
from faults.explorer.search import Search
from faults.explorer.world import Budget
from faults.mutation import Patch, both, lua, python, wrapped
from faults.test_mutants import MINE_TOO_EARLY

from ticketlock.locks.concurrent.engine import Engine
from ticketlock.locks.concurrent.queue import RedisQueue
from ticketlock.redis.embedded import EmbeddedRedis


@pytest.fixture
def model() -> Iterator[None]:
    """Without the garbage collector: it would go through all states again and again, in vain."""
    gc.disable()
    try:
        with modelled():
            yield
    finally:
        gc.enable()


@pytest.mark.parametrize("name", SMALL)
def test_all_is_well(model: None, name: str) -> None:
    """No order of things within the bound breaks a promise."""
    bound = SMALL[name]
    result = Search(bound.clients, bound.budget, **bound.options).run()
    assert not result.found, "\n".join(map(str, result.found))
    assert result.complete, f"{result.states} states were not all"
    assert result.continued >= result.states // 200


class Mutant(NamedTuple):
    """A fault that was there, or could be.

    Attributes:
        patch: what makes it.
        bound: where the search finds it.
        broken: the invariant that it breaks.
    """

    patch: Patch
    bound: Bound
    broken: str


def from_one_again(original: Any, self: Engine, *args: Any) -> None:
    """Each use of a store counts its requests anew."""
    client._current.requests = count(1)
    original(self, *args)


#: name -> what the search must find
MUTANTS = {
    "two are granted": Mutant(
        lua("acquire", "if not waits then", "if true then"),
        Bound(2, Budget()), "mutual exclusion"),
    "last in, first out": Mutant(
        both(lua("handoff", "'ZPOPMIN'", "'ZPOPMAX'"), lua("release", "'ZPOPMIN'", "'ZPOPMAX'")),
        Bound(3, Budget()), "first in, first out"),
    "the fence does not grow": Mutant(
        lua("handoff", "math.max(tonumber(fence) + 1, micros)", "tonumber(fence)"),
        Bound(2, Budget()), "fence growth"),
    "a release that comes late ends the next turn": Mutant(
        lua("release", "if member ~= ARGV[1] then", "if not member then"),
        Bound(2, Budget(drops=1, lates=1)), "no turn is lost in no time"),
    "a dead holder stays": Mutant(
        lua("attend", "not member or tonumber(lease) <= now", "not member"),
        Bound(2, Budget(crashes=1)), "all comes to rest"),
    "a message is handled again": Mutant(
        lua("admit", "if state == 'd' then", "if false then"),
        SMALL["one message"], "a message is handled once"),
    "a repeated acquire that grants queues again": Mutant(
        both(*MINE_TOO_EARLY), SMALL["a lost reply, and time"], "one ticket a member"),
    "the number of a late grant is forgotten": Mutant(
        python(Engine, "_serve", "waiter.number = number", "pass"),
        SMALL["answers read late"], "no stranded waiter"),
    "requests have the numbers of another use": Mutant(
        wrapped(Engine, "__init__", from_one_again),
        SMALL["closed and used again"], "nothing is forgotten"),
    "a store that closes takes tickets": Mutant(
        python(RedisQueue, "live", "if engine.closed:", "if False:"),
        Bound(1, Budget(turns=2, closes=1)), "nothing is forgotten"),
}  # fmt: skip


@pytest.mark.mutants
@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_found(model: None, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The search finds the fault, by the invariant that it breaks."""
    mutant = MUTANTS[name]
    mutant.patch(monkeypatch)
    bound = mutant.bound
    result = Search(bound.clients, bound.budget, sample=5, **bound.options).run()
    assert mutant.broken in [found.name for found in result.found], result


def test_large_bounds_are_larger(model: None) -> None:
    """A large bound begins, and is not at its end where a small one would be."""
    for bound in LARGE.values():
        result = Search(bound.clients, bound.budget, **bound.options).run(states=300)
        assert not result.complete


def _commands(chance: random.Random) -> Iterator[tuple[str, ...]]:
    """Commands of the scripts, with words that meet."""
    while True:
        string, fields, scores = (f"{kind}{chance.randrange(2)}" for kind in "sfz")
        one, two = (chance.choice("abc") for _ in range(2))
        low, high = sorted(chance.randrange(5) for _ in range(2))
        yield chance.choice(
            [
                ("SET", string, str(low)), ("SET", string, str(low), "PX", "50000"),
                ("GET", string), ("INCR", string), ("DEL", string, fields, scores),
                ("EXISTS", string, fields), ("PEXPIRE", string, "50000"), ("PERSIST", string),
                ("HKEYS", fields), ("HINCRBY", fields + "n", one, str(low)),
                ("HSET", fields, one, str(low)), ("HSET", fields, one, "1", two, "2"),
                ("HGET", fields, one), ("HMGET", fields, one, two), ("HDEL", fields, one, two),
                ("HEXISTS", fields, one), ("HLEN", fields), ("HRANDFIELD", fields, "9"),
                ("ZADD", scores, str(low), one), ("ZADD", scores, "NX", str(low), one),
                ("ZREMRANGEBYSCORE", scores, "-inf", str(low)), ("ZSCORE", scores, one), ("ZCARD", scores),
                ("ZREM", scores, one, two), ("ZPOPMIN", scores), ("ZRANGE", scores, "0", str(low)),
                ("ZRANGE", scores, "0", "-1", "WITHSCORES"),
                ("ZRANGEBYSCORE", scores, str(low), str(high)),
                ("ZRANGEBYSCORE", scores, "-inf", str(high), "LIMIT", "0", "1"),
                ("ZCOUNT", scores, str(low), str(high)),
            ]
        )  # fmt: skip


def test_the_model_is_redis(own_redis: EmbeddedRedis) -> None:
    """The model answers as the server does, command by command."""
    model, state = ModelRedis(), ()
    seed = random.randrange(10**6)
    script = "return redis.call(unpack(ARGV))"
    with redis.Redis.from_url(own_redis.url, decode_responses=True) as server:
        for number, words in enumerate(_commands(random.Random(seed))):
            executed = model.execute(0, state, words)
            state = executed.state
            theirs = server.eval(script, 0, *words)
            ours = list(executed.answer) if isinstance(executed.answer, tuple) else executed.answer
            if words[0] in ("HRANDFIELD", "HKEYS"):  # in no order
                ours, theirs = sorted(ours), sorted(theirs)
            assert ours == theirs, f"seed {seed}, command {number}: {words}"
            if number == 2000:
                return
