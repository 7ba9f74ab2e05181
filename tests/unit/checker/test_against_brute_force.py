"""The checker against judges by brute force, and mutants of it that they notice."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from faults.brute_force import Found, by_pairs, possible
from faults.mutation import Patch, python
from faults.random_histories import Small, firm_behind_early
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketlock.checker import VIOLATIONS, History, check, messages, turns
from ticketlock.checker.check import _Excuses

#: Seconds; turns of the random histories take ten.
LEASE, BOUND = 4.0, 20.0
#: Histories by which mutants are found.
SEEDS = 4500
#: What makes an order of grants impossible, and an order of messages.
OF_GRANTS = {"overlap", "overtaken", "fence_order"}


def checked(history: History) -> tuple[Found, Found]:
    verdict = check(history, lease=LEASE, wait_bound=BOUND)
    broken = {(one.kind, id(one.operation)) for one in verdict.violations}
    return broken, {(one.kind, id(one.operation)) for one in verdict.forgotten}


@given(st.randoms(use_true_random=False))
@settings(max_examples=500)
def test_it_finds_what_brute_force_finds_and_nothing_else(chance: Random) -> None:
    history = Small(chance).make()
    assert checked(history) == by_pairs(history, LEASE, BOUND)


@given(st.randoms(use_true_random=False))
@settings(max_examples=500)
def test_a_history_is_bad_where_no_order_explains_it(chance: Random) -> None:
    history = Small(chance).make()
    history.faults.clear()
    found = {kind for kind, _ in checked(history)[0]}
    granted = [one for one in history.operations if one.kind == "acquire" and one.outcome == "ok"]
    fences = {one.fence is None for one in granted}
    grants, queues = possible(history)
    assert queues == ("out_of_order" not in found)
    if len(fences) < 2:  # where only some have fences, these are judged apart from the order
        assert grants == found.isdisjoint(OF_GRANTS)


def test_the_histories_are_of_all_kinds() -> None:
    """Each violation often, also excused; and many histories without any."""
    broken, excused, well = set[str](), set[str](), 0
    for seed in range(SEEDS):
        both = by_pairs(Small(Random(seed)).make(), LEASE, BOUND)
        broken |= {kind for kind, _ in both[0]}
        excused |= {kind for kind, _ in both[1]}
        well += both == (set(), set())
    assert broken == set(VIOLATIONS)
    assert excused == set(VIOLATIONS) - {"fence_order", "stale_write", "long_wait"}
    assert SEEDS / 5 < well < SEEDS * 4 / 5


#: name -> what is broken in the checker
MUTANTS: dict[str, Patch] = {
    "only the turn before is compared": python(
        turns, "overlaps", "if longest is None or holding.until > longest.until:", "if True:"),
    "turns that touch overlap": python(
        turns, "overlaps", "one.until > holding.since", "one.until > holding.since - 1"),
    "a lease has no end": python(
        turns, "holdings", "holding.lease = max(known, one.lease_until)", "pass"),
    "a lease of before is kept": python(
        turns, "holdings", "known = -math.inf if math.isinf(holding.lease) else holding.lease",
        "known = holding.lease"),
    "a grant is enough to hold for ever": python(
        turns, "holdings", "Holding(one, one.completed, lease(one))",
        "Holding(one, math.inf, lease(one))"),
    "a refused acquire is a grant": python(
        turns, "holdings", 'if one.outcome == "ok":', 'if one.outcome != "fail":'),
    "writes do not show that a turn is held": python(
        turns, "holdings", '("write", "release", "finish")', '("release", "finish")'),
    "turns are ordered by time alone": python(
        turns, "holdings", "_by_fence if fenced else _by_time", "_by_time"),
    "the place is that of the call": python(
        turns, "overtaken", "latest.invoked > grant.arrived", "latest.invoked > grant.invoked"),
    "the dead have a place": python(turns, "overtaken", "and living(grant)", ""),
    "only the last one overtakes": python(
        turns, "overtaken", "if latest is None or grant.invoked > latest.invoked:", "if True:"),
    "the same fence twice": python(turns, "fences", "if same is not grant:", "if same is highest:"),
    "fences are not compared": python(
        turns, "fences", "(highest.fence or 0) > (grant.fence or 0)", "False"),
    "a write is compared with those beside it": python(
        turns, "_before", "following.completed < one.invoked", "following.invoked < one.invoked"),
    "only the write before is compared": python(
        turns, "_before", "if highest is None or rank(following) > rank(highest):", "if True:"),
    "only the write before it in the store": python(
        turns, "_in_store", "if highest is None or rank(one) > rank(highest):", "if True:"),
    "the order of the store is not read": python(
        turns, "stale_writes", "_in_store if positioned else _before", "_before"),
    "writes without a fence are let be": python(
        turns, "stale_writes", "_ranks(operations, ordered)", "{}"),
    "a write is of a turn that was left": python(
        turns, "_ranks", "turn.pop(one.process, None)", "pass"),
    "refused writes count": python(
        turns, "stale_writes", 'and one.outcome == "ok"', ""),
    "a wait ends with the history": python(
        turns, "long_waits", "until - one.invoked > bound", "one.completed - one.invoked > bound"),
    "the dead wait": python(turns, "long_waits", "and living(one)", ""),
    "what may be finished is lost": python(
        messages, "lost", "and not message.doubtful", ""),
    "what is finished twice is well": python(
        messages, "duplicated", "message.finished[1:]", "message.finished[2:]"),
    "what was not accepted counts": python(
        messages, "messages", 'or one.outcome == "fail"', ""),
    "doubtful submissions are late": python(
        messages, "messages", "message.earliest = min(message.earliest, one.invoked)",
        "message.earliest = min(message.earliest, one.completed)"),
    "messages beside each other have an order": python(
        messages, "out_of_order", "latest.earliest > submitted.completed",
        "latest.earliest > submitted.invoked"),
    "only the message finished before is compared": python(
        messages, "out_of_order", "if latest is None or following.earliest > latest.earliest:",
        "if True:"),
    "finishes beside each other have an order": python(
        messages, "out_of_order", "following.finished[0].completed < finish.invoked",
        "following.finished[0].invoked < finish.invoked"),
    "a doubtful finish counts": python(messages, "out_of_order", "or message.doubtful", ""),
    "stale writes are excused": python(
        _Excuses, "forgot", '("fence_order", "stale_write", "long_wait")',
        '("fence_order", "long_wait")'),
    "an overlap is excused for ever": python(
        _Excuses, "forgot", "and violation.until <= loss.until + self._lease", ""),
    "an overlap is excused before the loss": python(
        _Excuses, "forgot", "loss.since <= violation.since and", ""),
    "a loss that is over excuses": python(
        _Excuses, "forgot", "and loss.until >= violation.since", ""),
    "a worker's fault is not its tasks'": python(
        _Excuses, "_beside", "{one.process, worker}", "{one.process}"),
    "all faults lose data": python(
        _Excuses, "__init__", "fault.process is None and fault.loses", "fault.process is None"),
    "a loss excuses conversations of other servers": python(
        _Excuses, "forgot", "or violation.conversation in loss.conversations", "or True"),
    "a fault that is over troubles": python(
        _Excuses, "_beside", "and fault.until >= one.invoked", ""),
    "what is durable may be lost": python(
        _Excuses, "forgot", "if not loss.durable", ""),
    "nothing of a loss is explained where what is durable is kept": python(
        _Excuses, "_unwaited", 'kind == "overtaken"', "False"),
    "a renewed turn is durable": python(
        _Excuses, "_unwaited", "or turns.lease(against) < violation.since", ""),
    "what a process was told early is durable": python(
        _Excuses, "unconfirmed", "self._beside(one, loses=True)", "False"),
    "a turn that was told early takes no mark": python(
        _Excuses, "_unwaited", "fault.since <= violation.until", "False"),
    "who was told early was in trouble": python(
        _Excuses, "__init__", "self._of[fault.process, fault.loses]", "self._of[fault.process, False]"),
    "only the longest turn overlaps": python(
        turns, "overlaps", "(longest, firmest)", "(longest,)"),
    "a turn is firm while it is renewed": python(
        turns, "overlaps", "min(holding.until, lease(grant))", "holding.until"),
    "a turn is firm though it was told early": python(
        turns, "overlaps", "-math.inf if unconfirmed(grant) else", ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def judged() -> list[tuple[History, tuple[Found, Found]]]:
    """Histories and what is wrong with them."""
    histories = [Small(Random(seed)).make() for seed in range(SEEDS)] + [firm_behind_early()]
    return [(history, by_pairs(history, LEASE, BOUND)) for history in histories]


def _unlike(judged: list[tuple[History, tuple[Found, Found]]]) -> Iterator[History]:
    return (history for history, wanted in judged if checked(history) != wanted)


def test_the_checker_itself_is_like_brute_force(
    judged: list[tuple[History, tuple[Found, Found]]],
) -> None:
    assert list(_unlike(judged)) == []


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_of_the_checker_is_noticed(
    name: str,
    judged: list[tuple[History, tuple[Found, Found]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    MUTANTS[name](monkeypatch)
    assert next(_unlike(judged), None) is not None, f"no history shows that {name}"
