"""Seeded mutants: each breaks the protocol in one place, and the named story must notice.

A story that passes on a mutant proves nothing; then this test fails.
"""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from faults.mutation import Patch, both, expect_noticed, function, lua, method, python, wrapped
from faults.test_protocol import SCENARIOS

from ticketlock import LockError
from ticketlock.locks import deadlines
from ticketlock.locks.concurrent import duplicates, engine, heartbeat, requests, scripts
from ticketlock.locks.concurrent.queue import RedisQueue
from ticketlock.redis import commands, link
from ticketlock.redis.embedded import EmbeddedRedis


async def asleep(*_: object) -> None:
    """Waits for ever."""
    await asyncio.Event().wait()


def nothing(*_: object, **__: object) -> None:
    """Replaces a step that must not be left out."""


def drop_unanswered(original: Any, self: link.Link, error: BaseException | None) -> None:
    """A broken connection that forgets what was on its way."""
    for command in self._sent:
        if not command.future.done():
            command.future.set_exception(LockError("lost"))
    self._sent.clear()
    original(self, error)


def bells_of_a_beat(original: Any, self: Any, lost: Any, seen: Any, stops: Any) -> None:
    original(self, lost, [row._replace(bell=b"") for row in seen], stops)


def no_returns(original: Any, self: Any, lost: Any, seen: Any, stops: Any) -> None:
    original(self, lost, [row._replace(missing=False) for row in seen], stops)


def nothing_lost(original: Any, self: Any, lost: Any, seen: Any, stops: Any) -> None:
    original(self, [], seen, stops)


def no_stops(original: Any, self: Any, lost: Any, seen: Any, stops: Any) -> None:
    original(self, lost, seen, [])


def at_the_tail(original: Any, self: Any, waiter: Any, **options: int) -> Any:
    return original(self, waiter, **{**options, "number": 0})


def from_the_answer(original: Any, self: Any, command: Any, answer: Any) -> Any:
    command.sent_at = engine.clock()
    return original(self, command, answer)


def backwards(original: Any, self: commands.InTransit, unsent: deque[commands.Command]) -> Any:
    """Parts of one call in the wrong order."""
    parts: list[commands.Command] = []
    while unsent and unsent[0].packed is None and len(parts) < commands.MAX_JOINED:
        parts.append(unsent.popleft())
    unsent.extendleft(parts)  # which turns them round
    return original(self, unsent)


def from_one_again(original: Any, self: engine.Engine, *args: Any) -> None:
    """Each use of a store counts its requests anew."""
    engine._requests = count(1)
    original(self, *args)


def answered_only(original: Any, self: engine.Engine) -> list[tuple[str, str]]:
    """Tickets whose answer is not read are not attended."""
    known = {waiter.member for waiter in self._waiting.values() if waiter.number >= 0}
    return [pair for pair in original(self) if pair[1] in known]


def unsubscribed(original: Any, self: Any) -> Any:
    return [command for command in original(self) if command[0] != "SUBSCRIBE"]


#: `mine` is what acquire found before it granted the caller's own waiting ticket.
MINE_TOO_EARLY = (
    lua("acquire", "mine = member == ARGV[1]", ""),
    lua("acquire", "if member and tonumber(lease) <= now then",
        "mine = member == ARGV[1] and tonumber(lease) > now "
        "if member and tonumber(lease) <= now then"),
)  # fmt: skip

#: name -> (what is broken, the story that must notice)
MUTANTS: dict[str, tuple[Patch, str]] = {
    # -- the scripts
    "acquire ignores the holder": (
        lua("acquire", "if not waits then", "if true then"), "exclusive"),
    "fence is not minted at hand-off": (
        lua("handoff", "math.max(tonumber(fence) + 1, micros)", "tonumber(fence)"), "fifo"),
    "fence is a counter only": (
        lua("acquire", "ARGV[9] + 1, micros)", "ARGV[9] + 1)"), "fences_outlive_a_flush"),
    "floor is ignored": (
        lua("acquire", "ARGV[9] + 1, ", ""), "a_floor_raises_the_fence"),
    "last in, first out": (
        both(lua("handoff", "'ZPOPMIN'", "'ZPOPMAX'"), lua("release", "'ZPOPMIN'", "'ZPOPMAX'")),
        "fifo"),
    "repeated acquire queues again": (
        lua("acquire", "queued = waits and redis.call('ZSCORE', KEYS[3], ARGV[1])",
            "local queued = false"),
        "a_repeated_acquire_is_one_ticket"),
    "repeated acquire waits for itself": (
        lua("acquire", "mine = member == ARGV[1]", "mine = false"), "a_repeated_acquire_is_one_ticket"),
    "repeated acquire that grants queues again": (
        both(*MINE_TOO_EARLY), "a_repeated_acquire_that_grants_is_one_ticket"),
    "acquire leaves a dead holder to others": (
        lua("acquire", "if member and tonumber(lease) <= now then", "if false then"), "a_crash_does_not_block_who_will_not_wait"),
    "those who stood still are dead": (
        lua("handoff", "if heard > 0 and heard <= now and grace - GRACE < heard then", "if false then"),
        "troubles_one_after_another_keep_the_order"),
    "those who stood still are waited for too shortly": (
        lua("handoff", "GRACE = 2500", "GRACE = 1500"), "troubles_one_after_another_keep_the_order"),
    "turns that nobody heard of are lost": (
        lua("returning", "if grace_left(waiters, now) == 0 then", "if true then"),
        "a_turn_handed_on_before_a_standstill_keeps_its_place"),
    "only heartbeats say that a process was heard": (
        lua("acquire", "if not queued and (ahead == 1 or", "if false and (ahead == 1 or"),
        "troubles_one_after_another_keep_the_order"),
    "a turn that runs out unheard is lost": (
        both(lua("attend", "if first == member then", "if false then"),
             lua("acquire", "if member == ARGV[1] and ARGV[9] == '0' then", "if false then")),
        "a_turn_that_runs_out_unheard_keeps_its_place"),
    "a silence outlives its queue": (
        lua("handoff", "redis.pcall('DEL', waiters)", ""), "dead_waiters_leave_nothing"),
    "no bell": (lua("handoff", "redis.call('PUBLISH', bell .. process, text)", ""),
                "hand_off_is_pushed"),
    "renew resurrects": (
        lua("renew", " and tonumber(lease) > now", ""), "a_lapsed_lease_stays_lapsed"),
    "renew does not extend": (
        lua("renew", "lease = math.min(now + ARGV[1], hold)", "lease = tonumber(lease)"),
        "a_long_hold_is_renewed"),
    "release without fence match": (
        both(lua("release", "if member ~= ARGV[1] then", "if not fence then"),
             lua("release", "if fence ~= ARGV[2] then released = 0 end", "")),
        "a_dead_holder_is_succeeded"),
    "release does not hand on": (
        lua("release", "return grant_next(",
            "redis.call('SET', KEYS[1], fence, 'PX', ARGV[5]) do return 1 end return grant_next("),
        "hand_off_is_pushed"),
    "dead waiters are granted": (
        lua("handoff", "if alive and tonumber(alive) > now then", "if true then"),
        "a_dead_waiter_is_skipped_when_long_dead"),
    "live waiters are evicted": (
        lua("handoff", "if alive and tonumber(alive) > now then",
            "if alive and tonumber(alive) > now + 800 then"), "fifo_under_slow_heartbeats"),
    "attend takes nothing over": (
        lua("attend", "not member or tonumber(lease) <= now", "not member"),
        "a_dead_holder_is_succeeded"),
    "attend takes over from the living": (
        lua("attend", "tonumber(lease) <= now", "tonumber(lease) <= now + 60000"),
        "a_live_waiter_is_not_skipped"),
    "attend hides a missing ticket": (
        lua("attend", "not redis.call('ZSCORE', queue, first) and 1 or 0", "0"),
        "a_skipped_waiter_returns_to_its_place"),
    "attend asks for liveness only": (
        lua("attend", "not redis.call('ZSCORE', queue, first)",
            "not redis.call('HGET', waiters, process)"), "a_lost_answer_loses_no_place"),
    "bare tickets live a lease": (
        lua("handoff", "lease = hold\n", "lease = lease\n"), "a_bare_ticket_lives_its_lifetime"),
    "the dead are dropped slowly": (
        lua("attend", "left, text = again or left,", "left, text = left,"),
        "a_thousand_dead_waiters"),
    "withdraw drops a raced grant": (
        lua("withdraw", "local found = fence and (member", "local found = false and (member"),
        "a_cancelled_grant_is_handed_on"),
    "withdraw leaves the ticket": (
        lua("withdraw", "redis.call('ZREM', KEYS[2], member)", ""),
        "a_cancelled_waiter_leaves_the_queue"),
    "queue limit is off by one": (
        lua("acquire", "waiting >= tonumber(ARGV[8])", "waiting > tonumber(ARGV[8])"),
        "a_full_queue_refuses"),
    "counter never expires": (
        lua("acquire", "redis.call('PEXPIRE', KEYS[1], ARGV[7])", ""), "nothing_is_left"),
    "break tells nobody": (
        lua("break", "if process then", "if false then"), "a_break_tells_the_holder"),
    "returning at an old number forgets the counter": (
        lua("acquire", "redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')", ""), "waiters_outlive_a_flush"),
    "one failure fails all": (
        lua("batch", "local out = {}",
            "local out, pcall = {}, function(f, ...) return true, f(...) end"),
        "a_spoilt_conversation_spoils_no_other"),
    # -- the scripts of messages
    "duplicates get a ticket": (
        lua("admit", "if not mine and had(", "if false and had("), "a_duplicate_gets_no_turn"),
    "a reply is not found": (
        lua("admit", "if state == 'd' then", "if false then"), "a_duplicate_gets_no_turn"),
    "the dead keep their messages": (
        lua("messages", "if serving == member then return tonumber(lease) > now end",
            "if serving == member then return true end"), "a_message_of_a_dead_turn_is_handled"),
    "dead waiters keep their messages": (
        lua("messages", "return alive and tonumber(alive) > now", "return true"),
        "a_message_of_a_dead_waiter_is_handled"),
    "anybody answers": (
        lua("answer", "local ours = owner == ARGV[1] or", "local ours = true or"), "a_stale_turn_cannot_answer"),
    "nobody is told of a reply": (
        lua("answer", "ring(ARGV[3], process, secret, tag, 'answered ' .. request)", ""),
        "a_reply_comes_without_polling"),
    "carried tickets are served too": (
        lua("answer", "redis.call('ZREM', KEYS[2], ticket)", ""),
        "carried_messages_are_handled_once"),
    "a lost turn answers for what it had carried": (
        lua("answer", "if ours and (not carried or waits or serving == ARGV[1]) then", "if ours then"),
        "a_lost_turn_answers_for_no_message_whose_own_turn_has_begun"),
    "all are carried": (
        lua("collect", "if state == 'c' and owner == ticket then", "if state then"),
        "carried_messages_are_handled_once"),
    "carried tickets leave the queue at once": (
        lua("collect", "carried[#carried + 1] = id", "carried[#carried + 1] = id\n"
            "    redis.call('ZREM', KEYS[2], ticket)"),
        "a_carried_message_without_a_reply_keeps_its_place"),
    "nobody is asked to stop": (
        lua("supersede", "if process then", "if false then"), "those_before_are_asked_to_stop"),
    "those to come are not asked to stop": (
        lua("handoff", "if stop and", "if false and"), "those_before_are_asked_to_stop"),
    "those behind are asked to stop": (
        lua("handoff", "tonumber(stop) > tonumber(head[2])", "true"),
        "those_before_are_asked_to_stop"),
    # -- the client
    "the number of a late grant is forgotten": (
        both(python(engine.Engine, "_serve", "waiter.number = number", "pass"),
             wrapped(engine.Engine, "attended", answered_only)),
        "a_grant_read_late_is_had"),
    "the number of a late grant is not told": (
        python(engine.Engine, "_serve", "waiter.number = number", "pass"),
        "a_ticket_read_late_is_one"),
    "requests have the numbers of another use": (
        wrapped(engine.Engine, "__init__", from_one_again), "a_late_exit_ends_no_other_turn"),
    "waiters have the numbers of another use": (
        wrapped(engine.Engine, "__init__", from_one_again), "a_late_exit_forgets_no_waiter"),
    "a store that closes takes tickets": (
        python(RedisQueue, "live", "if engine.closed:", "if False:"),
        "a_store_being_closed_takes_no_ticket"),
    "duplicates do not look": (
        function(duplicates, "until_set", asleep), "a_reply_whose_bell_is_lost_comes"),
    "heartbeats tell of no stop": (
        wrapped(engine.Engine, "on_heartbeat", no_stops), "a_lost_bell_hides_no_stop"),
    "waiters are not attended": (
        method(engine.Engine, "attended", lambda self: []), "a_live_waiter_is_not_skipped"),
    "no heartbeat": (
        method(heartbeat.Heartbeat, "_beat", nothing), "a_long_hold_is_renewed"),
    "lost is not acted on": (
        wrapped(engine.Engine, "on_heartbeat", nothing_lost), "fences_outlive_a_flush"),
    "deadline is not watched": (
        method(deadlines.DeadlineWatch, "_look", nothing), "a_frozen_heartbeat_is_noticed"),
    "deadline counts from the answer": (
        wrapped(engine.Engine, "_answered", from_the_answer),
        "the_deadline_counts_from_the_sending"),
    "no look behind the bell": (
        wrapped(engine.Engine, "on_heartbeat", bells_of_a_beat), "a_lost_bell_costs_a_second"),
    "not subscribed": (
        wrapped(scripts.Scripts, "prologue", unsubscribed), "hand_off_is_pushed"),
    "no return to the queue": (
        wrapped(engine.Engine, "on_heartbeat", no_returns), "waiters_outlive_a_flush"),
    "return at the tail": (
        wrapped(requests.Requests, "acquire", at_the_tail), "a_skipped_waiter_returns_to_its_place"),
    "cancelled waiter stays": (
        method(engine.Engine, "withdraw", nothing), "a_cancelled_waiter_leaves_the_queue"),
    "calls are shared backwards": (
        wrapped(commands.InTransit, "_join", backwards), "order_within_a_tick"),
    "unanswered commands are dropped": (
        wrapped(link.Link, "_drop", drop_unanswered), "a_broken_connection_loses_nothing"),
}  # fmt: skip


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant(
    mutant: str,
    own_redis: EmbeddedRedis,
    run: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The story notices the mutant by one of its own assertions."""
    patch, story = MUTANTS[mutant]
    patch(monkeypatch)
    with warnings.catch_warnings():
        # A story that fails halfway does not close what it has opened.
        warnings.simplefilter("ignore", ResourceWarning)
        expect_noticed(lambda: run(SCENARIOS[story](own_redis), 30))
        gc.collect()
