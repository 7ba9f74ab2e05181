/* The scripts of lua/, each an inline of its name, over the state of state.pml.
 * Each is one step of the server, and leaves its answer in the variables r_*.
 * Left out: messages, lifetimes, labels, expiries, the limit of a queue, a clock set back,
 * and that a script passes over 64 dead heads at most.
 * A mutant is a -D by the name that tests/model/mutants.py gives it.
 */
#ifdef CALLS
hidden byte script_, ticket_, word_;
c_code {
\#include "calls.h"
};
#define CALLED(script, ticket, word) script_ = script; ticket_ = ticket; word_ = word; \
    c_code { before_call(script_, ticket_, word_); }
#define ANSWERED c_code { after_call(); }
#else
#define CALLED(script, ticket, word) skip
#define ANSWERED skip
#endif

hidden byte i_, head_, n_, again_, was_, owner_;
hidden byte mine_, waits_, queued_, returns_, back_;

/* the lowest number (or the highest, by a mutant) of the queue */
inline first_of_queue() {
    head_ = NONE;
    for (i_ : 0 .. TICKETS - 1) {
        if
        :: queue[i_] && (head_ == NONE ||
#ifdef LAST_IN_FIRST_OUT
            queue[i_] > queue[head_]) -> head_ = i_
#else
            queue[i_] < queue[head_]) -> head_ = i_
#endif
        :: else
        fi
    }
}

inline note_alive(p) { alive[p] = 1 + TTL }

/* A heartbeat, or the first ticket, from which on heartbeats are awaited. */
inline note_heard() {
#ifdef AWAITED_FOR_A_LIFE
    heard = 1 + TTL;
#else
    heard = 1 + AWAITED;
#endif
#ifdef GRACE_FORBIDS_ANOTHER
    judged = (grace >= heard)
#else
    judged = 0
#endif
}

inline grace_left() {
    if
#ifndef STOOD_STILL_IS_DEAD
    :: heard == 1 && !judged -> grace = 1 + GRACE; judged = 1; forgiven = 1
#endif
    :: else
    fi;
    again_ = (grace > 1 -> grace - 1 : 0)
}

/* The turn of the holder's record has run out: its own process says that its ticket waits still,
 * or another process takes over. */
inline wait_on(t) {
    if
#ifndef OWN_TURN_IS_LOST
    :: serving == t -> queue[t] = number; note_alive(OWNER(t))
#endif
    :: serving != t && serving < TICKETS && !back_ -> PLACE_LOST(serving)
    :: else
    fi
}

inline forget_waiters() {
    first_of_queue();
    if
    :: head_ == NONE ->
        for (i_ : 0 .. PROCESSES - 1) { alive[i_] = 0 }
        heard = 0; grace = 0; judged = 0
    :: else
    fi
}

inline mint() {
    fence = top + 1
}

inline grant_next(caller) {
    r_ticket = NONE; again_ = 0; known = 1;
    do
    :: first_of_queue();
        if
        :: head_ == NONE ->
            serving = IDLE; number = 0; lease = 0; fresh = 0; again_ = 0;
            forget_waiters();
            break
        :: else
        fi;
        n_ = queue[head_]; owner_ = OWNER(head_);
        queue[head_] = 0;
        if
#ifdef DEAD_WAITERS_ARE_GRANTED
        :: true ->
#else
#ifdef LIVING_ARE_EVICTED
        :: alive[owner_] > 1 + TICK ->
#else
        :: alive[owner_] > 1 ->
#endif
#endif
            was_ = head_;
            lease = (alive[owner_] > 1 + FIRST -> alive[owner_] - 1 : FIRST);
            lease = (lease < LEASE -> lease : LEASE);
            forget_waiters();
#ifndef FENCE_STAYS_AT_HAND_OFF
            mint();
#endif
            serving = was_; number = n_; fresh = (lease < LEASE);
            promise(the_dead_are_passed_over, !crashed[OWNER(was_)] || silent[OWNER(was_)] < TTL);
            GRANTED(was_, n_);
            if
            :: owner_ == caller -> r_ticket = was_
            :: else -> ring(was_)
            fi;
            again_ = 0;
            break
#ifndef DEAD_WAITERS_ARE_GRANTED
        :: else
#endif
        fi;
        was_ = head_;
        grace_left();
        if
        :: again_ ->
            queue[was_] = n_;
            serving = VACANT; number = 0; lease = 0; fresh = 0;
            break
        :: else -> SKIPPED(was_); alive[owner_] = 0
        fi
    od
}

/* of a turn that is over; back_: its ticket waits again */
inline return_ticket() {
    back_ = 0;
#ifndef UNHEARD_TURNS_ARE_LOST
    if
    :: fresh ->
        owner_ = OWNER(serving);
        if
        :: !heard -> alive[owner_] = 1; heard = 1; judged = 0
        :: else
        fi;
        grace_left();
        if :: again_ -> queue[serving] = number; back_ = 1 :: else fi
    :: else
    fi;
#endif
    if :: !back_ -> RAN_OUT_UNHEARD(serving) :: else fi
}

inline ring(t) {
#ifndef NO_BELL
    bell[t] = fence; bell_left[t] = lease; bell_number[t] = number;
#endif
    skip
}

/* r_kind 1: granted, with r_number, r_fence, r_left | 0: waits, with r_number, r_left */
inline acquire(t, to) {
    CALLED(0, t, to);
    mine_ = 0; waits_ = 0; queued_ = 0; returns_ = (to > 0);
    first_of_queue();
    if
    :: !known && head_ != NONE -> fence = 0; number = 0; serving = VACANT; lease = 0; fresh = 0
    :: else
    fi;
    if
    :: serving != IDLE || returns_ ->
#ifdef MINE_TOO_EARLY
        mine_ = (serving == t && lease);
#endif
        if
        :: serving != IDLE && !lease ->
            return_ticket();
            wait_on(t);
            grant_next(NONE)
        :: else
        fi;
#ifdef WAITS_FOR_ITSELF
        mine_ = 0;
#else
#ifndef MINE_TOO_EARLY
        mine_ = (serving == t);
#endif
#endif
        waits_ = (serving != IDLE && !mine_);
#ifndef QUEUES_AGAIN
        queued_ = (waits_ && queue[t]);
#endif
        returns_ = (returns_ && !mine_ && !queued_);
        if
        :: returns_ ->
#ifndef COUNTER_FORGOTTEN
            if :: counter < to -> counter = to :: else fi;
#endif
            for (i_ : 0 .. TICKETS - 1) {
                if :: queue[i_] == to -> returns_ = 0 :: else fi
            }
            if :: number == to -> returns_ = 0 :: else fi
        :: else
        fi
    :: else
    fi;
    if
    :: queued_ -> r_number = queue[t]
    :: !queued_ && returns_ -> r_number = to
    :: !queued_ && !returns_ && !mine_ ->
        counter++; r_number = counter;
        promise(a_number_is_one_tickets, !waits_ || number != r_number);
        for (i_ : 0 .. TICKETS - 1) {
            if
            :: i_ != t && queue[i_] -> promise(a_number_is_one_tickets, queue[i_] != r_number)
            :: else
            fi
        }
    :: else -> r_number = number
    fi;
    if
#ifdef TWO_ARE_GRANTED
    :: true ->
#else
    :: !waits_ ->
#endif
        if
        :: !mine_ ->
#ifdef FENCE_COUNTS
            fence++;
#else
            mint();
#endif
            GRANTED(t, r_number)
        :: else
        fi;
        known = 1; serving = t; number = r_number; lease = LEASE; fresh = 0;
        r_kind = 1; r_fence = fence; r_left = LEASE
#ifndef TWO_ARE_GRANTED
    :: else ->
        promise(one_ticket_a_request, serving != t && (queued_ || !queue[t]));
        if :: !queued_ -> queue[t] = r_number :: else fi;
#ifndef HEARTBEATS_ALONE
        if :: !queued_ && !heard -> note_heard() :: else fi;
#endif
        note_alive(OWNER(t));
        r_kind = 0; r_fence = 0; r_left = lease
#endif
    fi;
    NUMBERED(t, r_number);
    ANSWERED
}

/* r_kind 1: released | 0: it was not the holder; r_ticket: whose bell is in the answer */
inline release(t, under) {
    CALLED(1, t, under);
    r_ticket = NONE;
    if
#ifdef RELEASE_MATCHES_NOTHING
    :: !known || serving == IDLE -> r_kind = 0
#else
    :: !known || serving != t ->
        r_kind = 0;
        if :: queue[t] -> queue[t] = 0; forget_waiters() :: else fi
    :: known && serving == t && fence != under -> r_kind = 0; grant_next(NONE)
#endif
    :: else ->
        r_kind = 1;
#ifdef RELEASE_HANDS_NOTHING_ON
        serving = IDLE; number = 0; lease = 0; fresh = 0
#else
        grant_next(OWNER(t))
#endif
    fi;
    ANSWERED
}

/* r_left: of the lease, 0 when the turn is lost */
inline renew(t, under) {
    CALLED(2, t, under);
    r_left = 0;
    if
#ifdef RENEW_RESURRECTS
    :: known && serving == t && fence == under ->
#else
    :: known && serving == t && fence == under && lease ->
#endif
        promise(what_is_lost_stays_lost, lease > 0);
#ifndef RENEW_EXTENDS_NOTHING
        lease = LEASE; fresh = 0;
#endif
        r_left = lease
    :: else
    fi;
    ANSWERED
}

/* r_missing, r_left, r_ticket: whose bell is in the answer */
inline attend(p, first) {
    CALLED(3, first, p);
    back_ = 0;
    if :: known && serving < TICKETS && !lease -> return_ticket() :: else fi;
    first_of_queue();
    if
    :: head_ != NONE ->
#ifndef ATTEND_JUDGES_NOTHING
        grace_left();
#endif
        note_alive(p); note_heard()
    :: else
    fi;
#ifdef HIDES_THE_MISSING
    r_missing = 0;
#else
#ifdef LIVENESS_ALONE
    r_missing = (first != serving && !alive[p]);
#else
    r_missing = (first != serving && !queue[first]);
#endif
#endif
    r_left = TTL; r_ticket = NONE;
    if
#ifdef TAKES_NOTHING_OVER
    :: !known || serving == IDLE ->
#else
#ifdef TAKES_OVER_FROM_THE_LIVING
    :: true ->
#else
    :: !known || serving == IDLE || !lease ->
#endif
#endif
        if :: !known -> fence = 0 :: else fi;
        wait_on(first);
        grant_next(p);
        if :: again_ -> r_left = again_ :: else fi
#ifndef TAKES_OVER_FROM_THE_LIVING
    :: else ->
        if
        :: serving < TICKETS && OWNER(serving) == p -> lease = LEASE; fresh = 0; r_ticket = serving
        :: else
        fi;
        r_left = lease
#endif
    fi;
    ANSWERED
}

/* r_kind 1: withdrawn or handed on | 0: it was not there */
inline withdraw(t) {
    CALLED(4, t, 0);
    r_kind = 1;
    if
#ifndef WITHDRAW_DROPS_A_GRANT
    :: known && serving == t -> grant_next(NONE)
    :: else ->
#else
    :: true ->
#endif
        if
        :: queue[t] ->
#ifndef WITHDRAW_LEAVES_THE_TICKET
            queue[t] = 0;
#endif
            forget_waiters()
        :: else -> r_kind = 0
        fi
    fi;
    ANSWERED
}

/* of the turn under a fence; r_kind 1: broken | 0: it is over already */
inline break_turn(under) {
    CALLED(5, 0, under);
    r_kind = 0;
    if
    :: known && serving != IDLE && fence == under ->
        if
        :: serving < TICKETS ->
            r_kind = 1;
            ENDED(serving);
#ifndef BREAK_TELLS_NOBODY
            broken_bell[serving] = 1
#endif
        :: else
        fi;
        grant_next(NONE)
    :: else
    fi;
    ANSWERED
}
