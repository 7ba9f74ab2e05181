/* What processes do: ticketlock/locks/concurrent/engine.py and heartbeat.py, an event at a time.
 * Each event is a step, and says what it was: tests/model/replay.py lets it happen to the real
 * client and the real scripts.
 *
 * A ticket: NEW, WAITS from when it is asked for, INSIDE while its body runs, LEAVES until its
 * release is answered, CANCELS until its withdrawal is executed, OVER; DEAD with its process.
 */
hidden byte f_;

inline say_answer() { printf("ANSWER %d %d %d %d %d %d\n", r_kind, r_number, r_fence, r_left, r_ticket, r_missing) }

/* A grant is heard: by its answer, its bell, or a heartbeat. One that is read too late is none. */
inline enter(t, under, left, n) {
    mine[t] = n;
    if
    :: left -> phase[t] = INSIDE; held[t] = under; until[t] = left;
        body[t] = order[t]; judge_bodies()
    :: else
    fi
}

inline lose_answer(t) { told[t] = 0; told_left[t] = 0; told_number[t] = 0 }

inline lose_bell(t) { bell[t] = 0; bell_left[t] = 0; bell_number[t] = 0 }

/* Of what was on its way to a ticket's process. */
inline lose_all(t) { lose_answer(t); lose_bell(t); broken_bell[t] = 0 }

inline hear_answer(t) {
    f_ = told[t];
    if
    :: phase[t] == WAITS && f_ == WAITING -> mine[t] = told_number[t]
#ifdef COUNTS_FROM_THE_ANSWER
    :: phase[t] == WAITS && f_ != WAITING -> enter(t, f_, LEASE, told_number[t])
#else
    :: phase[t] == WAITS && f_ != WAITING -> enter(t, f_, told_left[t], told_number[t])
#endif
    :: else
    fi;
    lose_answer(t)
}

inline over(t) {
    phase[t] = OVER; mine[t] = 0; held[t] = 0; body[t] = 0; back[t] = 0; until[t] = 0; ended[t] = 0;
    order[t] = 0; given[t] = 0
}

proctype ticket(byte t) {
end:
    do
    /* -- asking ------------------------------------------------------------------------------ */
    :: d_step { phase[t] == NEW && RUNS(OWNER(t)) && MAY_BEGIN(t) ->
        printf("EVENT start %d\n", t);
        phase[t] = WAITS; asks[t] = 1;
        skip }
    :: d_step { asks[t] && !down && !crashed[OWNER(t)] && !told[t] ->
        printf("EVENT acquire %d %d\n", t, back[t]);
        asks[t] = 0;
#ifdef RETURN_AT_THE_TAIL
        acquire(t, 0);
#else
        acquire(t, back[t]);
#endif
        silent[OWNER(t)] = 0;
        say_answer();
        told[t] = (r_kind -> r_fence : WAITING); told_left[t] = (r_kind -> r_left : 0);
        told_number[t] = r_number;
        skip }
    :: d_step { told[t] && RUNS(OWNER(t)) ->
        printf("EVENT hear %d\n", t);
        hear_answer(t);
        skip }
    :: d_step { bell[t] && RUNS(OWNER(t)) && !told[t] ->
        printf("EVENT bell %d\n", t);
        if
        :: phase[t] == WAITS -> enter(t, bell[t], bell_left[t], bell_number[t])
        :: else
        fi;
        lose_bell(t);
        skip }
    :: d_step { broken_bell[t] && RUNS(OWNER(t)) && !told[t] && !bell[t] ->
        printf("EVENT broken %d\n", t);
        broken_bell[t] = 0;
        if :: phase[t] == INSIDE && ended[t] == held[t] -> phase[t] = LEAVES :: else fi;
        skip }

    /* -- a turn ------------------------------------------------------------------------------ */
    :: d_step { phase[t] == INSIDE && !written[t] && !crashed[OWNER(t)] ->
        printf("EVENT write %d\n", t);
        written[t] = 1;
        write(t);
        skip }
    :: d_step { phase[t] == INSIDE && until[t] && RUNS(OWNER(t)) ->
        printf("EVENT leave %d\n", t);
        phase[t] = LEAVES }
#ifndef DEADLINE_IS_NOT_WATCHED
    :: d_step { phase[t] == INSIDE && !until[t] && RUNS(OWNER(t)) ->
        printf("EVENT lapse %d\n", t);
        promise(a_turn_lasts_without_a_fault, !FAULTLESS);
        phase[t] = LEAVES }
#endif
    :: d_step { phase[t] == LEAVES && !asks[t] && !down && !crashed[OWNER(t)] ->
        printf("EVENT release %d %d\n", t, held[t]);
        release(t, held[t]);
        say_answer();
        if :: r_ticket != NONE -> ring(r_ticket) :: else fi;
        over(t);
        skip }

    /* -- taking a ticket back ---------------------------------------------------------------- */
    :: d_step { phase[t] == WAITS && cancels && RUNS(OWNER(t)) ->
        printf("EVENT cancel %d\n", t);
        cancels--;
        phase[t] = CANCELS;
        skip }
    :: d_step { phase[t] == CANCELS && !asks[t] && !down && !crashed[OWNER(t)] ->
#ifdef CANCELLED_STAYS
        printf("EVENT forget %d\n", t);
#else
        printf("EVENT withdraw %d\n", t);
        withdraw(t);
        say_answer();
#endif
        over(t);
        skip }

    /* -- a connection breaks: the link asks again; what was sent may come late --------------- */
    :: d_step { told[t] && drops && RUNS(OWNER(t)) ->
        printf("EVENT lose_answer %d\n", t);
        drops--;
        lose_answer(t); lose_bell(t);
#ifndef UNANSWERED_ARE_DROPPED
        asks[t] = 1
#endif
        ;
        skip }
    :: d_step { asks[t] && drops && RUNS(OWNER(t)) ->
        printf("EVENT drop %d\n", t);
        drops--;
#ifdef UNANSWERED_ARE_DROPPED
        asks[t] = 0;
#endif
        skip }
    :: d_step { phase[t] == LEAVES && !asks[t] && !down && drops && RUNS(OWNER(t)) ->
        printf("EVENT release_unheard %d %d\n", t, held[t]);
        drops--;
        release(t, held[t]);
        say_answer();
        skip }
    :: d_step { (asks[t] || phase[t] == LEAVES || phase[t] == CANCELS) && drops && lates && !late &&
        RUNS(OWNER(t)) ->
        printf("EVENT drop_late %d\n", t);
        drops--; lates--;
        late_ticket = t;
        if
        :: asks[t] -> late = ACQUIRE; late_word = back[t]
        :: !asks[t] && phase[t] == LEAVES -> late = RELEASE; late_word = held[t]
        :: else -> late = WITHDRAW
        fi;
        skip }
    :: d_step { bell[t] && LOSSY ->
        printf("EVENT lose_bell %d\n", t);
        lose_bell(t);
        skip }
    :: d_step { broken_bell[t] && LOSSY ->
        printf("EVENT lose_broken %d\n", t);
        broken_bell[t] = 0;
        skip }
    od
}

/* The heartbeat: renew what is held, attend the lowest ticket, act on the answers. */
hidden byte lowest_, k_;

inline find_lowest(p) {
    lowest_ = NONE;
    for (k_ : p * EACH .. p * EACH + EACH - 1) {
        if
        :: phase[k_] == WAITS && (lowest_ == NONE || (mine[k_] && mine[k_] < mine[lowest_])) ->
            lowest_ = k_
        :: else
        fi
    }
}

inline renew_all(p, hears) {
    for (k_ : p * EACH .. p * EACH + EACH - 1) {
        if
        :: phase[k_] == INSIDE ->
            renew(k_, held[k_]);
            if
            :: hears && r_left -> until[k_] = r_left
#ifndef LOST_IS_NOT_ACTED_ON
            :: hears && !r_left ->
                promise(a_broken_turn_is_told,
                    LOSSY || OUTAGES || ended[k_] != held[k_] || broken_bell[k_]);
                phase[k_] = LEAVES
#endif
            :: else
            fi;
            promise(a_heartbeat_tells_of_a_lost_turn, phase[k_] != INSIDE ||
                (serving == k_ && fence == held[k_]))
        :: else
        fi
    }
}

inline attend_all(p, hears) {
    find_lowest(p);
    if
#ifndef NOT_ATTENDED
    :: lowest_ != NONE ->
        attend(p, lowest_);
        silent[p] = 0; forgiven = 0;
        say_answer();
        promise(a_waiter_has_its_place, r_missing || queue[lowest_] || serving == lowest_);
        if
#ifndef NO_LOOK_BEHIND_THE_BELL
        :: hears && r_ticket != NONE ->
            f_ = r_ticket;
            if
            :: phase[f_] == WAITS -> enter(f_, fence, lease, number)
            :: phase[f_] == INSIDE || asks[f_]
            :: else -> break_turn(fence)
            fi
#endif
        :: else
        fi;
        if
#ifndef NO_RETURN
        :: hears && r_missing ->
            for (k_ : p * EACH .. p * EACH + EACH - 1) {
                if
                :: phase[k_] == WAITS && mine[k_] && !told[k_] -> asks[k_] = 1; back[k_] = mine[k_]
                :: else
                fi
            }
#endif
        :: else
        fi
#endif
    :: else
    fi
}

proctype process(byte p) {
end:
    do
    :: d_step { RUNS(p) && !beaten[p] && !down && HAS_ANY(p) ->
        printf("EVENT beat %d\n", p);
        beaten[p] = 1;
#ifndef NO_HEARTBEAT
        renew_all(p, 1);
        attend_all(p, 1)
#endif
        ;
        skip }
    :: d_step { !crashed[p] && crashes && phase[p * EACH] != NEW ->
        printf("EVENT crash %d\n", p);
        crashes--;
        crashed[p] = 1; stopped[p] = 0; stall = 0;
        for (k_ : p * EACH .. p * EACH + EACH - 1) {
            over(k_);
            phase[k_] = DEAD; asks[k_] = 0;
            lose_all(k_)
        };
        skip }
    :: d_step { RUNS(p) && stops && HAS_ANY(p) ->
        printf("EVENT stop %d\n", p);
        stops--;
        stopped[p] = 1;
        skip }
    :: d_step { stopped[p] ->
        printf("EVENT go_on %d\n", p);
        stopped[p] = 0; beaten[p] = 0; stall = 0;
        skip }
    od
}
