/* What the scripts keep of one conversation, what each ticket knows, and the ghosts by which
 * the properties judge. Times are what is left of them, in units of 500 ms: so a state does not
 * say how late it is, and time has no end.
 *
 * Sizes, by -D:  PROCESSES (1 to 3)  EACH (tickets of a process, one after another)
 * Budgets, by -D: how often each fault may come; see faults.pml.
 */
#ifndef PROCESSES
#define PROCESSES 2
#endif
#ifndef EACH
#define EACH 1
#endif
#define TICKETS (PROCESSES * EACH)
#define OWNER(t) ((t) / EACH)

/* As in the clients of tests/model/replay.py; GRACE and FIRST as in lua/handoff.lua, and AWAITED,
 * within which one of the waiting processes must be heard again, as in lua/attend.lua. */
#define TICK 2
#define LEASE 4
#define TTL 5
#define AWAITED 3
#ifndef GRACE
#define GRACE 5
#endif
#define FIRST 3

/* -- on the server: docs/protocol.md has the keys ------------------------------------------- */

#define IDLE 100
#define VACANT 101
#define NONE 102

byte counter;                /* the last number that was issued */
bit known;                   /* the record of the holder is there */
byte fence, number, lease;   /* of that record; lease: what is left */
bit fresh;                   /* the turn was handed on, and not renewed since */
byte serving = IDLE;         /* a ticket | IDLE | VACANT: the record of "-" */
byte queue[TICKETS];         /* the number under which a ticket waits; 0: it does not */
byte alive[PROCESSES];       /* 0: no field | 1: it is over | 1 + what is left */
byte heard, grace;           /* the same */
bit judged;                  /* the grace began when `heard` was over */
bit down;                    /* the server does not answer */

/* -- in the processes ------------------------------------------------------------------------ */

mtype = { NEW, WAITS, INSIDE, LEAVES, CANCELS, OVER, DEAD };
mtype phase[TICKETS] = NEW;
byte mine[TICKETS];          /* the number that the ticket knows of; 0: none yet */
bit asks[TICKETS];           /* its acquire is on its way to the server */
byte back[TICKETS];          /* the number to which that acquire returns; 0: a new one */
byte told[TICKETS];          /* the answer is on its way back: 0 | WAITING | the fence */
byte told_left[TICKETS], told_number[TICKETS];
byte bell[TICKETS], bell_left[TICKETS], bell_number[TICKETS];  /* a grant's bell; 0: none */
bit broken_bell[TICKETS];
byte held[TICKETS];          /* the fence under which its body runs */
byte body[TICKETS];          /* a ghost: which grant that is */
byte until[TICKETS];         /* what is left of its turn by its own clock */
bit crashed[PROCESSES], stopped[PROCESSES], beaten[PROCESSES];

#define WAITING 255
#define RUNS(p) (!crashed[p] && !stopped[p])

/* One command of a broken connection, which the server may still execute. */
mtype = { ACQUIRE, RELEASE, WITHDRAW };
mtype late; byte late_ticket, late_word;

/* -- ghosts ---------------------------------------------------------------------------------- */

byte top;                    /* the highest fence ever; the clock is beyond it */
byte newest, order[TICKETS]; /* grants are counted, and the last one of each ticket */
byte stored, stored_order;   /* the tracker store's fence, and whose grant it was */
bit lost_data;
bit forgiven;                /* all were silent and waited for, and no heartbeat came since */
byte silent[PROCESSES];      /* since it was heard; it does not count that all were silent */
byte ended[TICKETS];         /* the fence of its turn that an operator has ended */
byte stall;                  /* ticks without a turn, while somebody living waits */
bit written[TICKETS];
byte given[TICKETS];         /* the number that the server has told it; 0: none that counts */

/* -- what a script has answered; of no state ------------------------------------------------- */

hidden byte r_kind, r_number, r_fence, r_left;
hidden byte r_ticket;        /* the bell in the answer; NONE */
hidden byte r_missing;
