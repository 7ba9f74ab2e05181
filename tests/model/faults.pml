/* Time, and what happens to the server. Budgets, by -D:
 *   DROPS          connections that break with an answer on its way, which the link asks for again
 *   LATES          of those, the ones whose command the server still executes, at any time
 *   CANCELLATIONS  tickets taken back
 *   CRASHES STOPS  processes killed, and stopped for any time
 *   OUTAGES        the server stands still for any time, with its data
 *   FLUSHES        it loses all data
 *   BREAKS         turns ended by an operator
 *   LOSSY          1: every bell may be lost
 */
#define less(left) if :: left > TICK -> left = left - TICK :: else -> left = 0 fi
#define older(left) if :: left > 1 + TICK -> left = left - TICK :: left > 1 && left <= 1 + TICK -> left = 1 :: else fi

inline pass() {
    less(lease);
    older(heard); older(grace);
    for (k_ : 0 .. PROCESSES - 1) {
        older(alive[k_]);
        beaten[k_] = 0;
        if :: silent[k_] < TTL -> silent[k_] = silent[k_] + TICK :: else fi
    }
    for (k_ : 0 .. TICKETS - 1) { less(until[k_]); less(told_left[k_]); less(bell_left[k_]) }
}

/* Where no process was heard when one had to be, the server stood still: that is held against none
 * of them, once. */
inline forgive_silence() {
    f_ = !forgiven;
    for (k_ : 0 .. PROCESSES - 1) {
        if :: silent[k_] < AWAITED -> f_ = 0 :: else fi
    }
    if :: f_ -> forgiven = 1 :: else fi;
    for (k_ : 0 .. PROCESSES - 1) {
        if :: f_ && !stopped[k_] -> silent[k_] = 0 :: else fi
    }
}

proctype server() {
end:
    do
    :: d_step { !ANY(DUE) && !ANY_PROCESS(BEAT_IS_DUE) && ANY(HAS) ->
        printf("EVENT tick\n");
        if
        :: !down && ANY(STUCK) && !ANY(TURN) -> stall++
        :: else -> stall = 0
        fi;
        judge_wait();
        for (k_ : 0 .. TICKETS - 1) {
            promise(a_lapsed_turn_is_told, phase[k_] != INSIDE || until[k_] || !RUNS(OWNER(k_)))
        }
        pass();
        skip }
    :: d_step { late && !down ->
        printf("EVENT late\n");
        if
        :: late == ACQUIRE -> acquire(late_ticket, late_word)
        :: late == RELEASE -> release(late_ticket, late_word)
        :: late == WITHDRAW -> withdraw(late_ticket)
        fi;
        say_answer();
        late = 0; late_ticket = 0; late_word = 0; stall = 0;
        skip }
    :: d_step { !down && outages && ANY(HAS) ->
        printf("EVENT stand_still\n");
        outages--;
        down = 1;
        for (k_ : 0 .. TICKETS - 1) {
            if :: told[k_] -> asks[k_] = 1 :: else fi;
            lose_all(k_)
        };
        skip }
    :: d_step { down ->
        printf("EVENT answer_again\n");
        down = 0; stall = 0;
        forgive_silence();
        skip }
    :: d_step { !down && flushes && ANY(HAS) ->
        printf("EVENT flush\n");
        flushes--;
        lost_data = 1; stall = 0;
        counter = 0; known = 0; fence = 0; number = 0; lease = 0; serving = IDLE; fresh = 0;
        heard = 0; grace = 0; judged = 0;
        for (k_ : 0 .. TICKETS - 1) { queue[k_] = 0 }
        for (k_ : 0 .. PROCESSES - 1) { alive[k_] = 0 };
        skip }
    :: d_step { !down && breaks && serving < TICKETS ->
        printf("EVENT break %d\n", fence);
        breaks--;
        break_turn(fence);
        say_answer();
        skip }
    od
}
