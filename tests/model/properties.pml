/* What must hold, by name; the text of an assertion that fails names it. docs/model.md has them
 * in words. Where data was lost, order and exclusion are not promised, and fences are.
 */
hidden byte fence_monotonic, fifo_among_the_living, mutual_exclusion, no_stale_write_stored,
    every_living_waiter_is_served, the_newest_turn_writes, one_ticket_a_request,
    the_dead_are_passed_over, what_is_lost_stays_lost, a_turn_lasts_without_a_fault,
    a_waiter_has_its_place, a_number_is_one_tickets, a_broken_turn_is_told,
    a_heartbeat_tells_of_a_lost_turn, a_lapsed_turn_is_told, a_ticket_keeps_its_number;
hidden byte j_, inside_;

#define LIVING(p) (!crashed[p] && silent[p] < TTL)

/* What is to hold is put into the variable of its name, so that spin's message says it. */
inline promise(name, holds) { name = (holds); assert(name) }

inline GRANTED(t, n) {
    promise(fence_monotonic, fence > top);
    top = (fence > top -> fence : top);
    newest++; order[t] = newest;
    if :: !lost_data ->
        for (j_ : 0 .. TICKETS - 1) {
            if
            :: j_ != t && phase[j_] == WAITS && queue[j_] && queue[j_] < n ->
                promise(fifo_among_the_living, !LIVING(OWNER(j_)))
            :: else
            fi
        }
    :: else
    fi
}

/* A ticket was taken off the queue as a dead process's. */
inline SKIPPED(t) {
    if
    :: !lost_data && phase[t] == WAITS -> promise(fifo_among_the_living, !LIVING(OWNER(t)))
    :: else
    fi;
    PLACE_LOST(t)
}

/* What stopped a process, the server or a command so far. */
#define TROUBLES (OUTAGES - outages + STOPS - stops + DROPS - drops + LATES - lates)

/* A turn that was handed on is over, and its process has not heard of it. With a third trouble it
 * may be lost: its first lease is shorter than a waiter's life. */
inline RAN_OUT_UNHEARD(t) {
    if
    :: !lost_data && fresh && TROUBLES <= 2 ->
        if
        :: phase[t] == WAITS -> promise(fifo_among_the_living, !LIVING(OWNER(t)))
        :: else
        fi
    :: else
    fi
}

/* One body at most believes in its turn, but for one that an operator has ended. */
inline judge_bodies() {
    inside_ = 0;
    for (j_ : 0 .. TICKETS - 1) {
        if
        :: phase[j_] == INSIDE && until[j_] && ended[j_] != held[j_] -> inside_++
        :: else
        fi
    }
    if :: !lost_data -> promise(mutual_exclusion, inside_ <= 1) :: else fi
}

/* A body writes: the tracker store refuses what has a lower fence than it has seen. */
inline write(t) {
    if
#ifdef STORE_REFUSES_NOTHING
    :: true ->
#else
    :: held[t] >= stored ->
#endif
        promise(no_stale_write_stored, body[t] >= stored_order);
        stored = held[t]; stored_order = body[t]
#ifndef STORE_REFUSES_NOTHING
    :: else -> promise(the_newest_turn_writes, body[t] < newest)
#endif
    fi
}

inline judge_wait() {
    promise(every_living_waiter_is_served, stall <= LONGEST_WAIT)
}

inline ENDED(t) {
    ended[t] = fence
}

/* The server tells a ticket its number, the same one each time; not where a command comes late. */
inline NUMBERED(t, n) {
    if
    :: given[t] && !lost_data && lates == LATES && phase[t] == WAITS ->
        promise(a_ticket_keeps_its_number, given[t] == (n))
    :: else
    fi;
    given[t] = (n)
}

/* A ticket was passed over, or its turn has run out unheard and another process took over. What its
 * process did not know when it asked last is lost with the place. */
inline PLACE_LOST(t) {
    if :: !mine[t] || (asks[t] && !back[t]) -> given[t] = 0 :: else fi
}
