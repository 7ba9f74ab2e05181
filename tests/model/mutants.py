"""Faults that are put into the model, and the same ones in the real code.

Most of them are those of `faults/test_mutants.py`, where a story must notice each. Here spin must
find a trace to a broken promise, and the trace, done to the real code with the same fault, must
break one in the explorer.
"""

from __future__ import annotations

from typing import NamedTuple

from faults.mutation import Patch, lua
from faults.test_mutants import MUTANTS as STORIES


class Mutant(NamedTuple):
    """A fault in the model and in the code.

    Attributes:
        flag: its name in `scripts.pml` or `processes.pml`.
        bounds: within which spin finds it.
        broken: the promise of `properties.pml` that spin finds broken.
        patch: the fault in the code; None: the model alone has it.
        replayed: whether the trace, done to the real client, breaks a promise of the explorer.
    """

    flag: str
    bounds: dict[str, int]
    broken: str
    patch: Patch | None
    replayed: bool = True


#: Faults in scripts that break no promise of the model, or in too many states; a call in one state
#: of this bound differs from the model.
COMPARED = {
    "acquire leaves a dead holder to others": "a standstill of the server",
    "those who stood still are waited for too shortly": "a standstill of the server",
    "a silence outlives its queue": "a standstill of the server",
    "returning at an old number forgets the counter": "lost data",
}

#: No fault happens, no bell is lost: then no ticket waits while no turn is served.
PROMPT = {"LONGEST_WAIT": 0}

#: name -> the flag, the bounds and the broken promise
_OF_STORIES: dict[str, tuple[str, dict[str, int], str]] = {
    "acquire ignores the holder": ("TWO_ARE_GRANTED", {}, "mutual_exclusion"),
    "fence is not minted at hand-off": ("FENCE_STAYS_AT_HAND_OFF", {}, "fence_monotonic"),
    "fence is a counter only": ("FENCE_COUNTS", {"FLUSHES": 1}, "fence_monotonic"),
    "last in, first out": ("LAST_IN_FIRST_OUT", {"PROCESSES": 3}, "fifo_among_the_living"),
    "repeated acquire queues again": ("QUEUES_AGAIN", {"DROPS": 1}, "one_ticket_a_request"),
    "repeated acquire waits for itself": (
        "WAITS_FOR_ITSELF", {"DROPS": 1}, "one_ticket_a_request"),
    "repeated acquire that grants queues again": (
        "MINE_TOO_EARLY", {"OUTAGES": 1}, "one_ticket_a_request"),
    "those who stood still are dead": (
        "STOOD_STILL_IS_DEAD", {"OUTAGES": 1}, "fifo_among_the_living"),
    "only heartbeats say that a process was heard": (
        "HEARTBEATS_ALONE", {"OUTAGES": 1}, "fifo_among_the_living"),
    "turns that nobody heard of are lost": (
        "UNHEARD_TURNS_ARE_LOST", {"OUTAGES": 1}, "fifo_among_the_living"),
    "no bell": ("NO_BELL", PROMPT, "every_living_waiter_is_served"),
    "renew resurrects": ("RENEW_RESURRECTS", {"STOPS": 1}, "what_is_lost_stays_lost"),
    "renew does not extend": ("RENEW_EXTENDS_NOTHING", {}, "a_turn_lasts_without_a_fault"),
    "release without fence match": (
        "RELEASE_MATCHES_NOTHING", {"STOPS": 1, "PROCESSES": 3}, "mutual_exclusion"),
    "release does not hand on": (
        "RELEASE_HANDS_NOTHING_ON", PROMPT, "every_living_waiter_is_served"),
    "dead waiters are granted": (
        "DEAD_WAITERS_ARE_GRANTED", {"PROCESSES": 3, "CRASHES": 1}, "the_dead_are_passed_over"),
    "live waiters are evicted": (
        "LIVING_ARE_EVICTED", {"PROCESSES": 3, "STOPS": 1}, "fifo_among_the_living"),
    "attend takes nothing over": (
        "TAKES_NOTHING_OVER", {"CRASHES": 1}, "every_living_waiter_is_served"),
    "attend takes over from the living": ("TAKES_OVER_FROM_THE_LIVING", {}, "mutual_exclusion"),
    "attend hides a missing ticket": (
        "HIDES_THE_MISSING", {"STOPS": 1}, "a_waiter_has_its_place"),
    "attend asks for liveness only": (
        "LIVENESS_ALONE", {"STOPS": 1, "PROCESSES": 3}, "a_waiter_has_its_place"),
    "withdraw drops a raced grant": (
        "WITHDRAW_DROPS_A_GRANT", {"CANCELLATIONS": 1, **PROMPT}, "every_living_waiter_is_served"),
    "withdraw leaves the ticket": (
        "WITHDRAW_LEAVES_THE_TICKET", {"PROCESSES": 3, "CANCELLATIONS": 1, **PROMPT},
        "every_living_waiter_is_served"),
    "break tells nobody": ("BREAK_TELLS_NOBODY", {"BREAKS": 1}, "a_broken_turn_is_told"),
    "cancelled waiter stays": (
        "CANCELLED_STAYS", {"PROCESSES": 3, "CANCELLATIONS": 1, **PROMPT},
        "every_living_waiter_is_served"),
    "unanswered commands are dropped": (
        "UNANSWERED_ARE_DROPPED", {"DROPS": 1}, "every_living_waiter_is_served"),
    "lost is not acted on": (
        "LOST_IS_NOT_ACTED_ON", {"FLUSHES": 1}, "a_heartbeat_tells_of_a_lost_turn"),
    "waiters are not attended": ("NOT_ATTENDED", {"LOSSY": 1}, "every_living_waiter_is_served"),
    "not subscribed": ("NO_BELL", PROMPT, "every_living_waiter_is_served"),
    "deadline counts from the answer": (
        "COUNTS_FROM_THE_ANSWER", {"STOPS": 1}, "mutual_exclusion"),
    "deadline is not watched": (
        "DEADLINE_IS_NOT_WATCHED", {"OUTAGES": 1}, "a_lapsed_turn_is_told"),
    "no look behind the bell": (
        "NO_LOOK_BEHIND_THE_BELL", {"LOSSY": 1}, "every_living_waiter_is_served"),
    "no return to the queue": ("NO_RETURN", {"STOPS": 1}, "every_living_waiter_is_served"),
    "return at the tail": ("RETURN_AT_THE_TAIL", {"STOPS": 1}, "a_ticket_keeps_its_number"),
    "a turn that runs out unheard is lost": (
        "OWN_TURN_IS_LOST", {"OUTAGES": 1}, "a_waiter_has_its_place"),
    "no heartbeat": ("NO_HEARTBEAT", {}, "a_turn_lasts_without_a_fault"),
}  # fmt: skip

#: There the real client repeats what it was not answered; the explorer judges no turn that was lost.
_NOT_REPLAYED = ("unanswered commands are dropped", "turns that nobody heard of are lost")

MUTANTS = {
    **{
        name: Mutant(*rest, STORIES[name][0], name not in _NOT_REPLAYED)
        for name, rest in _OF_STORIES.items()
    },
    # Both were faults of 0.6.0, which the model has found; `faults/test_silence.py` has them too.
    "attend judges no silence": Mutant(
        "ATTEND_JUDGES_NOTHING", {"OUTAGES": 1}, "fifo_among_the_living",
        lua("attend", "grace_left(waiters, now)", "")),
    "heartbeats are awaited for a life": Mutant(
        "AWAITED_FOR_A_LIFE", {"OUTAGES": 1, "STOPS": 1}, "fifo_among_the_living",
        lua("holder", "0.6 * waiter_ttl", "waiter_ttl"),
        False),  # spin's trace loses a turn, as above
    "a grace forbids the next": Mutant(
        "GRACE_FORBIDS_ANOTHER", {"OUTAGES": 1, "STOPS": 1}, "fifo_among_the_living",
        lua("handoff", "grace - GRACE < heard", "grace < heard")),
    "the tracker store refuses nothing": Mutant(
        "STORE_REFUSES_NOTHING", {"STOPS": 1}, "no_stale_write_stored", None),
}  # fmt: skip

_CLIENTS = (
    "cancelled waiter stays", "unanswered commands are dropped", "lost is not acted on",
    "waiters are not attended", "no look behind the bell", "no return to the queue",
    "no heartbeat", "not subscribed", "return at the tail", "deadline counts from the answer",
    "deadline is not watched",
)  # fmt: skip

#: Faults in scripts -> the bound in which a call of the script differs from the model's.
IN_SCRIPTS = {
    name: {
        "withdraw drops a raced grant": "tickets taken back",
        "withdraw leaves the ticket": "tickets taken back",
        "break tells nobody": "turns broken by an operator",
    }.get(name, "a standstill of the server")
    for name, mutant in MUTANTS.items()
    if mutant.patch is not None and name not in _CLIENTS
} | COMPARED
