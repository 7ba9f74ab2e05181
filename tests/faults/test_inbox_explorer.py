"""Submitted messages in every order of things, up to a small bound; `make explore` goes further."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from faults.explorer.inbox.bounds import ALONE, COALESCED, LARGE, SAME, SMALL, A, B, Bound
from faults.explorer.inbox.processes import Processes
from faults.explorer.inbox.state import Budget
from faults.mutation import Patch, both, lua, python


@pytest.mark.parametrize("name", SMALL)
def test_all_is_well(name: str) -> None:
    """No order of things within the bound breaks a promise, and all is finished in time."""
    result = SMALL[name].search().run()
    assert not result.found, "\n".join(map(str, result.found))
    assert result.complete, f"{result.states} states were not all"
    assert result.continued >= result.states // 200


class Mutant(NamedTuple):
    """A fault that was there, or could be; where the search finds it, by the promise it breaks."""

    patch: Patch
    bound: Bound
    broken: str


IN_TIME = "all is finished in time"
PLAIN = SMALL["beside plain tickets"]

#: name -> what the search must find
MUTANTS = {
    "a message is stored without its text": Mutant(
        lua("submit", "served and 1 or 0, attempts, 0, whole(since), mode, listeners), "
            "' ' .. id, ARGV[13])",
            "served and 1 or 0, attempts, 0, whole(since), mode, listeners))"),
        SMALL["a crash"], "accepted is kept"),
    "a message that is served is not listed": Mutant(
        lua("submit", "redis.call('ZADD', KEYS[8], whole(now + ARGV[3] + 100), ARGV[11])", ""),
        SMALL["failures"], "what waits is listed"),
    "a message that waits is not listed": Mutant(
        lua("submit", "redis.call('ZADD', KEYS[8], whole(now), ARGV[11])", ""),
        SMALL["no room"], "what waits is listed"),
    "a free conversation is taken for a steady one": Mutant(
        lua("submit", "local steady = waits and member and not ends and",
            "local steady ="),
        SMALL["broken"], "a conversation with a message is not idle"),
    "the counter is lost": Mutant(
        lua("submit", "if number <= tonumber(last[2] or serving or 0) then", "if false then"),
        Bound((A, SAME), Budget(ticks=1, plains=1, looks=1, evicts=1), ALONE),
        "a message is handled once"),
    "any listing will do": Mutant(
        lua("submit", "if ARGV[12] ~= listing then", "if false then"),
        SMALL["a cluster"], "what waits is listed"),
    "a listing is given up whoever made it": Mutant(
        lua("list", "if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[3] then return 0 end", ""),
        SMALL["a cluster"], "what waits is listed"),
    "a listing that is given up is not counted": Mutant(
        lua("take", "redis.call('HINCRBY', KEYS[5], '  listing', 1)", ""),
        SMALL["a cluster"], "what waits is listed"),
    "what is given back counts": Mutant(
        lua("finish", "if ARGV[13] ~= '1' then", "if true then"),
        SMALL["failures"], "attempts are begun"),
    "a repeated begin counts twice": Mutant(
        lua("begin", "if begun ~= fence then", "if true then"),
        Bound((A,), Budget(ticks=2, looks=1, drops=1)), "attempts are begun"),
    "a lost turn's message comes back at a new number": Mutant(
        lua("handoff", "redis.call('ZADD', queue, number, WAITS .. id)",
            "redis.call('ZADD', queue, number + 9, WAITS .. id)"),
        SMALL["broken"], "a message has its place"),
    "a lost turn's message does not come back": Mutant(
        lua("handoff", "if id then redis.call('ZADD', queue, number, WAITS .. id) end", ""),
        SMALL["broken"], "a message has its place"),
    "a message at the head is passed over": Mutant(
        lua("handoff", "if process == 'inbox' then", "if false then"),
        PLAIN, "a message has its place"),
    "a message of a living turn is taken": Mutant(
        lua("take", "if member and not older and tonumber(lease) > now then", "if false then"),
        Bound((A, B), Budget(ticks=2, looks=1)), "mutual exclusion"),
    "a lost turn finishes": Mutant(
        both(lua("finish", "if fence == ARGV[2] and member == ARGV[1] and #ARGV",
                 "if fence and #ARGV"),
             lua("finish", "if fence ~= ARGV[2] or member ~= ARGV[1] then", "if not member then")),
        Bound((A, SAME), Budget(ticks=2, looks=1)), "a ticket has its message"),
    "the counter expires under a message": Mutant(
        lua("submit", "local number = redis.call('INCR', KEYS[1]) redis.call('PERSIST', KEYS[1])",
            "local number = redis.call('INCR', KEYS[1])"),
        SMALL["failures"], "no key expires under a message"),
    "a heartbeat makes keys expire": Mutant(
        lua("renew", "if not has_message(KEYS[k]) then", "if true then"),
        SMALL["interrupted"], "no key expires under a message"),
    "waiting makes keys expire": Mutant(
        lua("attend", "if not lasts then redis.call('PEXPIRE', KEYS[k], ARGV[5]) end",
            "redis.call('PEXPIRE', KEYS[k], ARGV[5])"),
        PLAIN, "no key expires under a message"),
    "keys stay when all is finished": Mutant(
        lua("finish", "redis.call('SET', KEYS[2], fence, 'PX', ARGV[4])"
            "redis.call('PEXPIRE', KEYS[1], ARGV[4])", "redis.call('SET', KEYS[2], fence)"),
        Bound((A, B), Budget()), "nothing is left"),
    "what is refused takes a number": Mutant(
        lua("submit", "then return {-1, behind} end",
            "then redis.call('INCR', KEYS[1]) return {-1, behind} end"),
        SMALL["rejected"], "what is refused is not stored"),
    "who comes back is not counted": Mutant(
        lua("submit", "then behind = behind + 1 end", "then behind = behind end"),
        SMALL["rejected"], "who cannot wait is refused"),
    "a carried ticket leaves at once": Mutant(
        lua("carry", "call = ARGV[4]\n", "call = ARGV[4] redis.call('ZREM', KEYS[2], ticket)\n"),
        SMALL["carried"], "a message has its place"),
    "a stop is told, and not kept": Mutant(
        both(
            lua("submit", "redis.call('HSET', KEYS[4], 'stop', whole(number) .. ' ' .. mode)", ""),
            lua("inbox", "restore_stop(keys.waiters, keys.submitted)", ""),
        ),
        Bound((A, SMALL["interrupted"].messages[1]), Budget(ticks=2, looks=1)),
        "a stop is not lost"),
    "a message whose turn was lost is withdrawn": Mutant(
        lua("revoke", "if granted ~= '0' or", "if false or"),
        SMALL["withdrawn"], "withdrawn means never handled"),
    "a withdrawn message is not known": Mutant(
        lua("submit", "'dxv'", "'dx'"),
        Bound((A,), Budget(drops=1, revokes=1), {"rooms": (0, 1)}),
        "withdrawn means never handled"),
    "a repeated submit does not find its turn": Mutant(
        lua("submit", "return served_before(KEYS[2], KEYS[7], KEYS[4], ARGV[1]) or {3",
            "return {3"),
        SMALL["a lost reply"], IN_TIME),
    "a repeated finish does not find the next turn": Mutant(
        lua("finish", "if begun then return begun end", ""), SMALL["a lost reply"], IN_TIME),
    "nobody waits for a conversation whose holder is gone": Mutant(
        lua("acquire", "if not fence and redis.call('EXISTS', KEYS[3]) == 1 then", "if false then"),
        SMALL["hours"], "in the order of tickets"),
    "a lost turn that raises its fence takes a ticket": Mutant(
        lua("acquire", "if not mine and ARGV[9] ~= '0' and", "if false and"),
        SMALL["fences raised"], "a ticket has its message"),
    "an operator drops messages": Mutant(
        lua("break", "if string.sub(dropped[i], 1, #WAITS) ~= WAITS then", "if true then"),
        SMALL["broken"], "a message has its place"),
    "an operator withdraws a ticket and leaves its message": Mutant(
        lua("withdraw", "or string.sub(member, 1, #WAITS) == WAITS then", "then"),
        SMALL["broken"], "a message has its place"),
    "the mark is not read": Mutant(
        python(Processes, "_claim", "if turn.name in mark", "if False"),
        Bound((A,), Budget(ticks=2, looks=1)), "a message is handled once"),
    "the mark leaves out what was carried": Mutant(
        python(Processes, "_commit", "tracker=(fence, names)", "tracker=(fence, names[:1])"),
        Bound((A, COALESCED), Budget(ticks=2, carries=1, looks=1, crashes=1), ALONE),
        "a message is handled once"),
}  # fmt: skip


@pytest.mark.mutants
@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The search finds the fault, by the promise that it breaks."""
    mutant = MUTANTS[name]
    mutant.patch(monkeypatch)
    result = mutant.bound.search(sample=5).run()
    assert mutant.broken in [found.name for found in result.found], result


def test_large_bounds_are_larger() -> None:
    """A large bound begins, and is not at its end where a small one would be."""
    for bound in LARGE.values():
        assert not bound.search().run(states=300).complete
